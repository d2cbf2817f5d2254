//! The files of exports: parts, and the file that joins them.
//!
//! Names: `exports/<job>/parts/<chunk>-<epoch>.csv`, `exports/<job>/<epoch>.csv`. A worker whose claim was taken over writes under
//! another name than its successor.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions};
use object_store::{GetOptions, GetRange, ObjectStoreExt, WriteMultipart};
use tracing::warn;

use cuponera_domain::id::JobId;
use cuponera_store::{Error, Result};

use super::Files;

/// Size of the pieces in which a file is written. S3 allows 10,000 of them: 78 GiB.
pub(super) const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// Maximum number of pieces that are being sent.
pub(super) const PIECES_IN_FLIGHT: usize = 2;
/// How long a link to a file is valid. A download that has begun continues.
const LINK_VALID: Duration = Duration::from_mins(15);

impl Files {
    /// The name of the part that a claim of a chunk writes.
    pub fn export_part_name(job: JobId, chunk: i32, epoch: i32) -> String {
        format!("exports/{job}/parts/{chunk:06}-{epoch}.csv")
    }

    /// The name of the complete file that a claim writes.
    pub fn export_name(job: JobId, epoch: i32) -> String {
        format!("exports/{job}/{epoch}.csv")
    }

    /// Writes a file that has the content of others, in their order; returns its length. The file is complete or absent. At most
    /// 24 MiB are in memory.
    pub async fn join(&self, parts: &[String], name: &str) -> Result<u64> {
        let upload = self.store.put_multipart(&Path::from(name)).await.map_err(Error::unavailable)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES);
        let written = self.copy(parts, &mut writer).await;
        match written {
            Ok(bytes) => {
                writer.finish().await.map_err(Error::unavailable)?;
                Ok(bytes)
            }
            Err(failure) => {
                if let Err(error) = writer.abort().await {
                    warn!(%error, name, "cannot abort the writing of a file");
                }
                Err(failure)
            }
        }
    }

    async fn copy(&self, parts: &[String], writer: &mut WriteMultipart) -> Result<u64> {
        let mut bytes = 0;
        for part in parts {
            let mut pieces = self.stream(part).await?;
            while let Some(piece) = pieces.try_next().await? {
                writer.wait_for_capacity(PIECES_IN_FLIGHT).await.map_err(Error::unavailable)?;
                bytes += piece.len() as u64;
                writer.put(piece);
            }
        }
        Ok(bytes)
    }

    /// Reads a range of a file as a stream; `None` if there is no such file.
    pub async fn stream_range(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        match self.store.get_opts(&Path::from(name), options).await {
            Ok(found) => Ok(Some(found.into_stream().map_err(Error::unavailable).boxed())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(failure) => Err(Error::unavailable(failure)),
        }
    }

    /// A link with which a file can be downloaded from the bucket under a name, without credentials, for 15 minutes. `None` if the
    /// files are in a folder.
    pub async fn link(&self, name: &str, file_name: &str) -> Result<Option<String>> {
        let Some((signer, prefix)) = &self.signer else { return Ok(None) };
        let path = prefix.parts().chain(Path::from(name).parts()).collect::<Path>();
        let options = SignedUrlOptions::default().with_query([
            ("response-content-disposition", format!("attachment; filename=\"{file_name}\"")),
            ("response-content-type", "text/csv; charset=utf-8".to_owned()),
        ]);
        let url = signer.signed_url_opts(Method::GET, &path, LINK_VALID, &options).await;
        Ok(Some(url.map_err(Error::unavailable)?.to_string()))
    }

    /// Deletes the parts of an export.
    pub async fn delete_export_parts(&self, job: JobId) -> Result<()> {
        self.delete_folder(&Path::from(format!("exports/{job}/parts"))).await
    }

    /// Deletes all files of an export.
    pub async fn delete_export(&self, job: JobId) -> Result<()> {
        self.delete_folder(&Path::from(format!("exports/{job}"))).await?;
        // A process that ended while it joined the parts has left an incomplete file, which `object_store` does not list.
        let Some(folder) = &self.folder else { return Ok(()) };
        match tokio::fs::remove_dir_all(folder.join(format!("exports/{job}"))).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::unavailable(error)),
            _ => Ok(()),
        }
    }

    /// The exports whose files were last written longer than `age` ago.
    pub async fn exports_older_than(&self, age: chrono::TimeDelta) -> Result<Vec<JobId>> {
        self.jobs_older_than("exports", age).await
    }
}
