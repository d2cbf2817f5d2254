//! The subcommands that call a server over its public HTTP API.
//!
//! Guarantees: each change is sent under its own idempotency key, so a retry never repeats it; text from the server is
//! printed without characters that control a terminal; only answers go to standard output.

#[macro_use]
mod help;

mod address;
mod attempts;
pub(crate) mod audit;
mod books;
mod codes;
mod coupons;
mod distribute;
mod events;
mod exchange;
mod export;
mod fault;
mod follow;
mod import;
mod jobs;
mod listen;
mod login;
mod pools;
pub(crate) mod print;
mod progress;
mod schedule;
mod server;
mod session;
mod show;
mod statistics;
mod undo;
mod watch;
mod webhooks;

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use cuponera_domain::page::DEFAULT_LIMIT;
use exchange::{JsonDocument, Request};
pub(crate) use fault::ClientError;
use progress::Progress;
use server::Server;
pub(crate) use show::plain;

/// The end of the help page of the whole command.
pub(crate) const FIRST_STEPS: &str = help!(
    "First steps:
  cuponera doctor                                          # checks that everything is ready
  cuponera up                                              # prints the first admin's password
  cuponera login --email admin@example.com                 # in another terminal
  cuponera books create 'Summer 2027'
  cuponera generate --book 'Summer 2027' --quantity 1000
  cuponera books activate 'Summer 2027'
  cuponera assign --book 'Summer 2027' --user ana"
);

/// The subcommands that call a server.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Log in with email and password, and stay logged in
    #[command(after_long_help = session::LOGIN_HELP)]
    Login(WithServer<session::Login>),
    /// End this login, here and on the server
    #[command(after_long_help = statuses!())]
    Logout(WithServer<session::Logout>),
    /// Show the account or API key that this command uses
    #[command(after_long_help = statuses!())]
    Whoami(WithServer<session::Whoami>),
    /// Create, show and change coupon books
    #[command(after_long_help = books::HELP)]
    Books(WithServer<books::Books>),
    /// Generate codes from a pattern
    #[command(after_long_help = codes::GENERATE_HELP)]
    Generate(WithServer<codes::Generate>),
    /// Import codes from a CSV file
    #[command(after_long_help = import::HELP)]
    Import(WithServer<import::Import>),
    /// List the codes of a book, find codes of all books, or show a code
    #[command(after_long_help = codes::HELP)]
    Codes(Box<WithServer<codes::Codes>>),
    /// Show how many codes a pattern has left
    #[command(after_long_help = statuses!())]
    Capacity(WithServer<codes::Capacity>),
    /// Assign a code to a user: a random code of a book, or a given code
    #[command(after_long_help = coupons::ASSIGN_HELP)]
    Assign(WithServer<coupons::Assign>),
    /// Assign existing codes of a book to the users that a CSV file names
    #[command(after_long_help = import::ASSIGN_HELP)]
    AssignFile(WithServer<import::AssignFile>),
    /// Lock a code for its holder for a limited time
    #[command(after_long_help = coupons::TILL_HELP)]
    Lock(WithServer<coupons::Lock>),
    /// Release a lock
    #[command(after_long_help = statuses!())]
    Unlock(WithServer<coupons::Unlock>),
    /// Redeem a code once
    #[command(after_long_help = coupons::TILL_HELP)]
    Redeem(WithServer<coupons::Redeem>),
    /// Check whether a code could be redeemed now, without changing it
    #[command(after_long_help = statuses!())]
    Validate(WithServer<coupons::Validate>),
    /// Take a code back from its holder, if it was never used
    #[command(after_long_help = undo::HELP)]
    Revoke(WithServer<undo::Revoke>),
    /// Give the use of a redemption back
    #[command(after_long_help = undo::HELP)]
    Rollback(WithServer<undo::Rollback>),
    /// Void codes permanently: named codes, those of a job, or those of a book
    #[command(after_long_help = undo::VOID_HELP)]
    Void(Box<WithServer<undo::Void>>),
    /// List redemptions, newest first, or show one
    #[command(after_long_help = undo::HELP)]
    Redemptions(Box<WithServer<undo::Redemptions>>),
    /// Show the history of a code, newest first
    #[command(after_long_help = statuses!())]
    History(WithServer<coupons::History>),
    /// List the events of all codes or admin events, newest first, or follow them
    #[command(after_long_help = events::HELP)]
    Events(Box<WithServer<events::Events>>),
    /// Create, show and fill user pools
    #[command(after_long_help = pools::HELP)]
    Pools(WithServer<pools::Pools>),
    /// Distribute codes of a book to the users of a pool
    #[command(after_long_help = distribute::HELP)]
    Distribute(WithServer<distribute::Distribute>),
    /// Show the statistics of a book, or of all books, with a chart
    #[command(after_long_help = statistics::HELP)]
    Stats(WithServer<statistics::Statistics>),
    /// Take back the unused codes of a distribution
    #[command(after_long_help = undo::TAKE_BACK_HELP)]
    TakeBack(WithServer<undo::TakeBack>),
    /// Export codes, assignments, redemptions or events to a CSV file
    #[command(after_long_help = export::HELP)]
    Export(Box<WithServer<export::Export>>),
    /// List, watch, cancel and retry jobs
    #[command(after_long_help = jobs::HELP)]
    Jobs(WithServer<jobs::Jobs>),
    /// Create, show, change and test webhooks, and show their deliveries
    #[command(after_long_help = webhooks::HELP)]
    Webhooks(Box<WithServer<webhooks::Webhooks>>),
    /// Print events, and send them to a receiver under development, signed as webhooks are
    #[command(after_long_help = listen::HELP)]
    Listen(WithServer<listen::Listen>),
}

