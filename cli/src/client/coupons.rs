//! `cuponera assign`, `lock`, `unlock`, `redeem`, `validate` and `history`.

use clap::{ArgGroup, Args};
use cuponera_domain::coupon::code::Code;
use cuponera_domain::principal::parse_user_id;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::exchange::{JsonDocument, Request};
use super::fault::ClientError;
use super::show::{CellFormat, Column, card, count, table, text, time};
use super::{Client, Paging, RunCommand, books};

pub(super) const ASSIGN_HELP: &str = help!(
    "Examples:
  cuponera assign --book 'Summer 2027' --user ana
  cuponera assign --book 'Summer 2027' --user ana --recipient-key 'mailing 7, customer 4711'
  cuponera assign SUMMER-ABCD-1234 --user ana

With --recipient-key a repeated call gets the code of the first one, at any time."
);

pub(super) const TILL_HELP: &str = help!(
    "Examples:
  cuponera lock SUMMER-ABCD-1234 --user ana --ttl 60
  cuponera redeem SUMMER-ABCD-1234 --user ana --reference receipt-4711
  cuponera redeem SUMMER-ABCD-1234 --user ana --lock-id 0199b1f0-0000-7000-8000-000000000000
  cuponera redeem FLYER-ABCD-1234

With --lock-id the call is rejected if that lock is no longer the current one. With --reference a repeated call shows the first redemption.
A code of a BEARER book may be redeemed without --user: its holder is then bearer:<code>. A code of a SHARED book is redeemed by many users."
);

/// Options of `assign`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["code", "book"]))]
pub(crate) struct Assign {
    /// The code
    #[arg(value_parser = parse_code)]
    code: Option<String>,
    /// Assign a random code of this book: its id, or its exact name
    #[arg(long, short)]
    book: Option<String>,
    #[command(flatten)]
    user: User,
    /// With --book: your own key of the recipient
    #[arg(long, value_name = "KEY", conflicts_with = "code")]
    recipient_key: Option<String>,
}

/// The user that a call acts for.
#[derive(Debug, Args)]
struct User {
    /// The id of the user; optional for a login with the role USER, and for redeem and validate of codes of BEARER books
    #[arg(long = "user", short = 'u', value_name = "USER", value_parser = user_id)]
    id: Option<String>,
}

/// A code, and the user that the call acts for.
#[derive(Debug, Args)]
struct Held {
    /// The code
    #[arg(value_parser = parse_code)]
    code: String,
    #[command(flatten)]
    user: User,
}

/// Options of `lock`.
#[derive(Debug, Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    held: Held,
    /// The duration of the lock; the book's default if absent
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<i32>,
}

/// Options of `unlock`.
#[derive(Debug, Args)]
pub(crate) struct Unlock {
    #[command(flatten)]
    held: Held,
    /// Release only the lock with this id
    #[arg(long, value_name = "ID")]
    lock_id: Option<Uuid>,
    /// Release the lock of any user (admins only); of a code of a SHARED book with --lock-id
    #[arg(long)]
    force: bool,
}

/// Options of `redeem`.
#[derive(Debug, Args)]
pub(crate) struct Redeem {
    #[command(flatten)]
    held: Held,
    /// Require the lock with this id
    #[arg(long, value_name = "ID")]
    lock_id: Option<Uuid>,
    /// Your own reference, such as a receipt number: the code is redeemed once for each
    #[arg(long, value_name = "TEXT")]
    reference: Option<String>,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    held: Held,
    /// Require the lock with this id
    #[arg(long, value_name = "ID")]
    lock_id: Option<Uuid>,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The code
    #[arg(value_parser = parse_code)]
    code: String,
    #[command(flatten)]
    paging: Paging,
}

/// Parses a code with the rules of the server.
pub(super) fn parse_code(text: &str) -> Result<String, String> {
    Code::parse(text).map(Code::into_string).map_err(|error| error.to_string())
}

/// Parses a user id with the rules of the server.
pub(super) fn user_id(text: &str) -> Result<String, &'static str> {
    parse_user_id(text).map(str::to_owned)
}

impl Held {
    /// Calls an operation of the code. Null values of `rest` are omitted.
    async fn call(self, client: &Client, verb: &str, rest: Value) -> Result<JsonDocument, ClientError> {
        let mut body = self.user.body();
        if let Value::Object(rest) = rest {
            body.extend(rest.into_iter().filter(|(_, value)| !value.is_null()));
        }
        client.ask(Request::post(&["coupons", &self.code, verb], body.into())).await
    }
}

impl User {
    fn body(self) -> Map<String, Value> {
        self.id.map(|id| ("userId".to_owned(), id.into())).into_iter().collect()
    }
}

