//! `cuponera import` and `assign-file`: stream a CSV file of any size to a server, show the progress, and wait for the job.

mod report;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures::TryStreamExt;
use indicatif::HumanBytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method, Response};
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::attempts::AttemptError;
use super::exchange::{JsonDocument, Request};
use super::fault::ClientError;
use super::jobs::{check_output, download, open_output, unwritable};
use super::show::plain;
use super::watch::{self, Job, Submitted};
use super::{Client, RunCommand, books};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera import codes.csv --book 'Summer 2027'
  cuponera import codes.csv --book 'Summer 2027' --dry-run
  cuponera import codes.csv --book 'Summer 2027' --errors refused.csv
  cuponera import codes.csv --book 'Summer 2027' --header true --code-column 'Serial no.' --user-column 3
  zcat codes.csv.gz | cuponera import - --book 'Summer 2027'

The file is UTF-8, with one code on each line, or with a header: a column such as Code, Coupon code or Código has the
codes, a column such as User, Customer ID or Usuario assigns them, and other named columns become metadata. The layout
is detected. An ambiguous file is rejected; set its layout with --delimiter, --header, --code-column and --user-column.
Duplicates and invalid rows are counted and the rest is imported: that is success. All rules: docs/import.md."
);

pub(super) const ASSIGN_HELP: &str = help!(
    "Examples:
  cuponera assign-file holders.csv --book 'Summer 2027'
  cuponera assign-file holders.csv --book 'Summer 2027' --dry-run
  cuponera assign-file holders.csv --book 'Summer 2027' --user-column 3 --errors refused.csv

The file has existing codes of the book and their users. The layout is detected as by `cuponera import`; without a header,
the two columns are the code and the user. A code that another user holds, or that is void, is rejected, and the rest is
assigned: that is success."
);

/// The buffer size for reading the file.
const READ_BYTES: usize = 64 * 1024;
/// Timeout of an upload without progress.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Options of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; - reads standard input
    file: PathBuf,
    /// The book's id, or its exact name
    #[arg(long, short)]
    book: String,
    /// Only count the rows and show how the file is read; change nothing
    #[arg(long)]
    dry_run: bool,
    /// The delimiter: , ; | or tab; detected if absent
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<String>,
    /// Whether the file has a header; detected if absent
    #[arg(long, value_name = "true|false")]
    header: Option<bool>,
    /// The column of codes, by name or by number from 1; detected if absent
    #[arg(long, value_name = "COLUMN")]
    code_column: Option<String>,
    /// The column of users, by name or by number from 1; detected if absent
    #[arg(long, value_name = "COLUMN")]
    user_column: Option<String>,
    /// Do not wait for the job
    #[arg(long)]
    no_wait: bool,
    /// Write the rejected rows to this file, as CSV
    #[arg(long, value_name = "FILE", conflicts_with = "no_wait")]
    errors: Option<PathBuf>,
}

/// Options of `assign-file`.
#[derive(Debug, Args)]
pub(crate) struct AssignFile {
    #[command(flatten)]
    upload: Import,
}

/// The words for a job that succeeded; whether it was a dry run; the file with the rejected rows.
type Report = fn(&Job, bool, Option<&Path>) -> String;

/// An upload: its source, target, parameters and idempotency key.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    source: Source,
    size: Option<u64>,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    key: String,
    client: &'a Client,
}

/// The source of an upload.
#[derive(Debug)]
pub(super) enum Source {
    /// A regular file.
    File(PathBuf),
    /// A named pipe. Like standard input, it can be read only once.
    Pipe(PathBuf),
    /// Standard input.
    Stdin,
}

impl RunCommand for Import {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        self.run_to(client, &["coupon-codes", "upload"], report::report).await
    }
}

impl RunCommand for AssignFile {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        self.upload.run_to(client, &["assignments", "upload"], report::assigned).await
    }
}

impl Import {
    async fn run_to(self, client: &Client, path: &[&str], report: Report) -> Result<(), ClientError> {
        let (source, size) = source_of(&self.file).await?;
        self.check_errors_file()?;
        // Before a large file is sent, check the credential and the book.
        let book = books::find(client, &self.book).await?;
        client.ask(Request::get(&["coupon-books", &book])).await?;
        client.on_interrupt(
            "stopped; if the whole file was received, `cuponera jobs list` shows its job".to_owned(),
        );
        let query = self.query(book);
        let job = Upload::new(client, path, query, source, size).send().await?;
        let submitted = Submitted { job: job.clone(), waits: !self.no_wait };
        let errors = self.errors.as_deref();
        let dry_run = self.dry_run;
        let ended = watch::wait_for_job(client, submitted, |job| report(job, dry_run, errors)).await;
        match (ended, &self.errors) {
            (Ok(job), Some(path)) => save_errors(client, &job, path).await,
            // A job that failed may have rejected rows, too.
            (Err(ended @ ClientError::JobEnded(_)), Some(path)) => {
                save_errors(client, &Job { answer: job }, path).await?;
                Err(ended)
            }
            (ended, _) => ended.map(drop),
        }
    }

