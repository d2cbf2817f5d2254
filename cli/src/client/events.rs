//! `cuponera events`: lists the events of all codes or admin events, newest first, or follows the events of codes.

use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::attempts::AttemptError;
use super::coupons::user_id;
use super::exchange::Request;
use super::fault::ClientError;
use super::print::print;
use super::show::{CellFormat, Column, plain_json, table, text, time};
use super::{Client, Paging, RunCommand, books};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera events --book 'Summer 2027' --action redeem --from 2027-06-01T00:00:00Z
  cuponera events --user ana --limit 500 --json
  cuponera events --kind admin --from 2027-06-01T00:00:00Z
  cuponera events --follow

--kind admin lists the changes of books, API keys, users, logins, user pools and jobs, for an ADMIN; --json shows the values before and after.

With --follow each new event is printed once, also after the connection was lost; under --json as one object per line. Ctrl-C ends it."
);

/// Timeout of a stream without data. The server sends a heartbeat every 15 seconds.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
const PATH: [&str; 1] = ["events"];

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
    /// Only with this action
    #[arg(long, value_enum, ignore_case = true)]
    action: Option<Action>,
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    Assign,
    Lock,
    Unlock,
    Expire,
    Redeem,
    Revoke,
    Rollback,
    Void,
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
        let action = self.action.map(|action| format!("{action:?}").to_uppercase());
        let ask = Request::get(&PATH).with("couponBookId", book).with("userId", self.user);
        let ask =
            ask.with("action", action).with("actor", self.actor).with("kind", is_admin.then_some("ADMIN"));
        if self.follow {
            return follow(client, &ask.with("follow", Some(true)).query).await;
        }
        let page = client.ask_page(ask.with("from", self.from).with("to", self.to), self.paging).await?;
        let columns: &[Column] = if is_admin { &ADMIN_COLUMNS } else { &COLUMNS };
        client.show_page(&page, |items| table(columns, items))
    }
}

/// Prints events until the command is interrupted. A lost connection is resumed after the last event.
async fn follow(client: &Client, query: &[(&'static str, String)]) -> Result<(), ClientError> {
    let mut blocks = Blocks::default();
    let mut attempts = client.server.attempts();
    loop {
        let fault = match open(client, query, blocks.last.as_deref()).await {
            Ok(mut response) => {
                attempts = client.server.attempts();
                blocks.rest.clear();
                read(client, &mut response, &mut blocks).await?
            }
            Err(fault) => fault,
        };
        match fault {
            AttemptError::Permanent(fault) => return Err(fault),
            AttemptError::Transient { fault, after, .. } => attempts.pause(fault, after).await?,
        }
    }
}

async fn open(
    client: &Client,
    query: &[(&'static str, String)],
    last: Option<&str>,
) -> Result<Response, AttemptError> {
    let login = client.server.token().await.map_err(AttemptError::Permanent)?;
    let mut request = client.server.request(Method::GET, &PATH, query, login.as_ref());
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    let sent = timeout(IDLE_TIMEOUT, request.send()).await.map_err(|_| stopped())?;
    client.server.judge(sent).await
}

/// Prints the events of a response. Returns why it ended.
async fn read(
    client: &Client,
    response: &mut Response,
    blocks: &mut Blocks,
) -> Result<AttemptError, ClientError> {
    loop {
        match timeout(IDLE_TIMEOUT, response.chunk()).await {
            Ok(Ok(Some(piece))) => {
                for data in blocks.take(&piece) {
                    print(&if client.json { plain_json(&data) } else { line(&data) })?;
                }
            }
            Ok(Ok(None)) | Err(_) => return Ok(stopped()),
            Ok(Err(error)) => return Ok(client.server.trouble(&error)),
        }
    }
}

fn stopped() -> AttemptError {
    let fault = ClientError::Unavailable("the server stopped sending events".to_owned());
    AttemptError::Transient { fault, after: None, arrived: false }
}

/// An event on one line.
fn line(data: &str) -> String {
    let event: Value = serde_json::from_str(data).unwrap_or_default();
    let [at, action, code, user, actor] =
        ["/at", "/action", "/code", "/userId", "/actor"].map(|pointer| text(&event, pointer));
    format!("{}  {action:<8}  {code}  {user}  {actor}", time(&at))
}

/// The blocks of a stream of server-sent events.
#[derive(Debug, Default)]
struct Blocks {
    rest: Vec<u8>,
    /// The last id.
    last: Option<String>,
}

impl Blocks {
    /// The data of the blocks that end in this piece.
    fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut found = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            found.extend(field("data: ").map(str::to_owned));
            if let Some(id) = field("id: ") {
                self.last = Some(id.to_owned());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_the_pieces_and_the_last_id_is_kept() {
        let stream = b"retry: 2000\n\nid: 1\n\nid: 2\nevent: event\ndata: {\"a\": \"\xc3\xb1\"}\n\n:\n\nid: 3\n\nid: 4\nda";
        for size in 1..stream.len() {
            let mut blocks = Blocks::default();
            let found: Vec<String> = stream.chunks(size).flat_map(|piece| blocks.take(piece)).collect();
            assert_eq!(found, ["{\"a\": \"ñ\"}"]);
            assert_eq!(blocks.last.as_deref(), Some("3"));
        }
    }
}
