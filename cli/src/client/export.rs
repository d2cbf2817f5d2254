//! `cuponera export`: submits an export, waits for it, and downloads its file. An interrupted download continues.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use reqwest::header::RANGE;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::attempts::AttemptError;
use super::exchange::Request;
use super::fault::ClientError;
use super::jobs::{IDLE_TIMEOUT, check_output, next_piece, unwritable};
use super::print::note;
use super::show::{count, plain};
use super::watch::{self, Job, Submitted};
use super::{Client, RunCommand, books};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera export codes --book 'Summer 2027' --out codes.csv
  cuponera export codes --book 'Summer 2027' --link-template 'https://shop.example/c/{code}' --out codes.csv
  cuponera export redemptions --from 2027-01-01T00:00:00Z --to 2027-02-01T00:00:00Z --out january.csv
  cuponera export events --out events.csv
  cuponera export --job 0199b1f0-0000-7000-8000-000000000000 --out codes.csv    # downloads the file of an earlier export

An interrupted download continues where it ended if the command with --job is repeated. The server keeps the file for 7 days. Text
that a spreadsheet would take for a formula has an apostrophe before it, which an import removes; see --raw."
);

/// Options of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// What to export
    #[arg(value_enum, ignore_case = true, required_unless_present = "job")]
    kind: Option<Kind>,
    /// Download the file of this export instead of making a new one
    #[arg(long, conflicts_with_all = ["kind", "book", "from", "to", "status", "bom", "delimiter", "raw", "link_template", "no_wait"])]
    job: Option<Uuid>,
    /// Only of this book: its id, or its exact name
    #[arg(long, short)]
    book: Option<String>,
    /// Only from this time on, such as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// For codes and assignments: only with this status
    #[arg(long)]
    status: Option<String>,
    /// Begin the file with a byte order mark
    #[arg(long)]
    bom: bool,
    /// The character between the cells: , ; tab |
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<String>,
    /// Leave text that begins like a formula as it is
    #[arg(long)]
    raw: bool,
    /// A URL with {code}: adds a column with the link of each code
    #[arg(long, value_name = "URL")]
    link_template: Option<String>,
    /// Write the file here; an existing file is replaced
    #[arg(long, short, visible_alias = "output", value_name = "FILE", required_unless_present = "no_wait")]
    out: Option<PathBuf>,
    /// Do not wait for the job
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Codes,
    Assignments,
    Redemptions,
    Events,
}

impl RunCommand for Export {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        if let Some(out) = &self.out {
            check_output(out)?;
        }
        let job = if let Some(id) = self.job {
            let job = watch::until_over(client, &id.to_string(), |_| Ok(())).await?;
            job.verdict()?;
            client.show(&job.answer, |_| exported(&job))?;
            job
        } else {
            let answer = client.ask(Request::post(&["exports"], self.body(client).await?)).await?;
            let submitted = Submitted { job: answer, waits: !self.no_wait };
            watch::wait_for_job(client, submitted, exported).await?
        };
        match &self.out {
            Some(out) if !self.no_wait => download(client, &job.id(), out).await,
            _ => Ok(()),
        }
    }
}

impl Export {
    /// Absent options are omitted; the server applies its defaults.
    async fn body(&self, client: &Client) -> Result<Value, ClientError> {
        let kind = self.kind.map(|kind| format!("{kind:?}").to_uppercase());
        let mut body = json!({"kind": kind, "bom": self.bom, "raw": self.raw});
        if let Some(book) = &self.book {
            body["couponBookId"] = books::find(client, book).await?.into();
        }
        let status = self.status.as_ref().map(|status| status.to_uppercase());
        for (name, value) in [
            ("from", &self.from),
            ("to", &self.to),
            ("status", &status),
            ("delimiter", &self.delimiter),
            ("linkTemplate", &self.link_template),
        ] {
            if let Some(value) = value {
                body[name] = value.as_str().into();
            }
        }
        Ok(body)
    }
}

fn exported(job: &Job) -> String {
    let rows = count(job.result("rowCount"));
    let bytes = count(job.result("bytes"));
    format!("Exported {rows} rows in {bytes} bytes{}.", job.in_time())
}

/// Downloads the file of a job beside `out` and renames it when it is complete. The name of the incomplete file contains the job, so a
/// repeated download continues with the bytes of the same file.
async fn download(client: &Client, job: &str, out: &Path) -> Result<(), ClientError> {
    client.on_interrupt(format!(
        "the download is not complete; to continue it: cuponera export --job {job} --out {}",
        plain(&out.display().to_string())
    ));
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{job}.part"));
    let part = PathBuf::from(name);
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&part);
    let mut file = opened.map_err(|error| unwritable(&part, &error))?;
    // Two downloads would append to the same file.
    file.try_lock().map_err(|error| {
        ClientError::Local(format!("another download writes {}: {error}", plain(&part.display().to_string())))
    })?;
    let mut attempts = client.server.attempts();
    loop {
        let before = length_of(&file, &part)?;
        match fetch(client, job, &mut file, &part, before).await {
            Ok(()) => break,
            Err(AttemptError::Permanent(fault))
                if before > 0 && fault.is_refusal("range_not_satisfiable") =>
            {
                break;
            }
            Err(AttemptError::Permanent(fault)) => return Err(fault),
            Err(AttemptError::Transient { fault, after, .. }) => {
                if length_of(&file, &part)? > before {
                    attempts = client.server.attempts();
                }
                attempts.pause(fault, after).await?;
            }
        }
    }
    std::fs::rename(&part, out).map_err(|error| unwritable(out, &error))?;
    if !client.json && !client.quiet {
        note(&format!("written to {}", plain(&out.display().to_string())));
    }
    Ok(())
}

/// Appends the bytes after the first `from` to the file.
async fn fetch(
    client: &Client,
    job: &str,
    file: &mut File,
    part: &Path,
    from: u64,
) -> Result<(), AttemptError> {
    let mut response = ask(client, job, from).await?;
    if from > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
        // The server sends the whole file.
        file.set_len(0).map_err(|error| AttemptError::Permanent(unwritable(part, &error)))?;
    }
    while let Some(piece) = next_piece(client, &mut response).await? {
        file.write_all(&piece).map_err(|error| AttemptError::Permanent(unwritable(part, &error)))?;
    }
    Ok(())
}

async fn ask(client: &Client, job: &str, from: u64) -> Result<Response, AttemptError> {
    let login = client.server.token().await.map_err(AttemptError::Permanent)?;
    let query = [("redirect", "false".to_owned())];
    let request = client.server.request(Method::GET, &["jobs", job, "file"], &query, login.as_ref());
    let request = if from > 0 { request.header(RANGE, format!("bytes={from}-")) } else { request };
    let silent = |_| ClientError::Unavailable("the server does not answer".to_owned());
    let sent =
        timeout(IDLE_TIMEOUT, request.send()).await.map_err(silent).map_err(AttemptError::Permanent)?;
    client.server.judge(sent).await
}

fn length_of(file: &File, part: &Path) -> Result<u64, ClientError> {
    file.metadata().map(|data| data.len()).map_err(|error| unwritable(part, &error))
}
