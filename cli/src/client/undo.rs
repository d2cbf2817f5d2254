//! `cuponera revoke`, `rollback`, `void`, `take-back` and `redemptions`.

use std::io::Read;

use clap::{ArgGroup, Args, ValueEnum};
use cuponera_domain::principal::parse_user_id;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::coupons::parse_code;
use super::exchange::Request;
use super::fault::ClientError;
use super::show::{CellFormat, Column, card, count, table, text};
use super::watch::{self, Job, Submitted};
use super::{Client, Paging, RunCommand, books};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera revoke SUMMER-ABCD-1234 --reason 'given by mistake'
  cuponera rollback 0199b1f0-0000-7000-8000-000000000000 --reason 'goods returned'
  cuponera redemptions --reference receipt-4711"
);

pub(super) const VOID_HELP: &str = help!(
    "Examples:
  cuponera void SUMMER-ABCD-1234 SUMMER-WXYZ-5678 --reason 'published by mistake'
  cuponera void --job 0199b1f0-0000-7000-8000-000000000000 --reason 'wrong file' --dry-run
  cuponera void --book 'Summer 2027' --status available --reason 'campaign has ended'
  cuponera void --file leaked.txt --reason leaked

--job voids what a job generated or imported. Redeemed codes are never voided. A void code cannot be used again."
);

pub(super) const TAKE_BACK_HELP: &str = help!(
    "Examples:
  cuponera take-back 0199b1f0-0000-7000-8000-000000000000 --reason 'wrong pool'
  cuponera jobs errors JOB

Codes that are locked or were used stay with their users: cuponera jobs errors lists them. The distribution must be over."
);

/// The reason, and the user that must hold the code.
#[derive(Debug, Args)]
struct Undo {
    /// The reason, for the history of the code
    #[arg(long, short, value_name = "TEXT")]
    reason: String,
    /// Refuse if another user holds the code
    #[arg(long = "user", short = 'u', value_name = "USER", value_parser = user_id)]
    user: Option<String>,
}

/// Options of `revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The code
    #[arg(value_parser = parse_code)]
    code: String,
    #[command(flatten)]
    undo: Undo,
}

/// Options of `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The id of the redemption
    redemption: Uuid,
    #[command(flatten)]
    undo: Undo,
}

/// Options of `void`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["codes", "file", "job", "book"]))]
pub(crate) struct Void {
    /// The codes
    #[arg(value_parser = parse_code, num_args = 1..)]
    codes: Vec<String>,
    /// Void the codes in this file, one on each line; - is the standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<String>,
    /// Void the codes that this job generated or imported
    #[arg(long, value_name = "ID")]
    job: Option<Uuid>,
    /// Void codes of this book: its id, or its exact name
    #[arg(long, short)]
    book: Option<String>,
    /// Only codes of the book with this status
    #[arg(long, value_enum, ignore_case = true, requires = "book")]
    status: Option<VoidableStatus>,
    /// Only codes of the book that start with this text
    #[arg(long, value_name = "TEXT", requires = "book")]
    prefix: Option<String>,
    /// Only codes of the book that were created before this time, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME", requires = "book")]
    created_before: Option<String>,
    /// The reason, for the history of each code
    #[arg(long, short, value_name = "TEXT")]
    reason: String,
    /// Only count the codes
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the job
    #[arg(long, conflicts_with = "dry_run")]
    no_wait: bool,
}

/// Options of `take-back`.
#[derive(Debug, Args)]
pub(crate) struct TakeBack {
    /// The job of the distribution
    job: Uuid,
    /// The reason, for the history of each code
    #[arg(long, short, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not wait for the job
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VoidableStatus {
    Available,
    Assigned,
    Locked,
}

/// Options of `redemptions`.
#[derive(Debug, Args)]
pub(crate) struct Redemptions {
    /// Show only this redemption
    #[arg(conflicts_with_all = ["book", "user", "reference", "from", "to"])]
    redemption: Option<Uuid>,
    /// Only of codes of this book: its id, or its exact name
    #[arg(long, short)]
    book: Option<String>,
    /// Only of this user
    #[arg(long, short, value_parser = user_id)]
    user: Option<String>,
    /// Only with this reference
    #[arg(long, value_name = "TEXT")]
    reference: Option<String>,
    /// Only from this time on, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Parses a user id with the rules of the server.
fn user_id(text: &str) -> Result<String, &'static str> {
    parse_user_id(text).map(str::to_owned)
}

impl Undo {
    fn body(self) -> Value {
        let fields = [("reason", Some(self.reason)), ("userId", self.user)];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        fields.collect::<Map<_, _>>().into()
    }
}

impl RunCommand for Revoke {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let path = ["assignments", &self.code, "revoke"];
        let revoked = client.ask(Request::post(&path, self.undo.body())).await?;
        client.show(&revoked, |revoked| format!("{} is free again.", text(revoked, "/code")))
    }
}

impl RunCommand for Rollback {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let id = self.redemption.to_string();
        let rolled_back =
            client.ask(Request::post(&["redemptions", &id, "rollback"], self.undo.body())).await?;
        client.show(&rolled_back, |rolled_back| {
            let [code, status] = ["/code", "/status"].map(|pointer| text(rolled_back, pointer));
            let [used, most] = ["redeemCount", "maxRedeems"]
                .map(|name| rolled_back[name].as_u64().map_or_else(String::new, count));
            format!("The redemption is rolled back: {code} is {status} and has {used} of {most} uses.")
        })
    }
}

