//! `cuponera events`: lists the events of all codes or admin events, newest first, or follows the events of codes.

use clap::{Args, ValueEnum};
use cuponera_domain::admin_event;
use serde_json::Value;

use super::coupons::user_id;
use super::exchange::Request;
use super::fault::ClientError;
use super::follow::{PATH, follow};
use super::print::print;
use super::show::{CellFormat, Column, plain_json, table, text, time};
use super::{Client, Paging, RunCommand, books};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera events --book 'Summer 2027' --action redeem --from 2027-06-01T00:00:00Z
  cuponera events --user ana --limit 500 --json
  cuponera events --kind admin --subject book --action delete --from 2027-06-01T00:00:00Z
  cuponera events --follow

--kind admin lists the changes of books, API keys, users, logins, user pools, jobs and webhooks, for an ADMIN; --json shows the values before and after.

With --follow each new event is printed once, also after the connection was lost; under --json as one object per line. Ctrl-C ends it."
);

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Events of codes, or admin events
    #[arg(long, value_enum, ignore_case = true, default_value_t = Kind::Coupon)]
    kind: Kind,
    /// Only of codes of this book: its id, or its exact name
    #[arg(long, short)]
    book: Option<String>,
    /// Only of this user
    #[arg(long, short, value_parser = user_id)]
    user: Option<String>,
    /// Only with this action, such as redeem; with --kind admin, such as delete
    #[arg(long, value_parser = action)]
    action: Option<String>,
    /// With --kind admin: only changes of this kind of object, such as book
    #[arg(long, value_name = "KIND", value_parser = subject)]
    subject: Option<String>,
    /// With --kind admin: only changes of the objects with this id
    #[arg(long, value_name = "ID")]
    subject_id: Option<String>,
    /// Only by this actor, such as sweep, or service: followed by the id of an API key
    #[arg(long)]
    actor: Option<String>,
    /// Only from this time on, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Print the events that are committed from now on
    #[arg(long, short, conflicts_with_all = ["from", "to", "limit", "cursor"])]
    follow: bool,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Coupon,
    Admin,
}

fn action(text: &str) -> Result<String, String> {
    one_of(text, admin_event::actions_of_all_events())
}

fn subject(text: &str) -> Result<String, String> {
    one_of(text, admin_event::SUBJECTS.into_iter())
}

/// The word of the API for a text such as `change-secret`.
fn one_of(text: &str, mut words: impl Iterator<Item = &'static str> + Clone) -> Result<String, String> {
    let all = words.clone();
    let word = text.to_uppercase().replace('-', "_");
    let known = words.find(|known| *known == word);
    known.map(str::to_owned).ok_or_else(|| {
        let choices: Vec<String> = all.map(|known| known.to_lowercase().replace('_', "-")).collect();
        format!("must be one of {}", choices.join(", "))
    })
}

impl RunCommand for Events {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 7] = [
            Column("AT", "/at", CellFormat::Time),
            Column("ACTION", "/action", CellFormat::Text),
            Column("CODE", "/code", CellFormat::Text),
            Column("FROM", "/fromStatus", CellFormat::Text),
            Column("TO", "/toStatus", CellFormat::Text),
            Column("USER", "/userId", CellFormat::Text),
            Column("BY", "/actor", CellFormat::Text),
        ];
        const ADMIN_COLUMNS: [Column; 5] = [
            Column("AT", "/at", CellFormat::Time),
            Column("SUBJECT", "/subject", CellFormat::Text),
            Column("ACTION", "/action", CellFormat::Text),
            Column("ID", "/subjectId", CellFormat::Text),
            Column("BY", "/actor", CellFormat::Text),
        ];
        let is_admin = self.kind == Kind::Admin;
        let book = match &self.book {
            Some(book) => Some(books::find(client, book).await?),
            None => None,
        };
        let ask = Request::get(&PATH).with("couponBookId", book).with("userId", self.user);
        let ask =
            ask.with("action", self.action).with("subject", self.subject).with("subjectId", self.subject_id);
        let ask = ask.with("actor", self.actor).with("kind", is_admin.then_some("ADMIN"));
        if self.follow {
            let query = ask.with("follow", Some(true)).query;
            return follow(client, &query, async |data| {
                print(&if client.json { plain_json(data) } else { line(data) })
            })
            .await;
        }
        let page = client.ask_page(ask.with("from", self.from).with("to", self.to), self.paging).await?;
        let columns: &[Column] = if is_admin { &ADMIN_COLUMNS } else { &COLUMNS };
        client.show_page(&page, |items| table(columns, items))
    }
}

/// An event on one line.
pub(super) fn line(data: &str) -> String {
    let event: Value = serde_json::from_str(data).unwrap_or_default();
    let [at, action, code, user, actor] =
        ["/at", "/action", "/code", "/userId", "/actor"].map(|pointer| text(&event, pointer));
    format!("{}  {action:<8}  {code}  {user}  {actor}", time(&at))
}
