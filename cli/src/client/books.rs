//! Coupon books: made, listed, activated, closed; found by id or by name.

use clap::{Args, Subcommand, ValueEnum};
use cuponera_core::json;
use cuponera_core::number::exact_f64;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::exchange::Ask;
use super::fault::Fault;
use super::show::{Column, Look, card, count, plain, table, text};
use super::watch::{self, Job, Submitted};
use super::{Client, Paging, Work, say};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera books create 'Summer 2027' --max-codes-per-user 1 --discount 10%
  cuponera books activate 'Summer 2027'
  cuponera books list --status active
  cuponera books show 'Summer 2027' --json

A book may be named by its id or by its exact name, here and wherever a verb takes a book."
);

/// How a discount is written.
const DISCOUNT: &str = "such as 10% or '5 EUR'";
/// How many books a page has while a name is looked up: the most there may be.
const LOOKUP_PAGE: u32 = 500;

/// Coupon books.
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
    /// Make a book; it starts as a draft
    Create(Box<Create>),
    /// Let its codes be given out and redeemed
    Activate(Named),
    /// Stop giving out and redeeming for now
    Pause(Named),
    /// End it for good
    Close(Named),
    /// Delete it and its codes; only while none was ever assigned
    Delete(Delete),
}

/// A book to be deleted.
#[derive(Debug, Args)]
struct Delete {
    #[command(flatten)]
    named: Named,
    /// Do not wait until a large book is deleted
    #[arg(long)]
    no_wait: bool,
}

/// A book.
#[derive(Debug, Args)]
struct Named {
    /// Its id, or its exact name
    book: String,
}

