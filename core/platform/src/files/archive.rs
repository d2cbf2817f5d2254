//! The files of archived events. Nothing deletes them.
//!
//! The name of a file has the hash of its content (`Month::file_name`), so a complete file is never replaced by another content.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt, WriteMultipart};
use tracing::warn;

use cuponera_store::{Error, Result};

use super::Files;
use super::export::{PIECE_BYTES, PIECES_IN_FLIGHT};

/// Maximum number of pieces of a file. S3 allows 10,000.
const MAX_PIECES: u64 = 9_000;
/// Number of times that a reading is resumed at one position.
const MAX_FAILURES: usize = 5;

/// A file that is being written. It exists when it is complete.
#[derive(Debug)]
pub struct FileWriter {
    name: String,
    writer: WriteMultipart,
}

impl Files {
    /// Begins a file of this length. An incomplete file of a process that was killed is deleted from a folder.
    pub async fn begin(&self, name: &str, bytes: u64) -> Result<FileWriter> {
        self.delete_incomplete(name).await?;
        let upload = self.store.put_multipart(&Path::from(name)).await.map_err(Error::unavailable)?;
        let piece = usize::try_from(bytes / MAX_PIECES).map_err(Error::internal)?.max(PIECE_BYTES);
        let writer = WriteMultipart::new_with_chunk_size(upload, piece);
        Ok(FileWriter { name: name.to_owned(), writer })
    }

    /// Reads a file as a stream; `None` if there is no such file. A broken connection is resumed where it broke: a bucket may end one that
    /// is read slowly.
    pub async fn find(&self, name: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let found = match self.store.get(&Path::from(name)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(failure) => return Err(Error::unavailable(failure)),
        };
        let reading = Reading {
            files: self.clone(),
            name: Path::from(name),
            etag: found.meta.e_tag.clone(),
            read: 0,
            failures: 0,
            stream: found.into_stream(),
        };
        Ok(Some(stream::try_unfold(reading, Reading::next).boxed()))
    }

    /// `object_store` writes to the name with `#` and a number, and does not list such files.
    async fn delete_incomplete(&self, name: &str) -> Result<()> {
        let Some(file) = self.folder.as_ref().map(|folder| folder.join(name)) else { return Ok(()) };
        let (Some(folder), Some(file)) = (file.parent(), file.file_name()) else { return Ok(()) };
        let draft = format!("{}#", file.to_string_lossy());
        let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return Ok(()) };
        while let Some(entry) = entries.next_entry().await.map_err(Error::unavailable)? {
            if entry.file_name().to_string_lossy().starts_with(&draft) {
                tokio::fs::remove_file(entry.path()).await.map_err(Error::unavailable)?;
            }
        }
        Ok(())
    }
}

/// A file that is being read.
struct Reading {
    files: Files,
    name: Path,
    /// The version that is read.
    etag: Option<String>,
    /// Number of bytes so far.
    read: u64,
    /// Number of failures since the last bytes.
    failures: usize,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        loop {
            match self.stream.try_next().await {
                Ok(Some(bytes)) => {
                    self.read += bytes.len() as u64;
                    self.failures = 0;
                    return Ok(Some((bytes, self)));
                }
                Ok(None) => return Ok(None),
                Err(failure) if self.failures == MAX_FAILURES => return Err(Error::unavailable(failure)),
                Err(failure) => {
                    warn!(%failure, name = %self.name, "the reading of a file broke, and is resumed");
                    self.failures += 1;
                    self.resume().await?;
                }
            }
        }
    }

    async fn resume(&mut self) -> Result<()> {
        let options = GetOptions {
            range: Some(GetRange::Offset(self.read)),
            if_match: self.etag.clone(),
            ..GetOptions::default()
        };
        let found = self.files.store.get_opts(&self.name, options).await.map_err(Error::unavailable)?;
        self.stream = found.into_stream();
        Ok(())
    }
}

impl FileWriter {
    /// Writes the next bytes.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.writer.wait_for_capacity(PIECES_IN_FLIGHT).await.map_err(Error::unavailable)?;
        self.writer.put(bytes.into());
        Ok(())
    }

    /// Completes the file.
    pub async fn finish(self) -> Result<()> {
        self.writer.finish().await.map_err(Error::unavailable)?;
        Ok(())
    }

    /// Deletes what was written.
    pub async fn abort(self) {
        if let Err(error) = self.writer.abort().await {
            warn!(%error, name = self.name, "cannot abort the writing of a file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reading_that_breaks_is_resumed_where_it_broke() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::in_folder(folder.path()).unwrap();
        files.put("a", Bytes::from_static(b"one two three")).await.unwrap();
        let broken =
            || Err(object_store::Error::NotImplemented { operation: "x".into(), implementer: "y".into() });
        let reading = |bytes: &'static [u8]| Reading {
            files: files.clone(),
            name: Path::from("a"),
            etag: None,
            read: 0,
            failures: 0,
            stream: stream::iter([Ok(Bytes::from_static(bytes)), broken()]).boxed(),
        };
        let read = stream::try_unfold(reading(b"one "), Reading::next).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(read.concat(), b"one two three");
        std::fs::remove_file(folder.path().join("a")).unwrap();
        let read = stream::try_unfold(reading(b"one "), Reading::next).try_collect::<Vec<_>>().await;
        assert!(read.is_err());
    }

    #[tokio::test]
    async fn a_file_exists_when_it_is_complete_and_a_killed_writer_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::in_folder(folder.path()).unwrap();
        let name = "archive/coupon_event_2027_06-ab.jsonl";
        assert!(files.find(name).await.unwrap().is_none());
        let mut killed = files.begin(name, 8).await.unwrap();
        killed.write(vec![7; PIECE_BYTES]).await.unwrap();
        std::mem::forget(killed);
        let mut writer = files.begin(name, 8).await.unwrap();
        writer.write(b"one\n".to_vec()).await.unwrap();
        writer.write(b"two\n".to_vec()).await.unwrap();
        assert!(files.find(name).await.unwrap().is_none());
        writer.finish().await.unwrap();
        assert_eq!(&files.get(name).await.unwrap()[..], b"one\ntwo\n");
        let mut content = files.find(name).await.unwrap().unwrap();
        assert_eq!(&content.try_next().await.unwrap().unwrap()[..], b"one\ntwo\n");
        assert_eq!(std::fs::read_dir(folder.path().join("archive")).unwrap().count(), 1);
    }
}