    fn query(&self, book: String) -> Vec<(&'static str, String)> {
        let mut query = vec![("couponBookId", book), ("dryRun", self.dry_run.to_string())];
        let header = self.header.map(|header| header.to_string());
        let settled = [
            ("delimiter", &self.delimiter),
            ("header", &header),
            ("codeColumn", &self.code_column),
            ("userColumn", &self.user_column),
        ];
        query.extend(settled.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        query
    }

    /// Checks that the errors file is writable and is not the imported file.
    fn check_errors_file(&self) -> Result<(), ClientError> {
        let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        match &self.errors {
            Some(errors) if identity(errors).is_some() && identity(errors) == identity(&self.file) => {
                Err(ClientError::Local("--errors is the imported file: choose another file".to_owned()))
            }
            Some(errors) => check_output(errors),
            None => Ok(()),
        }
    }
}

/// The source, if it is readable, and the size of a regular file.
pub(super) async fn source_of(file: &Path) -> Result<(Source, Option<u64>), ClientError> {
    if file == Path::new("-") {
        return Ok((Source::Stdin, None));
    }
    let metadata = tokio::fs::metadata(file).await.map_err(|error| unreadable(file, &error))?;
    if metadata.is_dir() {
        let name = plain(&file.display().to_string());
        return Err(ClientError::Local(format!("{name} is a folder, not a file")));
    }
    if !metadata.is_file() {
        return Ok((Source::Pipe(file.to_owned()), None));
    }
    open(file).await?;
    Ok((Source::File(file.to_owned()), Some(metadata.len())))
}

impl<'a> Upload<'a> {
    /// An upload under a new idempotency key.
    pub(super) fn new(
        client: &'a Client,
        path: &'a [&'a str],
        query: Vec<(&'static str, String)>,
        source: Source,
        size: Option<u64>,
    ) -> Self {
        Self { source, size, path, query, key: Uuid::now_v7().to_string(), client }
    }

    /// Sends the file, and returns the job. Under `--json` the problem document of a rejection is printed.
    pub(super) async fn send(&self) -> Result<JsonDocument, ClientError> {
        let sent = self.send_until_answered().await;
        if let (true, Err(fault)) = (self.client.json, &sent) {
            let _ = super::print_rejection(fault);
        }
        sent
    }

    /// Sends the file, with retries. All attempts use one idempotency key, so the file is imported once.
    async fn send_until_answered(&self) -> Result<JsonDocument, ClientError> {
        let server = &self.client.server;
        let mut attempts = server.attempts();
        loop {
            let sent = self.once().await?;
            let was_begun = !matches!(&sent, Err(error) if error.is_connect());
            let (fault, after) = match server.answer(sent).await {
                Ok(answer) => return Ok(answer),
                Err(AttemptError::Permanent(fault)) => return Err(fault),
                Err(AttemptError::Transient { fault, after, .. }) => (fault, after),
            };
            // Data that was read from a pipe cannot be sent again.
            if was_begun && !matches!(self.source, Source::File(_)) {
                return Err(fault);
            }
            attempts.pause(fault, after).await?;
        }
    }

    /// One attempt. Fails after [`IDLE_TIMEOUT`] without progress.
    async fn once(&self) -> Result<reqwest::Result<Response>, ClientError> {
        let server = &self.client.server;
        let login = server.token().await?;
        let (sent, progress) = (Arc::new(AtomicU64::new(0)), self.client.progress());
        let request = server
            .request(Method::POST, self.path, &self.query, login.as_ref())
            .header(CONTENT_TYPE, "text/csv")
            .header("Idempotency-Key", &self.key)
            .body(self.body(sent.clone()).await?);
        let mut sending = std::pin::pin!(request.send());
        let (begun, mut moved_at, mut last) = (Instant::now(), Instant::now(), 0);
        loop {
            tokio::select! {
                response = &mut sending => return Ok(response),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = sent.load(Ordering::Relaxed);
            if now != last {
                (last, moved_at) = (now, Instant::now());
            }
            progress.at(now, self.size, || describe(now, self.size, begun.elapsed()));
            if moved_at.elapsed() > IDLE_TIMEOUT {
                return Err(ClientError::Unavailable(format!(
                    "the upload has stalled after {}",
                    HumanBytes(now)
                )));
            }
        }
    }

    /// The body, streamed from the source; `sent` counts its bytes.
    async fn body(&self, sent: Arc<AtomicU64>) -> Result<Body, ClientError> {
        let reader: Box<dyn AsyncRead + Send + Unpin> = match &self.source {
            Source::File(path) | Source::Pipe(path) => Box::new(open(path).await?),
            Source::Stdin => Box::new(tokio::io::stdin()),
        };
        let pieces = ReaderStream::with_capacity(reader, READ_BYTES);
        let count = move |piece: &bytes::Bytes| {
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        };
        Ok(Body::wrap_stream(pieces.inspect_ok(count)))
    }
}

async fn open(path: &Path) -> Result<File, ClientError> {
    File::open(path).await.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ClientError {
    ClientError::Local(format!("cannot read {}: {error}", plain(&path.display().to_string())))
}

/// `uploading · 12.0 MiB of 1.2 GiB · 80.1 MiB/s`
fn describe(sent: u64, size: Option<u64>, elapsed: Duration) -> String {
    let of = size.map_or_else(String::new, |size| format!(" of {}", HumanBytes(size)));
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = sent.saturating_mul(1000) / milliseconds;
    format!("uploading · {}{of} · {}/s", HumanBytes(sent), HumanBytes(rate))
}

/// Writes the rejected rows of a job to a file.
pub(super) async fn save_errors(client: &Client, job: &Job, path: &Path) -> Result<(), ClientError> {
    use std::io::Write;
    let id = job.id().parse().map_err(|_| ClientError::Local("the job has no id".to_owned()))?;
    let mut file = open_output(path)?;
    download(client, id, "errors", &mut |piece| {
        file.write_all(piece).map_err(|error| unwritable(path, &error))
    })
    .await
}