/// A subcommand with the options of its server.
#[derive(Debug, Args)]
pub(crate) struct WithServer<V: Args> {
    #[command(flatten)]
    verb: V,
    #[command(flatten)]
    server: ServerArgs,
}

/// Options that all subcommands share: server, credential, output.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server and output")]
pub(crate) struct ServerArgs {
    /// The URL of the server
    #[arg(long, global = true, env = "CUPONERA_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// An API key, instead of a login; set it in the environment to hide it from other users
    #[arg(long, global = true, env = "CUPONERA_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<SecretString>,
    /// Print only the server's JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress on standard error
    #[arg(long, short, global = true)]
    quiet: bool,
    /// How long to retry while the server is unreachable or busy
    #[arg(long, global = true, env = "CUPONERA_PATIENCE", default_value = "10s", value_name = "TIME", value_parser = humantime::parse_duration)]
    patience: Duration,
}

/// Options of a list: the page.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// The maximum number of items, up to 500; 50 if absent
    #[arg(long, value_name = "ITEMS")]
    limit: Option<u32>,
    /// The cursor that the previous page printed
    #[arg(long)]
    cursor: Option<String>,
}

/// A subcommand.
pub(crate) trait RunCommand: Args {
    /// Runs the subcommand.
    async fn run(self, client: &Client) -> Result<(), ClientError>;
}

/// A server, and the output options.
#[derive(Debug)]
pub(crate) struct Client {
    server: Server,
    json: bool,
    quiet: bool,
    /// The message to print if the user interrupts now.
    on_interrupt: RefCell<String>,
}

/// Runs a subcommand and returns its exit status.
pub(crate) fn run(verb: Verb) -> ExitCode {
    match verb {
        Verb::Login(to) => to.run(),
        Verb::Logout(to) => to.run(),
        Verb::Whoami(to) => to.run(),
        Verb::Books(to) => to.run(),
        Verb::Generate(to) => to.run(),
        Verb::Import(to) => to.run(),
        Verb::Codes(to) => to.run(),
        Verb::Capacity(to) => to.run(),
        Verb::Assign(to) => to.run(),
        Verb::AssignFile(to) => to.run(),
        Verb::Lock(to) => to.run(),
        Verb::Unlock(to) => to.run(),
        Verb::Redeem(to) => to.run(),
        Verb::Validate(to) => to.run(),
        Verb::Revoke(to) => to.run(),
        Verb::Rollback(to) => to.run(),
        Verb::Void(to) => to.run(),
        Verb::Redemptions(to) => to.run(),
        Verb::History(to) => to.run(),
        Verb::Events(to) => to.run(),
        Verb::Pools(to) => to.run(),
        Verb::Distribute(to) => to.run(),
        Verb::Stats(to) => to.run(),
        Verb::TakeBack(to) => to.run(),
        Verb::Export(to) => to.run(),
        Verb::Jobs(to) => to.run(),
        Verb::Webhooks(to) => to.run(),
        Verb::Listen(to) => to.run(),
    }
}

