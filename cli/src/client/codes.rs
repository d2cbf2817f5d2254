//! `cuponera generate`, `codes` and `capacity`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use uuid::Uuid;

use super::coupons::{coupon_card, parse_code, user_id};
use super::exchange::Request;
use super::fault::ClientError;
use super::show::{CellFormat, Column, card, count, table, text};
use super::watch::{self, Submitted};
use super::{Client, Paging, RunCommand, books};

pub(super) const GENERATE_HELP: &str = help!(
    "Examples:
  cuponera generate --book 'Summer 2027' --quantity 10000
  cuponera generate --book 'Summer 2027' --quantity 500 --pattern 'SUMMER-{XXXX}-{9999}'
  cuponera generate --book 'Summer 2027' --quantity 5000000 --no-wait --json

In a pattern, X is a letter or digit that is easy to distinguish, 9 a digit, A a letter; everything else is literal.
Codes cannot be guessed, and exactly the requested number is generated."
);

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera codes list --book 'Summer 2027' --status available
  cuponera codes list --book 'Summer 2027' --prefix SUMMER- --limit 500 --json
  cuponera codes list --book 'Summer 2027' --user ana --redeemed-from 2027-06-01T00:00:00Z
  cuponera codes find SUMMER-AB
  cuponera codes show SUMMER-ABCD-1234
  cuponera codes create SUMMER --book 'Radio' --max-redemptions 1000 --max-redeems-per-user 1
  cuponera codes change SUMMER --max-redemptions 2000
  cuponera codes change SUMMER-ABCD-1234 --suspend

Codes are created one by one in a book of the kind SHARED: many users redeem such a code. Only its limits can be changed; a code of any book can
be suspended."
);

/// Options of `generate`.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// The book's id, or its exact name
    #[arg(long, short)]
    book: String,
    /// The number of codes
    #[arg(long, short = 'n', value_name = "CODES")]
    quantity: u64,
    /// The pattern of the codes; {XXXXXXXXXXXX} if absent
    #[arg(long, short)]
    pattern: Option<String>,
    /// Do not wait for the job
    #[arg(long)]
    no_wait: bool,
}

/// Options of `codes`.
#[derive(Debug, Args)]
pub(crate) struct Codes {
    #[command(subcommand)]
    verb: CodeVerb,
}

#[derive(Debug, Subcommand)]
enum CodeVerb {
    /// List the codes of a book, in order
    List(Box<List>),
    /// Find codes of all books by prefix
    Find(Find),
    /// Show a code
    Show {
        /// The code
        #[arg(value_parser = parse_code)]
        code: String,
        /// Also the uses of this user, of a code of a SHARED book
        #[arg(long, short, value_parser = user_id)]
        user: Option<String>,
    },
    /// Create a code that many users redeem, in a book of the kind SHARED
    Create(Box<Create>),
    /// Change the limits of a code of a SHARED book, or suspend any code
    Change(Change),
}

#[derive(Debug, Args)]
struct Create {
    /// The code
    #[arg(value_parser = parse_code)]
    code: String,
    /// The book's id, or its exact name
    #[arg(long, short)]
    book: String,
    /// The maximum number of redemptions in total; no limit if absent
    #[arg(long, value_name = "USES")]
    max_redemptions: Option<i32>,
    /// The maximum number of redemptions of each user; that of the book if absent
    #[arg(long, value_name = "USES")]
    max_redeems_per_user: Option<i32>,
    /// When the code starts, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    starts_at: Option<String>,
    /// When the code expires
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Any JSON object
    #[arg(long, value_name = "JSON", value_parser = books::parse_object)]
    metadata: Option<Value>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args([
    "max_redemptions", "no_max_redemptions", "max_redeems_per_user", "starts_at", "expires_at", "suspend", "resume",
]))]
struct Change {
    /// The code
    #[arg(value_parser = parse_code)]
    code: String,
    /// The maximum number of redemptions in total
    #[arg(long, value_name = "USES")]
    max_redemptions: Option<i32>,
    /// No maximum number of redemptions in total
    #[arg(long, conflicts_with = "max_redemptions")]
    no_max_redemptions: bool,
    /// The maximum number of redemptions of each user
    #[arg(long, value_name = "USES")]
    max_redeems_per_user: Option<i32>,
    /// When the code starts, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    starts_at: Option<String>,
    /// When the code expires; a past time ends it now
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Suspend the code: it can be neither locked nor redeemed
    #[arg(long)]
    suspend: bool,
    /// End the suspension
    #[arg(long, conflicts_with = "suspend")]
    resume: bool,
}

