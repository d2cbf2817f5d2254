//! `cuponera books`: creates, lists, changes and deletes coupon books; finds a book by id or by name.

use clap::{Args, Subcommand, ValueEnum};
use cuponera_domain::json;
use cuponera_domain::number::exact_f64;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::exchange::Request;
use super::fault::ClientError;
use super::show::{CellFormat, Column, card, count, plain, table, text};
use super::watch::{self, Job, Submitted};
use super::{Client, Paging, RunCommand, print};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera books create 'Summer 2027' --max-codes-per-user 1 --discount 10%
  cuponera books activate 'Summer 2027'
  cuponera books list --status active
  cuponera books show 'Summer 2027' --json

A book is given by its id or its exact name, in every subcommand that takes a book."
);

/// The syntax of a discount, for messages.
const DISCOUNT: &str = "such as 10% or '5 EUR'";
/// The page size of a look-up by name: the maximum of the API.
const LOOKUP_PAGE: u32 = 500;

/// Options of `books`.
#[derive(Debug, Args)]
pub(crate) struct Books {
    #[command(subcommand)]
    verb: BookVerb,
}

#[derive(Debug, Subcommand)]
enum BookVerb {
    /// List books, newest first
    List(List),
    /// Show a book
    Show(Named),
    /// Create a book, as a draft
    Create(Box<Create>),
    /// Create a draft with the rules of another book
    Clone(CloneBook),
    /// Activate a book: its codes can be assigned and redeemed
    Activate(Named),
    /// Pause a book: its codes cannot be assigned or redeemed for now
    Pause(Named),
    /// Close a book permanently
    Close(Named),
    /// Delete a book and its codes, if no code was ever assigned
    Delete(Delete),
}

/// Options of `books clone`.
#[derive(Debug, Args)]
struct CloneBook {
    #[command(flatten)]
    named: Named,
    /// The name; that of the book with " (copy)" if absent
    #[arg(long)]
    name: Option<String>,
}

/// Options of `books delete`.
#[derive(Debug, Args)]
struct Delete {
    #[command(flatten)]
    named: Named,
    /// Do not wait for the job that deletes a large book
    #[arg(long)]
    no_wait: bool,
}

/// A book.
#[derive(Debug, Args)]
struct Named {
    /// The book's id, or its exact name
    book: String,
}

#[derive(Debug, Args)]
struct List {
    /// Only books with this status
    #[arg(long, value_enum, ignore_case = true)]
    status: Option<BookStatus>,
    /// Only books whose name contains this text
    #[arg(long, short = 's', value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BookStatus {
    Draft,
    Active,
    Paused,
    Closed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CodeKind {
    /// A code is assigned before it is locked or redeemed
    Unique,
    /// The user who locks or redeems a free code becomes its holder
    Bearer,
    /// A code has no holder: many users redeem it
    Shared,
}

/// The rules of a new book.
#[derive(Debug, Args)]
struct Create {
    /// The name
    name: String,
    /// The description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How the codes get their holders; unique if absent
    #[arg(long, value_enum, ignore_case = true)]
    code_kind: Option<CodeKind>,
    /// The maximum number of codes that a user may hold or have redeemed; no limit if absent
    #[arg(long, value_name = "CODES")]
    max_codes_per_user: Option<i32>,
    /// How many times a code may be redeemed; once if absent
    #[arg(long, value_name = "TIMES")]
    max_redeems_per_user: Option<i32>,
    /// The expected number of codes; for information only
    #[arg(long, value_name = "CODES")]
    total_codes_expected: Option<i64>,
    /// The start of assigning and redeeming, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    starts_at: Option<String>,
    /// The end of assigning and redeeming
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// The number of days that a code is valid after its assignment; as long as the book if absent
    #[arg(long, value_name = "DAYS")]
    code_valid_days: Option<i32>,
    /// The default duration of a lock; 300 if absent
    #[arg(long, value_name = "SECONDS")]
    lock_ttl: Option<i32>,
    /// Redeem only locked codes
    #[arg(long)]
    require_lock: bool,
    /// The discount of a code, such as 10% or '5 EUR'; for information only
    #[arg(long, value_name = "DISCOUNT", value_parser = parse_discount)]
    discount: Option<Value>,
    /// Any JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    metadata: Option<Value>,
}

impl RunCommand for Books {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        match self.verb {
            BookVerb::List(list) => list.run(client).await,
            BookVerb::Show(named) => {
                let id = find(client, &named.book).await?;
                let book = client.ask(Request::get(&["coupon-books", &id])).await?;
                client.show(&book, book_card)
            }
            BookVerb::Create(create) => {
                let book = client.ask(Request::post(&["coupon-books"], create.body())).await?;
                client.show(&book, |book| {
                    format!(
                        "{}\n\nAdd codes with `cuponera generate` or `cuponera import`, then activate it.",
                        book_card(book)
                    )
                })
            }
            BookVerb::Clone(clone) => {
                let id = find(client, &clone.named.book).await?;
                let body = clone.name.map_or_else(|| json!({}), |name| json!({"name": name}));
                let book = client.ask(Request::post(&["coupon-books", &id, "clone"], body)).await?;
                client.show(&book, book_card)
            }
            BookVerb::Activate(named) => turn(client, &named.book, "ACTIVE").await,
            BookVerb::Pause(named) => turn(client, &named.book, "PAUSED").await,
            BookVerb::Close(named) => turn(client, &named.book, "CLOSED").await,
            BookVerb::Delete(delete) => delete.run(client).await,
        }
    }
}

