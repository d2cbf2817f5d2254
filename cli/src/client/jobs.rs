//! `cuponera jobs`: lists, watches, cancels and retries jobs, and downloads their rejected rows and reports.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::attempts::AttemptError;
use super::exchange::Request;
use super::fault::ClientError;
use super::print::{output_error, print};
use super::show::{CellFormat, Column, card, plain, table, text};
use super::{Client, Paging, RunCommand, watch};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera jobs list --status running
  cuponera jobs watch 0199b1f0-0000-7000-8000-000000000000
  cuponera jobs errors 0199b1f0-0000-7000-8000-000000000000 --output refused.csv
  cuponera jobs report 0199b1f0-0000-7000-8000-000000000000 --output report.csv

Under --json `watch` prints the job each time it changes, one object per line. Ctrl-C stops the watching, not the job."
);

/// Timeout of a download without data.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Jobs.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    verb: JobVerb,
}

#[derive(Debug, Subcommand)]
enum JobVerb {
    /// List jobs, newest first
    List(List),
    /// Show a job
    Show(Named),
    /// Wait until a job ends, and show its progress
    Watch(Named),
    /// Cancel a job; its effects so far remain
    Cancel(Named),
    /// Run the unfinished part of a failed job again
    Retry(Named),
    /// Print the rows that a job rejected, as CSV: line, code, reason, row, detail
    Errors(Document),
    /// Print the report of a distribution, as CSV: user, number of codes, codes, note
    Report(Document),
}

/// A job.
#[derive(Debug, Args)]
struct Named {
    /// The job's id
    id: Uuid,
}

