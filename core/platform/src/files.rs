//! Stores uploaded parts, errors files and exports: in a local folder, or for a fleet in a bucket, both with
//! `object_store`.
//!
//! Names: `uploads/<job>/<part>.csv`, `errors/<job>/<chunk>-<epoch>.csv`, `archive/<partition>-<hash>.jsonl`, and those of [`export`]. A file is complete or absent, and
//! is durable before anything refers to it.

mod address;
mod archive;
mod bucket;
mod export;
mod search;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ObjectStore, ObjectStoreExt};
use tracing::{info, warn};

use cuponera_domain::id::JobId;
use cuponera_store::{Error, Result};

pub use address::FilesAddress;
pub use archive::FileWriter;
pub use bucket::BucketState;
pub use search::FoundIn;

/// The file store.
#[derive(Debug, Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    /// Signs links to files of a bucket, whose names begin with this prefix.
    signer: Option<(Arc<dyn Signer>, Path)>,
    /// The folder, if the files are in one.
    folder: Option<PathBuf>,
}

impl Files {
    /// Opens the file store at an address. Fails if a bucket does not exist; a bucket that does not answer
    /// may do so later.
    pub async fn open(address: &FilesAddress) -> Result<Self, String> {
        match address {
            FilesAddress::Folder(folder) => Self::in_folder(folder)
                .map_err(|error| format!("{} cannot be used: {}", folder.display(), error.chain())),
            FilesAddress::Bucket { name, prefix } => {
                let (client, store) = bucket::of_environment(name, prefix)?;
                match bucket::check_bucket(&store, name).await {
                    BucketState::Exists => info!(bucket = name, "the bucket was found"),
                    BucketState::Unavailable(error) => {
                        warn!(bucket = name, error, "the bucket does not answer yet");
                    }
                    BucketState::Rejected(fault) => return Err(fault),
                }
                Ok(Self::of_bucket(client, store, prefix))
            }
        }
    }

    /// Checks a bucket without changing it.
    pub async fn examine_bucket(name: &str, prefix: &str) -> BucketState {
        match bucket::of_environment(name, prefix) {
            Ok((_, store)) => bucket::check_bucket(&store, name).await,
            Err(fault) => BucketState::Rejected(fault),
        }
    }

    /// Opens a prefix of a bucket, with the caller's endpoint and credentials.
    pub fn in_bucket(client: AmazonS3Builder, name: &str, prefix: &str) -> Result<Self> {
        let (client, store) = bucket::open(client, name, prefix).map_err(Error::internal)?;
        Ok(Self::of_bucket(client, store, prefix))
    }

    fn of_bucket(client: AmazonS3, store: impl ObjectStore, prefix: &str) -> Self {
        Self { store: Arc::new(store), signer: Some((Arc::new(client), Path::from(prefix))), folder: None }
    }

    /// Opens a folder, which is created if it is absent.
    pub fn in_folder(folder: &FilePath) -> Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::unavailable)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(Error::unavailable)?;
        let store = store.with_automatic_cleanup(true).with_fsync(true);
        Ok(Self { store: Arc::new(store), signer: None, folder: Some(folder.to_owned()) })
    }

    /// The file name of a part of an upload.
    pub fn part_name(job: JobId, part: usize) -> String {
        format!("uploads/{job}/{part:06}.csv")
    }

    /// The name of the errors file of an attempt of a chunk. Earlier versions wrote these files; now
    /// rejected rows are stored in the database.
    pub fn errors_name(job: JobId, chunk: i32, epoch: i32) -> String {
        format!("errors/{job}/{chunk:06}-{epoch}.csv")
    }

    /// Writes a complete file.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&Path::from(name), bytes.into()).await.map_err(Error::unavailable)?;
        Ok(())
    }

    /// Reads a complete file, for files of bounded size.
    pub async fn get(&self, name: &str) -> Result<Bytes> {
        let found = self.store.get(&Path::from(name)).await.map_err(classify)?;
        found.bytes().await.map_err(Error::unavailable)
    }

    /// Reads a file as a stream.
    pub async fn stream(&self, name: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let found = self.store.get(&Path::from(name)).await.map_err(classify)?;
        Ok(found.into_stream().map_err(Error::unavailable).boxed())
    }

    /// Deletes all parts of an upload.
    pub async fn delete_upload(&self, job: JobId) -> Result<()> {
        self.delete_folder(&Path::from(format!("uploads/{job}"))).await
    }

    /// Deletes all errors files of a job.
    pub async fn delete_errors(&self, job: JobId) -> Result<()> {
        self.delete_folder(&Path::from(format!("errors/{job}"))).await
    }

    async fn delete_folder(&self, folder: &Path) -> Result<()> {
        let names = self.store.list(Some(folder)).map_ok(|file| file.location).boxed();
        self.store.delete_stream(names).try_collect::<Vec<_>>().await.map_err(Error::unavailable)?;
        Ok(())
    }

    /// The jobs whose parts were last written longer than `age` ago.
    pub async fn uploads_older_than(&self, age: chrono::TimeDelta) -> Result<Vec<JobId>> {
        self.jobs_older_than("uploads", age).await
    }

    /// The jobs whose files in a folder were last written longer than `age` ago.
    async fn jobs_older_than(&self, folder: &str, age: chrono::TimeDelta) -> Result<Vec<JobId>> {
        let before = chrono::Utc::now() - age;
        let folder = Path::from(folder);
        let files: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(Error::unavailable)?;
        let mut newest = std::collections::HashMap::new();
        for file in files {
            let job = file.location.parts().nth(1).and_then(|part| part.as_ref().parse::<JobId>().ok());
            if let Some(job) = job {
                let at = newest.entry(job).or_insert(file.last_modified);
                *at = (*at).max(file.last_modified);
            }
        }
        Ok(newest.into_iter().filter(|(_, at)| *at < before).map(|(job, _)| job).collect())
    }
}

/// A missing file is a permanent internal error; all other errors may be transient.
fn classify(error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::internal(error),
        other => Error::unavailable(other),
    }
}