impl Delete {
    /// The call deletes a small book; a large book is deleted by a job.
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let id = find(client, &self.named.book).await?;
        let job = client.ask(Request::delete(&["coupon-books", &id])).await?;
        let deleted = format!("{} is deleted", plain(&self.named.book));
        if job.value.is_null() {
            return if client.json { Ok(()) } else { print::print(&format!("{deleted}.")) };
        }
        let submitted = Submitted { job, waits: !self.no_wait };
        let words = |job: &Job| {
            format!("{deleted}, with {} codes{}", count(job.result("deletedCount")), job.in_time())
        };
        watch::wait_for_job(client, submitted, words).await.map(drop)
    }
}

async fn turn(client: &Client, book: &str, status: &str) -> Result<(), ClientError> {
    let id = find(client, book).await?;
    let book = client.ask(Request::patch(&["coupon-books", &id], json!({"status": status}))).await?;
    client.show(&book, |book| format!("{} is now {}.", text(book, "/name"), text(book, "/status")))
}

impl List {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 9] = [
            Column("ID", "/id", CellFormat::Text),
            Column("NAME", "/name", CellFormat::Text),
            Column("STATUS", "/status", CellFormat::Text),
            Column("CODES", "/generatedCount", CellFormat::Count),
            Column("AVAILABLE", "/counts/available", CellFormat::Count),
            Column("ASSIGNED", "/counts/assigned", CellFormat::Count),
            Column("LOCKED", "/counts/locked", CellFormat::Count),
            Column("REDEEMED", "/counts/redeemed", CellFormat::Count),
            Column("EXPIRES", "/expiresAt", CellFormat::Time),
        ];
        let status = self.status.map(|status| format!("{status:?}").to_uppercase());
        let ask = Request::get(&["coupon-books"]).with("status", status).with("q", self.search);
        let page = client.ask_page(ask, self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

fn book_card(book: &Value) -> String {
    const FIELDS: [Column; 23] = [
        Column("Name", "/name", CellFormat::Text),
        Column("Id", "/id", CellFormat::Text),
        Column("Status", "/status", CellFormat::Text),
        Column("Description", "/description", CellFormat::Text),
        Column("Kind of codes", "/codeKind", CellFormat::Text),
        Column("Codes", "/generatedCount", CellFormat::Count),
        Column("  available", "/counts/available", CellFormat::Count),
        Column("  assigned", "/counts/assigned", CellFormat::Count),
        Column("  locked", "/counts/locked", CellFormat::Count),
        Column("  redeemed", "/counts/redeemed", CellFormat::Count),
        Column("  void", "/counts/void", CellFormat::Count),
        Column("Expected", "/totalCodesExpected", CellFormat::Count),
        Column("Codes a user", "/maxCodesPerUser", CellFormat::Count),
        Column("Uses a code", "/maxRedeemsPerUser", CellFormat::Count),
        Column("Days a code is valid", "/codeValidDays", CellFormat::Count),
        Column("Lock, seconds", "/lockTtlSeconds", CellFormat::Count),
        Column("Needs a lock", "/requireLock", CellFormat::Text),
        Column("Discount", "/discount", CellFormat::Text),
        Column("Metadata", "/metadata", CellFormat::Text),
        Column("Starts", "/startsAt", CellFormat::Time),
        Column("Expires", "/expiresAt", CellFormat::Time),
        Column("Created", "/createdAt", CellFormat::Time),
        Column("Updated", "/updatedAt", CellFormat::Time),
    ];
    card(&FIELDS, book)
}

impl Create {
    /// Absent options are omitted; the server applies its defaults.
    fn body(self) -> Value {
        let fields = [
            ("name", Some(json!(self.name))),
            ("description", self.description.map(Value::from)),
            ("codeKind", self.code_kind.map(|kind| format!("{kind:?}").to_uppercase().into())),
            ("maxCodesPerUser", self.max_codes_per_user.map(Value::from)),
            ("maxRedeemsPerUser", self.max_redeems_per_user.map(Value::from)),
            ("totalCodesExpected", self.total_codes_expected.map(Value::from)),
            ("startsAt", self.starts_at.map(Value::from)),
            ("expiresAt", self.expires_at.map(Value::from)),
            ("codeValidDays", self.code_valid_days.map(Value::from)),
            ("lockTtlSeconds", self.lock_ttl.map(Value::from)),
            ("requireLock", self.require_lock.then_some(Value::Bool(true))),
            ("discount", self.discount),
            ("metadata", self.metadata),
        ];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect::<Map<_, _>>()
            .into()
    }
}

/// `10%`, or an amount and its currency.
fn parse_discount(text: &str) -> Result<Value, String> {
    if let Some(percent) = text.trim().strip_suffix('%') {
        return Ok(json!({"type": "PERCENT", "value": parse_amount(percent)?}));
    }
    let text = text.trim();
    let end = text.find(|char: char| char.is_ascii_alphabetic()).ok_or(DISCOUNT)?;
    let (amount, currency) = text.split_at(end);
    Ok(json!({"type": "FIXED", "value": parse_amount(amount)?, "currency": currency.to_uppercase()}))
}

/// A number that an `f64` represents without rounding.
fn parse_amount(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim().parse().map_err(|_| DISCOUNT)?;
    if !number.is_finite() {
        return Err(DISCOUNT.to_owned());
    }
    exact_f64(text.trim()).ok_or_else(|| "has too many digits: use at most 15".to_owned())
}

pub(super) fn parse_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => match json::faults(text, 1).first() {
            Some(fault) => Err(format!("{} {}", fault.field, fault.message)),
            None => Ok(value),
        },
        Ok(_) => Err("must be an object, such as '{\"channel\":\"mail\"}'".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Finds the id of a book given by its id or its exact name.
pub(super) async fn find(client: &Client, book: &str) -> Result<String, ClientError> {
    if let Ok(id) = book.trim().parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let ask = Request::get(&["coupon-books"]).with("q", Some(book)).with("limit", Some(LOOKUP_PAGE));
        let page = client.ask(ask.with("cursor", cursor)).await?;
        let named = page.items().iter().filter(|item| item["name"] == book);
        found.extend(named.filter_map(|item| item["id"].as_str().map(str::to_owned)));
        cursor = page.next_cursor();
        if cursor.is_none() {
            break;
        }
    }
    match &found[..] {
        [] => Err(ClientError::not_found(format!(
            "no book is named {:?}; see `cuponera books list`",
            plain(book)
        ))),
        [_] => Ok(found.remove(0)),
        several => Err(ClientError::Local(format!(
            "{} books are named {:?}; use one of the ids: {}",
            several.len(),
            plain(book),
            several.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discounts_are_read_as_people_write_them() {
        let fixed = json!({"type": "FIXED", "value": 5.5, "currency": "EUR"});
        for text in ["5.5 EUR", "5.5EUR", " 5.5 eur "] {
            assert_eq!(parse_discount(text), Ok(fixed.clone()), "{text}");
        }
        assert_eq!(parse_discount("10 %"), Ok(json!({"type": "PERCENT", "value": 10.0})));
        for text in ["", "10", "EUR", "%", "ten%", "inf%", "nan EUR"] {
            assert_eq!(parse_discount(text), Err(DISCOUNT.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused_and_not_sent() {
        for text in ["10.123456789012345678%", "12345678901234567890.01 EUR", "0.10000000000000001 EUR"] {
            let fault = parse_discount(text).expect_err(text);
            assert!(fault.contains("has too many digits"), "{fault}");
        }
        for (text, value) in [("10.10%", 10.1), ("0.30000000000000004%", 0.300_000_000_000_000_04)] {
            assert_eq!(parse_discount(text), Ok(json!({"type": "PERCENT", "value": value})), "{text}");
        }
    }

    #[test]
    fn metadata_is_sent_as_it_was_written_or_not_at_all() {
        for text in [
            r#"{"a": {"b": 0.1234567890123456789}}"#,
            r#"{"a": {"b": 1, "b": 2}}"#,
            r#"{"a": {"b": "\u0000"}}"#,
        ] {
            let fault = parse_object(text).expect_err(text);
            assert!(fault.starts_with("a.b "), "{fault}");
        }
        assert_eq!(parse_object(r#"{"a": "\\u0000"}"#), Ok(json!({"a": "\\u0000"})));
        assert!(parse_object("[1]").is_err() && parse_object("{").is_err());
    }
}