#[derive(Debug, Args)]
struct List {
    /// The book's id, or its exact name
    #[arg(long, short)]
    book: String,
    /// Only codes with this status
    #[arg(long, value_enum, ignore_case = true)]
    status: Option<CodeStatus>,
    /// Only codes that start with this text
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Only codes that this user holds or has redeemed
    #[arg(long, short, value_parser = user_id)]
    user: Option<String>,
    /// Only codes that this job generated or imported
    #[arg(long, value_name = "ID")]
    job: Option<Uuid>,
    /// Only codes that were assigned from this time on, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    assigned_from: Option<String>,
    /// Only codes that were assigned before this time
    #[arg(long, value_name = "TIME")]
    assigned_to: Option<String>,
    /// Only codes whose last redemption was at this time or later
    #[arg(long, value_name = "TIME")]
    redeemed_from: Option<String>,
    /// Only codes whose last redemption was before this time
    #[arg(long, value_name = "TIME")]
    redeemed_to: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
struct Find {
    /// The beginning of the codes
    prefix: String,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CodeStatus {
    Available,
    Assigned,
    Locked,
    Redeemed,
    Void,
}

/// Options of `capacity`.
#[derive(Debug, Args)]
pub(crate) struct Capacity {
    /// The book's id, or its exact name
    #[arg(long, short)]
    book: String,
    /// The pattern; {XXXXXXXXXXXX} if absent
    #[arg(long, short)]
    pattern: Option<String>,
}

impl RunCommand for Generate {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let book = books::find(client, &self.book).await?;
        let mut body = json!({"couponBookId": book, "quantity": self.quantity});
        if let Some(pattern) = self.pattern {
            body["pattern"] = pattern.into();
        }
        let job = client.ask(Request::post(&["coupon-codes", "generate"], body)).await?;
        let submitted = Submitted { job, waits: !self.no_wait };
        watch::wait_for_job(client, submitted, |job| {
            let [first, last] =
                ["/result/firstCode", "/result/lastCode"].map(|at| text(&job.answer.value, at));
            format!(
                "Generated {} codes{}: {first} to {last}",
                count(job.result("generatedCount")),
                job.in_time()
            )
        })
        .await
        .map(drop)
    }
}

impl RunCommand for Codes {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        match self.verb {
            CodeVerb::List(list) => list.run(client).await,
            CodeVerb::Find(find) => find.run(client).await,
            CodeVerb::Show { code, user } => {
                let coupon = client.ask(Request::get(&["coupons", &code]).with("userId", user)).await?;
                client.show(&coupon, coupon_card)
            }
            CodeVerb::Create(create) => create.run(client).await,
            CodeVerb::Change(change) => change.run(client).await,
        }
    }
}

impl Create {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let book = books::find(client, &self.book).await?;
        let body = without_nulls(json!({
            "couponBookId": book,
            "code": self.code,
            "maxRedemptions": self.max_redemptions,
            "maxRedeemsPerUser": self.max_redeems_per_user,
            "startsAt": self.starts_at,
            "expiresAt": self.expires_at,
            "metadata": self.metadata,
        }));
        let coupon = client.ask(Request::post(&["coupon-codes"], body)).await?;
        client.show(&coupon, coupon_card)
    }
}

impl Change {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let mut body = without_nulls(json!({
            "maxRedemptions": self.max_redemptions,
            "maxRedeemsPerUser": self.max_redeems_per_user,
            "startsAt": self.starts_at,
            "expiresAt": self.expires_at,
        }));
        if self.no_max_redemptions {
            body["maxRedemptions"] = Value::Null;
        }
        if self.suspend || self.resume {
            body["suspended"] = self.suspend.into();
        }
        let coupon = client.ask(Request::patch(&["coupons", &self.code], body)).await?;
        client.show(&coupon, coupon_card)
    }
}

/// The same object without its null fields.
fn without_nulls(mut body: Value) -> Value {
    if let Value::Object(fields) = &mut body {
        fields.retain(|_, value| !value.is_null());
    }
    body
}

impl List {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 6] = [
            Column("CODE", "/code", CellFormat::Text),
            Column("STATUS", "/status", CellFormat::Text),
            Column("USER", "/userId", CellFormat::Text),
            Column("USES", "/redeemCount", CellFormat::Count),
            Column("OF", "/maxRedemptions", CellFormat::Count),
            Column("LOCKED UNTIL", "/lockedUntil", CellFormat::Time),
        ];
        let book = books::find(client, &self.book).await?;
        let path = ["coupon-codes", "book", &book];
        let status = self.status.map(|status| format!("{status:?}").to_uppercase());
        let ask = Request::get(&path).with("status", status).with("prefix", self.prefix);
        let ask = ask.with("userId", self.user).with("jobId", self.job);
        let ask = ask.with("assignedFrom", self.assigned_from).with("assignedTo", self.assigned_to);
        let ask = ask.with("redeemedFrom", self.redeemed_from).with("redeemedTo", self.redeemed_to);
        let page = client.ask_page(ask, self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

impl Find {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 4] = [
            Column("CODE", "/code", CellFormat::Text),
            Column("STATUS", "/status", CellFormat::Text),
            Column("BOOK", "/couponBookId", CellFormat::Text),
            Column("USER", "/userId", CellFormat::Text),
        ];
        let ask = Request::get(&["coupons"]).with("q", Some(self.prefix));
        let page = client.ask_page(ask, self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

impl RunCommand for Capacity {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const FIELDS: [Column; 6] = [
            Column("Pattern", "/pattern", CellFormat::Text),
            Column("Codes", "/capacity", CellFormat::Count),
            Column("Used", "/used", CellFormat::Count),
            Column("Remaining", "/remaining", CellFormat::Count),
            Column("Chance of a guess", "/chanceOfHit", CellFormat::Text),
            Column("Samples", "/samples", CellFormat::Text),
        ];
        let book = books::find(client, &self.book).await?;
        let ask = Request::get(&["coupon-codes", "capacity"]).with("couponBookId", Some(book));
        let capacity = client.ask(ask.with("pattern", self.pattern)).await?;
        client.show(&capacity, |capacity| card(&FIELDS, capacity))
    }
}