#[derive(Debug, Args)]
struct List {
    /// Only jobs with this status
    #[arg(long, value_enum, ignore_case = true)]
    status: Option<JobStatus>,
    /// Only jobs of this kind, such as IMPORT_CODES
    #[arg(long)]
    kind: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum JobStatus {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// A CSV file of a job.
#[derive(Debug, Args)]
struct Document {
    /// The job's id
    id: Uuid,
    /// Write the rows to this file
    #[arg(long, short, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,
}

impl RunCommand for Jobs {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        match self.verb {
            JobVerb::List(list) => list.run(client).await,
            JobVerb::Show(named) => {
                let job = client.ask(Request::get(&["jobs", &named.id.to_string()])).await?;
                client.show(&job, job_card)
            }
            JobVerb::Watch(named) => watch_to_its_end(client, named.id).await,
            JobVerb::Cancel(named) => {
                let job = client
                    .ask(Request::post(&["jobs", &named.id.to_string(), "cancel"], Value::Null))
                    .await?;
                client.show(&job, |job| {
                    format!("The job {} is cancelled; what it has done stays.", text(job, "/id"))
                })
            }
            JobVerb::Retry(named) => {
                let job =
                    client.ask(Request::post(&["jobs", &named.id.to_string(), "retry"], Value::Null)).await?;
                client.show(&job, |job| {
                    let id = text(job, "/id");
                    format!("The job {id} runs again. To watch it: cuponera jobs watch {id}")
                })
            }
            JobVerb::Errors(errors) => errors.run(client, "errors").await,
            JobVerb::Report(report) => report.run(client, "report").await,
        }
    }
}

async fn watch_to_its_end(client: &Client, id: Uuid) -> Result<(), ClientError> {
    let say_each = |job: &watch::Job| if client.json { job.print_line() } else { Ok(()) };
    let job = watch::until_over(client, &id.to_string(), say_each).await?;
    let said = if client.json { Ok(()) } else { print(&job_card(&job.answer.value)) };
    job.verdict()?;
    said
}

impl List {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 8] = [
            Column("ID", "/id", CellFormat::Text),
            Column("KIND", "/kind", CellFormat::Text),
            Column("STATUS", "/status", CellFormat::Text),
            Column("ROWS", "/progress/total", CellFormat::Count),
            Column("DONE", "/progress/succeeded", CellFormat::Count),
            Column("REFUSED", "/progress/failed", CellFormat::Count),
            Column("CREATED", "/createdAt", CellFormat::Time),
            Column("FINISHED", "/finishedAt", CellFormat::Time),
        ];
        let status = self.status.map(|status| format!("{status:?}").to_uppercase());
        let ask = Request::get(&["jobs"]).with("status", status).with("kind", self.kind);
        let page = client.ask_page(ask, self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

fn job_card(job: &Value) -> String {
    const FIELDS: [Column; 16] = [
        Column("Id", "/id", CellFormat::Text),
        Column("Kind", "/kind", CellFormat::Text),
        Column("Status", "/status", CellFormat::Text),
        Column("Rows", "/progress/total", CellFormat::Count),
        Column("  done", "/progress/succeeded", CellFormat::Count),
        Column("  refused", "/progress/failed", CellFormat::Count),
        Column("Percent", "/progress/percent", CellFormat::Text),
        Column("Rows a second", "/progress/ratePerSecond", CellFormat::Text),
        Column("Seconds left", "/progress/etaSeconds", CellFormat::Text),
        Column("Result", "/result", CellFormat::Text),
        Column("Error", "/error/code", CellFormat::Text),
        Column("", "/error/detail", CellFormat::Text),
        Column("Warnings", "/warnings", CellFormat::Text),
        Column("Attempts", "/attempts", CellFormat::Count),
        Column("Created", "/createdAt", CellFormat::Time),
        Column("Finished", "/finishedAt", CellFormat::Time),
    ];
    card(&FIELDS, job)
}

impl Document {
    async fn run(self, client: &Client, name: &'static str) -> Result<(), ClientError> {
        if client.json {
            return Err(ClientError::Local("the rows are CSV: omit --json".to_owned()));
        }
        match &self.output {
            Some(path) => {
                let mut file = open_output(path)?;
                download(client, self.id, name, &mut |piece| {
                    file.write_all(piece).map_err(|error| unwritable(path, &error))
                })
                .await
            }
            None if io::stdout().is_terminal() => {
                let mut lines = Lines::default();
                download(client, self.id, name, &mut |piece| lines.take(piece)).await?;
                lines.finish()
            }
            None => {
                let mut out = io::stdout();
                download(client, self.id, name, &mut |piece| {
                    out.write_all(piece).map_err(|error| output_error(&error))
                })
                .await
            }
        }
    }
}

/// Opens a file for writing, and truncates it.
pub(super) fn open_output(path: &Path) -> Result<std::fs::File, ClientError> {
    let opened = for_owner().truncate(true).open(path);
    opened.map_err(|error| unwritable(path, &error))
}

/// Checks that a file is writable, without changing its content.
pub(super) fn check_output(path: &Path) -> Result<(), ClientError> {
    for_owner().truncate(false).open(path).map(drop).map_err(|error| unwritable(path, &error))
}

/// Options that create a file with mode 0600, because codes are worth money.
fn for_owner() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> ClientError {
    ClientError::Local(format!("cannot write {}: {error}", plain(&path.display().to_string())))
}

/// Passes a CSV file of a job to `take`, piece by piece: `errors` or `report`.
pub(super) async fn download(
    client: &Client,
    id: Uuid,
    name: &'static str,
    take: &mut impl FnMut(&[u8]) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let mut response = open_document(client, id, name).await?;
    while let Some(piece) = next_piece(client, &mut response).await.map_err(AttemptError::into_error)? {
        take(&piece)?;
    }
    Ok(())
}

/// The next piece of a body; none at its end.
pub(super) async fn next_piece(
    client: &Client,
    response: &mut Response,
) -> Result<Option<Bytes>, AttemptError> {
    match timeout(IDLE_TIMEOUT, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(client.server.trouble(&error)),
        Err(_) => {
            let fault = ClientError::Unavailable("the server stopped sending its answer".to_owned());
            Err(AttemptError::Transient { fault, after: None, arrived: true })
        }
    }
}

/// Retries until the answer begins.
async fn open_document(client: &Client, id: Uuid, name: &str) -> Result<Response, ClientError> {
    let id = id.to_string();
    let mut attempts = client.server.attempts();
    loop {
        let login = client.server.token().await?;
        let request = client.server.request(Method::GET, &["jobs", &id, name], &[], login.as_ref());
        let sent = timeout(IDLE_TIMEOUT, request.send()).await;
        let sent = sent.map_err(|_| ClientError::Unavailable("the server does not answer".to_owned()))?;
        match client.server.judge(sent).await {
            Ok(response) => return Ok(response),
            Err(AttemptError::Permanent(fault)) => return Err(fault),
            Err(AttemptError::Transient { fault, after, .. }) => attempts.pause(fault, after).await?,
        }
    }
}

/// Prints text line by line, without characters that control a terminal.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn take(&mut self, piece: &[u8]) -> Result<(), ClientError> {
        self.rest.extend_from_slice(piece);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            print(&plain(String::from_utf8_lossy(&line).trim_end()))?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), ClientError> {
        print(&plain(&String::from_utf8_lossy(&self.rest)))
    }
}