#[derive(Debug, Args)]
struct List {
    /// Only those in this state
    #[arg(long, value_enum, ignore_case = true)]
    status: Option<BookStatus>,
    /// Only those whose name has this in it
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

/// The rules of a new book.
#[derive(Debug, Args)]
struct Create {
    /// Its name
    name: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How many codes one user may hold or have redeemed; no limit if absent
    #[arg(long, value_name = "CODES")]
    max_codes_per_user: Option<i32>,
    /// How often a code may be redeemed; once if absent
    #[arg(long, value_name = "TIMES")]
    max_redeems_per_user: Option<i32>,
    /// How many codes there are to be; it only informs
    #[arg(long, value_name = "CODES")]
    total_codes_expected: Option<i64>,
    /// From when on codes are given out and redeemed, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    starts_at: Option<String>,
    /// Until when codes are given out and redeemed
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// How long a lock holds if nothing is said; 300 if absent
    #[arg(long, value_name = "SECONDS")]
    lock_ttl: Option<i32>,
    /// Redeem only what is locked
    #[arg(long)]
    require_lock: bool,
    /// What the shop gives for a code, such as 10% or '5 EUR'; it only informs
    #[arg(long, value_name = "DISCOUNT", value_parser = parse_discount)]
    discount: Option<Value>,
    /// Any JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    metadata: Option<Value>,
}

impl Work for Books {
    async fn run(self, client: &Client) -> Result<(), Fault> {
        match self.verb {
            BookVerb::List(list) => list.run(client).await,
            BookVerb::Show(named) => {
                let id = find(client, &named.book).await?;
                let book = client.ask(Ask::get(&["coupon-books", &id])).await?;
                client.show(&book, book_card)
            }
            BookVerb::Create(create) => {
                let book = client.ask(Ask::post(&["coupon-books"], create.body())).await?;
                client.show(&book, |book| {
                    format!(
                        "{}\n\nAdd codes with `cuponera generate` or `cuponera import`, then activate it.",
                        book_card(book)
                    )
                })
            }
            BookVerb::Activate(named) => turn(client, &named.book, "ACTIVE").await,
            BookVerb::Pause(named) => turn(client, &named.book, "PAUSED").await,
            BookVerb::Close(named) => turn(client, &named.book, "CLOSED").await,
            BookVerb::Delete(delete) => delete.run(client).await,
        }
    }
}

impl Delete {
    /// A small book is gone with the answer; a large one is deleted by a job.
    async fn run(self, client: &Client) -> Result<(), Fault> {
        let id = find(client, &self.named.book).await?;
        let job = client.ask(Ask::delete(&["coupon-books", &id])).await?;
        let deleted = format!("{} is deleted", plain(&self.named.book));
        if job.value.is_null() {
            return if client.json { Ok(()) } else { say::say(&format!("{deleted}.")) };
        }
        let submitted = Submitted { job, waits: !self.no_wait };
        let words = |job: &Job| {
            format!("{deleted}, with {} codes{}", count(job.result("deletedCount")), job.in_time())
        };
        watch::see_through(client, submitted, words).await.map(drop)
    }
}

async fn turn(client: &Client, book: &str, status: &str) -> Result<(), Fault> {
    let id = find(client, book).await?;
    let book = client.ask(Ask::patch(&["coupon-books", &id], json!({"status": status}))).await?;
    client.show(&book, |book| format!("{} is {} now.", text(book, "/name"), text(book, "/status")))
}

impl List {
    async fn run(self, client: &Client) -> Result<(), Fault> {
        const COLUMNS: [Column; 9] = [
            Column("ID", "/id", Look::Text),
            Column("NAME", "/name", Look::Text),
            Column("STATUS", "/status", Look::Text),
            Column("CODES", "/generatedCount", Look::Count),
            Column("AVAILABLE", "/counts/available", Look::Count),
            Column("ASSIGNED", "/counts/assigned", Look::Count),
            Column("LOCKED", "/counts/locked", Look::Count),
            Column("REDEEMED", "/counts/redeemed", Look::Count),
            Column("EXPIRES", "/expiresAt", Look::Time),
        ];
        let status = self.status.map(|status| format!("{status:?}").to_uppercase());
        let ask = Ask::get(&["coupon-books"]).with("status", status).with("q", self.search);
        let page = client.ask_page(ask, self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

fn book_card(book: &Value) -> String {
    const FIELDS: [Column; 21] = [
        Column("Name", "/name", Look::Text),
        Column("Id", "/id", Look::Text),
        Column("Status", "/status", Look::Text),
        Column("Description", "/description", Look::Text),
        Column("Codes", "/generatedCount", Look::Count),
        Column("  available", "/counts/available", Look::Count),
        Column("  assigned", "/counts/assigned", Look::Count),
        Column("  locked", "/counts/locked", Look::Count),
        Column("  redeemed", "/counts/redeemed", Look::Count),
        Column("  void", "/counts/void", Look::Count),
        Column("Expected", "/totalCodesExpected", Look::Count),
        Column("Codes a user", "/maxCodesPerUser", Look::Count),
        Column("Uses a code", "/maxRedeemsPerUser", Look::Count),
        Column("Lock, seconds", "/lockTtlSeconds", Look::Count),
        Column("Needs a lock", "/requireLock", Look::Text),
        Column("Discount", "/discount", Look::Text),
        Column("Metadata", "/metadata", Look::Text),
        Column("Starts", "/startsAt", Look::Time),
        Column("Expires", "/expiresAt", Look::Time),
        Column("Created", "/createdAt", Look::Time),
        Column("Updated", "/updatedAt", Look::Time),
    ];
    card(&FIELDS, book)
}

impl Create {
    /// What is absent is left to the server.
    fn body(self) -> Value {
        let fields = [
            ("name", Some(json!(self.name))),
            ("description", self.description.map(Value::from)),
            ("maxCodesPerUser", self.max_codes_per_user.map(Value::from)),
            ("maxRedeemsPerUser", self.max_redeems_per_user.map(Value::from)),
            ("totalCodesExpected", self.total_codes_expected.map(Value::from)),
            ("startsAt", self.starts_at.map(Value::from)),
            ("expiresAt", self.expires_at.map(Value::from)),
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

/// A number that is sent as it was written, not rounded.
fn parse_amount(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim().parse().map_err(|_| DISCOUNT)?;
    if !number.is_finite() {
        return Err(DISCOUNT.to_owned());
    }
    exact_f64(text.trim()).ok_or_else(|| "has more digits than can be kept: use at most 15".to_owned())
}

fn parse_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => match json::faults(text, 1).first() {
            Some(fault) => Err(format!("{} {}", fault.field, fault.message)),
            None => Ok(value),
        },
        Ok(_) => Err("must be an object, such as '{\"channel\":\"mail\"}'".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The id of a book that is named by its id or by its exact name.
pub(super) async fn find(client: &Client, book: &str) -> Result<String, Fault> {
    if let Ok(id) = book.trim().parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let ask = Ask::get(&["coupon-books"]).with("q", Some(book)).with("limit", Some(LOOKUP_PAGE));
        let page = client.ask(ask.with("cursor", cursor)).await?;
        let named = page.items().iter().filter(|item| item["name"] == book);
        found.extend(named.filter_map(|item| item["id"].as_str().map(str::to_owned)));
        cursor = page.next_cursor();
        if cursor.is_none() {
            break;
        }
    }
    match &found[..] {
        [] => Err(Fault::not_found(format!(
            "no book is named {:?}: `cuponera books list` shows them",
            plain(book)
        ))),
        [_] => Ok(found.remove(0)),
        several => Err(Fault::Here(format!(
            "{} books are named {:?}; name one by its id: {}",
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
            assert!(fault.contains("more digits than can be kept"), "{fault}");
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