impl RunCommand for Void {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        if let ([code], false) = (&self.codes[..], self.dry_run) {
            let path = ["coupons", code, "void"];
            let voided = client.ask(Request::post(&path, json!({"reason": self.reason}))).await?;
            return client.show(&voided, |voided| format!("{} is void.", text(voided, "/code")));
        }
        let (dry_run, waits) = (self.dry_run, !self.no_wait);
        let answer = client.ask(Request::post(&["coupons", "void"], self.body(client).await?)).await?;
        if dry_run {
            return client.show(&answer, preview_card);
        }
        let submitted = Submitted { job: answer, waits };
        let words = |job: &Job| {
            let others = [("redeemedCount", "are redeemed"), ("notFoundCount", "do not exist")];
            format!(
                "Voided {} codes{}{}",
                count(job.result("voidedCount")),
                job.in_time(),
                rest(job, &others)
            )
        };
        watch::wait_for_job(client, submitted, words).await.map(drop)
    }
}

impl RunCommand for TakeBack {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let body = self.reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
        let job = client.ask(Request::post(&["jobs", &self.job.to_string(), "take-back"], body)).await?;
        let submitted = Submitted { job, waits: !self.no_wait };
        let words = |job: &Job| {
            let others = [
                ("lockedCount", "are locked"),
                ("redeemedCount", "were used"),
                ("goneCount", "were taken back, assigned anew or voided before"),
            ];
            let taken = count(job.result("takenBackCount"));
            format!("Took back {taken} codes{}{}", job.in_time(), rest(job, &others))
        };
        watch::wait_for_job(client, submitted, words).await.map(drop)
    }
}

/// The numbers of a job's result that are not zero, in words.
fn rest(job: &Job, numbers: &[(&str, &str)]) -> String {
    let mut line = String::new();
    for (name, words) in numbers {
        let number = job.result(name);
        if number > 0 {
            line.push_str("; ");
            line.push_str(&count(number));
            line.push(' ');
            line.push_str(words);
        }
    }
    line
}

impl Void {
    async fn body(self, client: &Client) -> Result<Value, ClientError> {
        let mut body = json!({"reason": self.reason, "dryRun": self.dry_run});
        if let Some(job) = self.job {
            body["jobId"] = json!(job);
        } else if let Some(book) = &self.book {
            let status = self.status.map(|status| format!("{status:?}").to_uppercase());
            let mut filter = json!({"couponBookId": books::find(client, book).await?});
            let narrower =
                [("status", status), ("prefix", self.prefix), ("createdBefore", self.created_before)];
            for (name, value) in narrower.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                filter[name] = value.into();
            }
            body["filter"] = filter;
        } else {
            body["codes"] = match &self.file {
                Some(file) => read_lines(file)?.into(),
                None => self.codes.into(),
            };
        }
        Ok(body)
    }
}

/// The lines of a file that are not blank.
fn read_lines(file: &str) -> Result<Vec<String>, ClientError> {
    let content = if file == "-" {
        let mut content = String::new();
        std::io::stdin().read_to_string(&mut content).map(|_| content)
    } else {
        std::fs::read_to_string(file)
    };
    let content = content.map_err(|error| ClientError::Local(format!("{file}: {error}")))?;
    Ok(content.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn preview_card(preview: &Value) -> String {
    const FIELDS: [Column; 7] = [
        Column("To be voided", "/voidCount", CellFormat::Count),
        Column("  available", "/counts/available", CellFormat::Count),
        Column("  assigned", "/counts/assigned", CellFormat::Count),
        Column("  locked", "/counts/locked", CellFormat::Count),
        Column("Redeemed, which stay", "/counts/redeemed", CellFormat::Count),
        Column("Void already", "/counts/void", CellFormat::Count),
        Column("Not found", "/notFoundCount", CellFormat::Count),
    ];
    card(&FIELDS, preview)
}

impl RunCommand for Redemptions {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 10] = [
            Column("AT", "/redeemedAt", CellFormat::Time),
            Column("ID", "/id", CellFormat::Text),
            Column("CODE", "/code", CellFormat::Text),
            Column("USE", "/useNumber", CellFormat::Count),
            Column("USER", "/userId", CellFormat::Text),
            Column("REFERENCE", "/reference", CellFormat::Text),
            Column("AMOUNT", "/amount", CellFormat::Text),
            Column("DISCOUNT", "/discount", CellFormat::Text),
            Column("CURRENCY", "/currency", CellFormat::Text),
            Column("ROLLED BACK", "/rolledBackAt", CellFormat::Time),
        ];
        if let Some(id) = self.redemption {
            let redemption = client.ask(Request::get(&["redemptions", &id.to_string()])).await?;
            return client.show(&redemption, redemption_card);
        }
        let book = match &self.book {
            Some(book) => Some(books::find(client, book).await?),
            None => None,
        };
        let ask = Request::get(&["redemptions"]).with("couponBookId", book).with("userId", self.user);
        let ask = ask.with("reference", self.reference).with("from", self.from).with("to", self.to);
        let page = client.ask_page(ask, self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

fn redemption_card(redemption: &Value) -> String {
    const FIELDS: [Column; 13] = [
        Column("Id", "/id", CellFormat::Text),
        Column("Code", "/code", CellFormat::Text),
        Column("Book", "/couponBookId", CellFormat::Text),
        Column("User", "/userId", CellFormat::Text),
        Column("Use", "/useNumber", CellFormat::Count),
        Column("Reference", "/reference", CellFormat::Text),
        Column("Amount", "/amount", CellFormat::Text),
        Column("Discount", "/discount", CellFormat::Text),
        Column("Total", "/total", CellFormat::Text),
        Column("Currency", "/currency", CellFormat::Text),
        Column("Metadata", "/metadata", CellFormat::Text),
        Column("Redeemed", "/redeemedAt", CellFormat::Time),
        Column("Rolled back", "/rolledBackAt", CellFormat::Time),
    ];
    card(&FIELDS, redemption)
}
