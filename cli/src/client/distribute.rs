//! `cuponera distribute`: gives codes of a book to the users of a pool.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::exchange::Request;
use super::fault::ClientError;
use super::show::{count, pairs};
use super::watch::{self, Job, Submitted};
use super::{Client, RunCommand, books, pools};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera distribute --book 'Summer 2027' --pool Newsletter --mode equal --codes-per-user 1
  cuponera distribute --book 'Summer 2027' --pool Newsletter --mode equal --total-codes 5000 --dry-run
  cuponera distribute --book 'Summer 2027' --pool Newsletter --mode random --total-codes 500 --seed 42
  cuponera jobs report JOB > report.csv

All codes are reserved before any is assigned. The same seed gives the same users the same number of codes."
);

/// Options of `distribute`.
#[derive(Debug, Args)]
pub(crate) struct Distribute {
    /// The book's id, or its exact name
    #[arg(long, short)]
    book: String,
    /// The pool's id, or its exact name
    #[arg(long, short)]
    pool: String,
    /// equal: the same number for each user; random: each code for a user drawn at random
    #[arg(long, value_enum, ignore_case = true)]
    mode: Mode,
    /// The number of codes for each user, in addition to those that it has; for the mode equal
    #[arg(
        long,
        value_name = "CODES",
        conflicts_with = "total_codes",
        required_unless_present = "total_codes"
    )]
    codes_per_user: Option<u64>,
    /// The number of codes for all users together
    #[arg(long, value_name = "CODES")]
    total_codes: Option<u64>,
    /// Decides who gets one more code; drawn by the server if absent
    #[arg(long)]
    seed: Option<u64>,
    /// If the book has too few codes, distribute those that it has
    #[arg(long)]
    partial: bool,
    /// Only show what would be distributed
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the job
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Equal,
    Random,
}

impl RunCommand for Distribute {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let (book, pool) = (books::find(client, &self.book).await?, pools::find(client, &self.pool).await?);
        let path = ["user-pools", &pool, "distributions"];
        let answer = client.ask(Request::post(&path, self.body(&book))).await?;
        if answer.value.get("codesNeeded").is_some() {
            return client.show(&answer, preview);
        }
        let submitted = Submitted { job: answer, waits: !self.no_wait };
        let dry_run = self.dry_run;
        let words = move |job: &Job| if dry_run { preview(&job.answer.value["result"]) } else { given(job) };
        watch::wait_for_job(client, submitted, words).await.map(drop)
    }
}

impl Distribute {
    /// Absent options are omitted; the server applies its defaults.
    fn body(&self, book: &str) -> Value {
        let mode = format!("{:?}", self.mode).to_uppercase();
        let mut body = json!({"couponBookId": book, "mode": mode, "dryRun": self.dry_run});
        for (name, value) in
            [("codesPerUser", self.codes_per_user), ("totalCodes", self.total_codes), ("seed", self.seed)]
        {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        if self.partial {
            body["onShortage"] = "PARTIAL".into();
        }
        body
    }
}

fn given(job: &Job) -> String {
    let short = match job.result("short") {
        0 => String::new(),
        short => format!("; {} codes were missing", count(short)),
    };
    format!(
        "Distributed {} codes to {} users{}{short} (seed {}): see cuponera jobs report {}",
        count(job.result("given")),
        count(job.result("members")),
        job.in_time(),
        job.result("seed"),
        job.id()
    )
}

fn preview(preview: &Value) -> String {
    let number = |pointer: &str| count(preview.pointer(pointer).and_then(Value::as_u64).unwrap_or_default());
    let per_user = format!("{} to {}", number("/perUser/min"), number("/perUser/max"));
    pairs(&[
        ("Users", number("/members")),
        ("  that may get a code", number("/eligible")),
        ("Codes needed", number("/codesNeeded")),
        ("Codes available", number("/codesAvailable")),
        ("Codes a user", per_user),
        ("Missing", number("/short")),
    ])
}
