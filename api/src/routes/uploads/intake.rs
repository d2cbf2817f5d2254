//! Receives an upload: cuts it into parts and stores each part as soon as it is complete.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cuponera_domain::csv::{Content, CutError, Cutter, Limits, Part, ReadOptions, Summary};
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::{assign_codes, import};
use cuponera_domain::rejection::Rejection;
use cuponera_platform::files::Files;
use cuponera_store::GenerateId;
use cuponera_store::{Error, Result};
use cuponera_store::{NewImport, NewMemberImport};
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::broken_body;
use super::repeats::Search;
use crate::app::App;
use crate::http::problem::Problem;

/// How long an upload may send nothing, so that a disconnected client does not hold its key.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Maximum number of lines above the first row, such as titles and a header, and after the last one, that take positions.
const MAX_LINES_ABOVE_ROWS: u64 = 200;

/// An upload that is being received. Dropping it deletes its parts unless it is kept, also if the client disconnects.
pub(in crate::routes) struct Intake {
    app: Arc<App>,
    business: BusinessId,
    job: JobId,
    cutter: Option<Cutter>,
    repeats: Search,
    parts: Vec<import::Chunk>,
    rows: Rows,
    bytes: u64,
    pub(super) hasher: Sha256,
    /// Locked while a part is written, which continues after a disconnect. The deletion of the parts waits for it.
    writing: Arc<Mutex<()>>,
    is_kept: bool,
}

impl Intake {
    pub(super) fn new(app: &Arc<App>, business: BusinessId, options: ReadOptions) -> Self {
        let limits = match options.content {
            Content::Codes | Content::Users => Limits::default(),
            Content::Assignments => Limits { part_records: assign_codes::ROWS_PER_PART, ..Limits::default() },
        };
        Self {
            app: app.clone(),
            business,
            job: JobId::generate(),
            cutter: Some(Cutter::new(limits, options)),
            repeats: Search::new(&app.room_for_codes),
            parts: Vec::new(),
            rows: Rows::default(),
            bytes: 0,
            hasher: Sha256::new(),
            writing: Arc::default(),
            is_kept: false,
        }
    }

    pub(super) async fn take_all(
        &mut self,
        stream: impl Stream<Item = Result<Bytes, std::io::Error>> + Send,
    ) -> Result<(), Problem> {
        let mut stream = std::pin::pin!(stream);
        let late = |_| Problem::request_timeout();
        while let Some(piece) = timeout(IDLE_TIMEOUT, stream.next()).await.map_err(late)? {
            self.take(&piece.map_err(|error| broken_by(&error))?).await?;
        }
        Ok(())
    }

    async fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.app.upload_limit {
            return Err(Rejection::TooLarge { limit_bytes: self.app.upload_limit }.into());
        }
        self.hasher.update(piece);
        let Some(cutter) = &mut self.cutter else {
            return Err(Error::internal("the upload was already finished"));
        };
        cutter.push(piece).map_err(bad_file)?;
        while let Some(cutter) = &mut self.cutter
            && let Some(part) = cutter.take_part()
        {
            if let Some((columns, delimiter)) = cutter.layout() {
                self.repeats.take(&part, columns, delimiter).await?;
            }
            self.store(part).await?;
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, book: BookId, dry_run: bool) -> Result<NewImport> {
        let summary = self.store_rest().await?;
        self.rows.has_other_lines |= summary.lines - summary.records > MAX_LINES_ABOVE_ROWS;
        let last_place = if self.rows.has_other_lines { summary.records } else { summary.lines };
        Ok(NewImport {
            id: self.job,
            book,
            columns: summary.columns,
            delimiter: summary.delimiter,
            read_as: summary.read_as,
            dry_run,
            may_repeat_codes: self.repeats.may_repeat_codes().await?,
            parts: self.rows.places_of(std::mem::take(&mut self.parts)),
            rows: summary.records,
            last_place,
        })
    }

    /// The same for a file of users.
    pub(in crate::routes) async fn finish_users(&mut self) -> Result<NewMemberImport> {
        let summary = self.store_rest().await?;
        Ok(NewMemberImport {
            id: self.job,
            columns: summary.columns,
            delimiter: summary.delimiter,
            read_as: summary.read_as,
            parts: std::mem::take(&mut self.parts),
            rows: summary.records,
        })
    }

    async fn store_rest(&mut self) -> Result<Summary> {
        let cutter = self.cutter.take().ok_or_else(|| Error::internal("the upload was already finished"))?;
        let cut = cutter.finish().map_err(bad_file)?;
        for part in cut.parts {
            self.repeats.take(&part, &cut.summary.columns, cut.summary.delimiter).await?;
            self.store(part).await?;
        }
        Ok(cut.summary)
    }

    async fn store(&mut self, part: Part) -> Result<()> {
        self.rows.take(&part);
        let Part { bytes, first_line, .. } = part;
        let file = Files::part_name(self.job, self.parts.len());
        let (files, name) = (self.app.files.clone(), file.clone());
        let writing = self.writing.clone().lock_owned().await;
        let (store, business, job) = (self.app.store.clone(), self.business, self.job);
        let write = async move {
            store.reserve_upload_if_room(business, job, bytes.len() as u64).await?;
            let written = files.put(&name, bytes).await;
            drop(writing);
            written
        };
        self.app.run(write).await?;
        self.parts.push(import::Chunk::at_line(file, first_line));
        Ok(())
    }

    /// The job that the parts are stored for.
    pub(super) fn job(&self) -> JobId {
        self.job
    }

    /// Keeps the parts: the job refers to them.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }
}

/// Where the rows of a file are.
#[derive(Debug, Default)]
struct Rows {
    /// The number of rows before each part.
    before: Vec<u64>,
    count: u64,
    /// The line after the last part.
    next_line: Option<u64>,
    /// Whether there are lines without a row between the rows, or many above them: blank lines, or rows of several lines.
    has_other_lines: bool,
}

impl Rows {
    fn take(&mut self, part: &Part) {
        self.has_other_lines |=
            part.lines != part.records || self.next_line.is_some_and(|line| line != part.first_line);
        self.before.push(self.count);
        self.count += part.records;
        self.next_line = Some(part.first_line + part.lines);
    }

    /// The parts, by rows if places cannot be lines: a file of blank lines would take a position for each.
    fn places_of(&self, parts: Vec<import::Chunk>) -> Vec<import::Chunk> {
        if !self.has_other_lines {
            return parts;
        }
        let by_rows = |(part, record): (import::Chunk, &u64)| {
            let begin = import::Begin::Record { record: *record, line: part.first_line() };
            import::Chunk { begin, ..part }
        };
        parts.into_iter().zip(&self.before).map(by_rows).collect()
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (files, store, job, writing) =
            (self.app.files.clone(), self.app.store.clone(), self.job, self.writing.clone());
        self.app.run_in_background(async move {
            let _written = writing.lock().await;
            let deleted = async {
                files.delete_upload(job).await?;
                store.free_upload(job).await
            };
            if let Err(error) = deleted.await {
                tracing::warn!(error = error.chain(), %job, "cannot delete the parts of a rejected upload; the sweep deletes them later");
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

fn bad_file(error: CutError) -> Error {
    let (fault, detail, line) = (error.code().to_owned(), error.to_string(), error.line());
    let first_record = match error {
        CutError::UnclearHeader { first_record, .. } => Some(first_record),
        _ => None,
    };
    Rejection::BadFile { fault, detail, line, first_record }.into()
}