impl RunCommand for Assign {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let mut body = self.user.body();
        let assignment = match (self.code, self.book) {
            (Some(code), _) => client.ask(Request::post(&["assignments", &code], body.into())).await?,
            (None, book) => {
                let book = books::find(client, &book.unwrap_or_default()).await?;
                body.insert("couponBookId".to_owned(), book.into());
                if let Some(key) = self.recipient_key {
                    body.insert("recipientKey".to_owned(), key.into());
                }
                client.ask(Request::post(&["assignments", "random"], body.into())).await?
            }
        };
        client.show(&assignment, |assignment| {
            let [code, user] = ["/code", "/userId"].map(|pointer| text(assignment, pointer));
            let status = text(assignment, "/status");
            let and =
                if status == "ASSIGNED" { String::new() } else { format!(" (current status: {status})") };
            format!("{code} is assigned to {user}{and}.")
        })
    }
}

impl RunCommand for Lock {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let lock = self.held.call(client, "lock", json!({"ttlSeconds": self.ttl})).await?;
        client.show(&lock, |lock| {
            let [code, until, id] = ["/code", "/lockedUntil", "/lockId"].map(|pointer| text(lock, pointer));
            format!("{code} is locked until {}.\nLock id: {id}", time(&until))
        })
    }
}

impl RunCommand for Unlock {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let rest = json!({"lockId": self.lock_id, "force": self.force.then_some(true)});
        let unlocked = self.held.call(client, "unlock", rest).await?;
        client.show(&unlocked, |unlocked| format!("{} is not locked.", text(unlocked, "/code")))
    }
}

impl RunCommand for Redeem {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let rest = json!({"lockId": self.lock_id, "reference": self.reference});
        let redemption = self.held.call(client, "redeem", rest).await?;
        client.show(&redemption, |redemption| {
            let [code, id] = ["/code", "/redemptionId"].map(|pointer| text(redemption, pointer));
            let number = |name: &str| redemption[name].as_u64().map(count);
            let used = number("redeemCount").unwrap_or_default();
            let of_most = number("maxRedeems").map_or_else(String::new, |most| format!(" of {most}"));
            let last = if redemption["isFinalRedeem"] == true { ", the last" } else { "" };
            let was = if redemption["replayed"] == true {
                "was redeemed with this reference before"
            } else {
                "is redeemed"
            };
            format!("{code} {was}: use {used}{of_most}{last}.\nRedemption id: {id}")
        })
    }
}

impl RunCommand for Validate {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let valid = self.held.call(client, "validate", json!({"lockId": self.lock_id})).await?;
        client.show(&valid, |valid| {
            format!("The code could be redeemed now.\n\n{}", coupon_card(&valid["coupon"]))
        })
    }
}

impl RunCommand for History {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 7] = [
            Column("AT", "/at", CellFormat::Time),
            Column("ACTION", "/action", CellFormat::Text),
            Column("FROM", "/fromStatus", CellFormat::Text),
            Column("TO", "/toStatus", CellFormat::Text),
            Column("USER", "/userId", CellFormat::Text),
            Column("BY", "/actor", CellFormat::Text),
            Column("REASON", "/reason", CellFormat::Text),
        ];
        let path = ["coupons", &self.code, "history"];
        let page = client.ask_page(Request::get(&path), self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

/// All fields of a code.
pub(super) fn coupon_card(coupon: &Value) -> String {
    const FIELDS: [Column; 22] = [
        Column("Code", "/code", CellFormat::Text),
        Column("Status", "/status", CellFormat::Text),
        Column("Suspended", "/suspended", CellFormat::Text),
        Column("Book", "/couponBookId", CellFormat::Text),
        Column("Kind", "/kind", CellFormat::Text),
        Column("User", "/userId", CellFormat::Text),
        Column("Uses", "/redeemCount", CellFormat::Count),
        Column("Uses allowed", "/maxRedeems", CellFormat::Count),
        Column("Uses allowed in total", "/maxRedemptions", CellFormat::Count),
        Column("Uses allowed for each user", "/maxRedeemsPerUser", CellFormat::Count),
        Column("Uses locked", "/lockedCount", CellFormat::Count),
        Column("Uses of the user", "/user/redeemCount", CellFormat::Count),
        Column("Locked by the user until", "/user/lockedUntil", CellFormat::Time),
        Column("Assigned", "/assignedAt", CellFormat::Time),
        Column("Locked", "/lockedAt", CellFormat::Time),
        Column("Locked until", "/lockedUntil", CellFormat::Time),
        Column("Redeemed", "/redeemedAt", CellFormat::Time),
        Column("Starts", "/startsAt", CellFormat::Time),
        Column("Expires", "/expiresAt", CellFormat::Time),
        Column("Metadata", "/metadata", CellFormat::Text),
        Column("Created", "/createdAt", CellFormat::Time),
    ];
    card(&FIELDS, coupon)
}
