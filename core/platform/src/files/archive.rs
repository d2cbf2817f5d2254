//! The files of archived events. Nothing deletes them.
//!
//! The name of a file has the hash of its content (`Month::file_name`), so a complete file is never replaced by another content.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};
use tracing::warn;

use cuponera_store::{Error, Result};

use super::Files;
use super::export::{PIECE_BYTES, PIECES_IN_FLIGHT};

/// A file that is being written. It exists when it is complete.
#[derive(Debug)]
pub struct FileWriter {
    name: String,
    writer: WriteMultipart,
}

impl Files {
    /// Begins a file. An incomplete file of a process that was killed is deleted from a folder.
    pub async fn begin(&self, name: &str) -> Result<FileWriter> {
        self.delete_incomplete(name).await?;
        let upload = self.store.put_multipart(&Path::from(name)).await.map_err(Error::unavailable)?;
        let writer = WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES);
        Ok(FileWriter { name: name.to_owned(), writer })
    }

    /// The length of a file; `None` if there is no such file.
    pub async fn length(&self, name: &str) -> Result<Option<u64>> {
        match self.store.head(&Path::from(name)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(failure) => Err(Error::unavailable(failure)),
        }
    }

    /// Reads a file as a stream; `None` if there is no such file.
    pub async fn find(&self, name: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        match self.store.get(&Path::from(name)).await {
            Ok(found) => Ok(Some(found.into_stream().map_err(Error::unavailable).boxed())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(failure) => Err(Error::unavailable(failure)),
        }
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
    async fn a_file_exists_when_it_is_complete_and_a_killed_writer_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::in_folder(folder.path()).unwrap();
        let name = "archive/coupon_event_2027_06-ab.jsonl";
        assert_eq!(
            (files.length(name).await.unwrap(), files.find(name).await.unwrap().is_none()),
            (None, true)
        );
        let mut killed = files.begin(name).await.unwrap();
        killed.write(vec![7; PIECE_BYTES]).await.unwrap();
        std::mem::forget(killed);
        let mut writer = files.begin(name).await.unwrap();
        writer.write(b"one\n".to_vec()).await.unwrap();
        writer.write(b"two\n".to_vec()).await.unwrap();
        assert_eq!(files.length(name).await.unwrap(), None);
        writer.finish().await.unwrap();
        assert_eq!(files.length(name).await.unwrap(), Some(8));
        assert_eq!(&files.get(name).await.unwrap()[..], b"one\ntwo\n");
        let mut content = files.find(name).await.unwrap().unwrap();
        assert_eq!(&content.try_next().await.unwrap().unwrap()[..], b"one\ntwo\n");
        assert_eq!(std::fs::read_dir(folder.path().join("archive")).unwrap().count(), 1);
    }
}