impl<V: RunCommand> WithServer<V> {
    pub(crate) fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return ClientError::Local(error.to_string()).report(),
        };
        let done = runtime.block_on(async {
            let client = Client::new(&self.server)?;
            tokio::select! {
                done = self.verb.run(&client) => done,
                () = interrupted(&client) => Err(ClientError::Interrupted(client.on_interrupt.take())),
            }
        });
        // A blocking read of standard input must not delay the exit.
        runtime.shutdown_background();
        done.map_or_else(ClientError::report, |()| ExitCode::SUCCESS)
    }
}

/// Waits for Ctrl-C, and then for a running refresh of tokens, which must not be interrupted.
async fn interrupted(client: &Client) {
    let _ = tokio::signal::ctrl_c().await;
    client.server.has_renewed().await;
}

impl Client {
    fn new(args: &ServerArgs) -> Result<Self, ClientError> {
        let api_key =
            args.api_key.as_ref().map(|key| key.expose_secret().trim()).filter(|key| !key.is_empty());
        let server = Server::new(&args.url, api_key, args.patience)?;
        let on_interrupt = RefCell::new("stopped".to_owned());
        Ok(Self { server, json: args.json, quiet: args.quiet, on_interrupt })
    }

    /// Sends a call. Under `--json` the problem document of a rejection is printed.
    async fn ask(&self, ask: Request<'_>) -> Result<JsonDocument, ClientError> {
        let answer = self.server.send(ask).await;
        if let (true, Err(fault)) = (self.json, &answer) {
            print_rejection(fault)?;
        }
        answer
    }

    /// Fetches a page of a list. If the server returns a short or empty page before the end of the list, fetches the
    /// next pages until the page has the wanted number of items.
    async fn ask_page(&self, ask: Request<'_>, paging: Paging) -> Result<JsonDocument, ClientError> {
        let wanted = paging.limit.unwrap_or(DEFAULT_LIMIT);
        let first = ask.clone().with("limit", paging.limit).with("cursor", paging.cursor);
        let mut page = self.ask(first).await?;
        while let Some(cursor) = page.next_cursor() {
            let missing = wanted.saturating_sub(u32::try_from(page.items().len()).unwrap_or(u32::MAX));
            if missing == 0 {
                break;
            }
            let next = ask.clone().with("limit", Some(missing)).with("cursor", Some(cursor));
            page.append(self.ask(next).await?);
        }
        Ok(page)
    }

    /// Prints an answer, as JSON or as text.
    fn show(&self, answer: &JsonDocument, words: impl FnOnce(&Value) -> String) -> Result<(), ClientError> {
        if self.json {
            print::print(&show::plain_json(&answer.text))
        } else {
            print::print(&words(&answer.value))
        }
    }

    /// Prints a page of a list, as JSON or as a table with the cursor of the next page.
    fn show_page(
        &self,
        page: &JsonDocument,
        words: impl FnOnce(&[Value]) -> String,
    ) -> Result<(), ClientError> {
        self.show(page, |_| words(page.items()))?;
        if let (false, Some(cursor)) = (self.json, page.next_cursor()) {
            let total = page.value["total"].as_u64();
            let of = total.map_or_else(String::new, |total| format!(" of {}", show::count(total)));
            print::note(&format!(
                "{}{of} shown; for the next page add --cursor {}",
                page.items().len(),
                plain(&cursor)
            ));
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress::start(self.quiet)
    }

    /// Sets the message to print if the user interrupts.
    fn on_interrupt(&self, message: String) {
        self.on_interrupt.replace(message);
    }
}

/// Prints the problem document of a rejection, for `--json`.
fn print_rejection(fault: &ClientError) -> Result<(), ClientError> {
    match fault {
        ClientError::Rejected(rejected) => {
            print::print(&rejected.document.as_deref().map(show::plain_json).unwrap_or_default())
        }
        _ => Ok(()),
    }
}
