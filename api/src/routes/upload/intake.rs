//! An upload under way: cut into parts as it comes in, which are stored at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cuponera_core::csv::{CutError, Cutter, Limits};
use cuponera_core::error::{Error, Refusal, Result};
use cuponera_core::files::Files;
use cuponera_core::id::{BookId, JobId};
use cuponera_core::store::{NewImport, PartFile};
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::broken_body;
use crate::app::App;
use crate::problem::Problem;

/// The most bytes that the names of a file's metadata columns may have together: each row repeats them.
const MAX_COLUMN_NAME_BYTES: usize = 1_024;
/// How long an upload may be silent: a client that is gone must not hold its key for ever.
pub(super) const IDLE_PATIENCE: Duration = Duration::from_mins(1);

/// An upload under way. Unless it is kept, its parts are deleted when it is dropped: also when the client goes away.
pub(super) struct Intake {
    app: Arc<App>,
    job: JobId,
    cutter: Option<Cutter>,
    parts: Vec<PartFile>,
    bytes: u64,
    pub(super) hasher: Sha256,
    is_kept: bool,
}

impl Intake {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self {
            app: app.clone(),
            job: JobId::new(),
            cutter: Some(Cutter::new(Limits::default())),
            parts: Vec::new(),
            bytes: 0,
            hasher: Sha256::new(),
            is_kept: false,
        }
    }

    pub(super) async fn take_all(
        &mut self,
        stream: impl Stream<Item = Result<Bytes, std::io::Error>> + Send,
    ) -> Result<(), Problem> {
        let mut stream = std::pin::pin!(stream);
        let late = |_| Problem::request_timeout();
        while let Some(piece) = timeout(IDLE_PATIENCE, stream.next()).await.map_err(late)? {
            self.take(&piece.map_err(|error| broken_by(&error))?).await?;
        }
        Ok(())
    }

    async fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.app.upload_limit {
            return Err(Refusal::TooLarge { limit_bytes: self.app.upload_limit }.into());
        }
        self.hasher.update(piece);
        let Some(cutter) = &mut self.cutter else {
            return Err(Error::internal("the upload was already finished"));
        };
        cutter.push(piece).map_err(|error| bad_file(&error))?;
        while let Some(part) = self.cutter.as_mut().and_then(Cutter::take_part) {
            self.store(part.bytes, part.first_line).await?;
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, book: BookId, dry_run: bool) -> Result<NewImport> {
        let cutter = self.cutter.take().ok_or_else(|| Error::internal("the upload was already finished"))?;
        let cut = cutter.finish().map_err(|error| bad_file(&error))?;
        let names: usize = cut.summary.columns.metadata.iter().map(|column| column.name.len()).sum();
        if names > MAX_COLUMN_NAME_BYTES {
            return Err(Refusal::invalid("file", "has column names of more than 1024 bytes together").into());
        }
        for part in cut.parts {
            self.store(part.bytes, part.first_line).await?;
        }
        Ok(NewImport {
            id: self.job,
            book,
            columns: cut.summary.columns,
            delimiter: cut.summary.delimiter,
            dry_run,
            parts: std::mem::take(&mut self.parts),
            rows: cut.summary.records,
            lines: cut.summary.lines,
        })
    }

    async fn store(&mut self, bytes: Bytes, first_line: u64) -> Result<()> {
        let file = Files::part_name(self.job, self.parts.len());
        self.app.files.put(&file, bytes).await?;
        self.parts.push(PartFile { file, first_line });
        Ok(())
    }

    /// The job refers to the parts now.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (files, job) = (self.app.files.clone(), self.job);
        self.app.run_behind(async move {
            if let Err(error) = files.delete_upload(job).await {
                tracing::warn!(error = error.chain(), %job, "the parts of a refused upload stay for the sweep");
            }
        });
    }
}

fn broken_by(error: &std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Problem::request_timeout(),
        _ => broken_body(),
    }
}

fn bad_file(error: &CutError) -> Error {
    Refusal::BadFile { fault: error.code().to_owned(), detail: error.to_string(), line: error.line() }.into()
}
