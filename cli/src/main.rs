//! The `cuponera` program: parses the command line and runs one subcommand.

mod admin;
mod archive;
mod audit;
mod banner;
mod client;
mod database;
mod doctor;
mod forget;
mod health;
mod reconcile;
mod redrive;
mod secrets;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use cuponera_domain::id::BookId;
use cuponera_platform::config::Settings;
use cuponera_platform::lifecycle;

/// Coupon books with millions of codes, each redeemed exactly as often as allowed.
#[derive(Debug, Parser)]
#[command(name = "cuponera", version, max_term_width = 110, after_long_help = client::FIRST_STEPS)]
struct Cuponera {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the API, the worker and a private Postgres (unless a database is configured) in one process.
    Up {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Upgrade the database schema to this version, then exit.
    Migrate {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Retry the jobs of all dead letters, and delete the dead letters from their queue.
    Redrive {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Compare the statistics with a recount of all codes, events and redemptions.
    #[command(after_long_help = reconcile::HELP)]
    Reconcile {
        /// Only this book; all books and businesses by default.
        #[arg(long, value_name = "ID")]
        book: Option<uuid::Uuid>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Verify and export the seals over the event logs, and show their state; `up` may be running.
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    /// Erase a user of a business: a pseudonym takes the place of the id everywhere; `up` may be running.
    #[command(after_long_help = forget::HELP)]
    Forget {
        #[command(flatten)]
        what: forget::Forget,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Move the events of old months to files; `up` may be running.
    #[command(after_long_help = archive::HELP)]
    Archive {
        #[command(flatten)]
        what: archive::Archive,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Create businesses and admins, and reset passwords; `up` may be running.
    #[command(subcommand)]
    Admin(admin::AdminVerb),
    #[command(flatten)]
    Client(client::Verb),
    /// Check everything that `up` needs, and print a fix for each problem.
    #[command(after_long_help = doctor::HELP)]
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Check the health of a server: exit status 0 if it is healthy. For container health checks.
    Health {
        /// The URL to request.
        #[arg(default_value = health::URL)]
        url: String,
    },
    /// Print a completion script for a shell.
    #[command(after_long_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the OpenAPI document, or a file generated from it.
    Openapi {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// What `openapi` prints.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// The OpenAPI document.
    #[default]
    Json,
    /// An `.http` file: requests that editors can send.
    Http,
    /// The page of error codes.
    Errors,
    /// The page of permissions of roles and API keys.
    Permissions,
}

const COMPLETIONS_HELP: &str = "\
Examples:
  source <(cuponera completions bash)
  cuponera completions zsh > ~/.zfunc/_cuponera
  cuponera completions fish > ~/.config/fish/completions/cuponera.fish";

fn main() -> ExitCode {
    let prepared = lifecycle::prepare();
    let verb = Cuponera::parse().verb;
    let done = prepared.and_then(|()| match verb {
        Verb::Up { settings } => start(*settings, up::up),
        Verb::Migrate { settings } => start(*settings, up::migrate),
        Verb::Redrive { settings } => start(*settings, redrive::redrive),
        Verb::Reconcile { book, settings } => reconcile::run(*settings, book.map(BookId)),
        Verb::Audit(verb) => audit::run(verb),
        Verb::Forget { what, settings } => forget::run(*settings, what),
        Verb::Archive { what, settings } => archive::run(*settings, what),
        Verb::Admin(verb) => start(verb.settings().clone(), |settings| admin::admin(settings, verb)),
        Verb::Health { url } => health::run(&url),
        Verb::Client(verb) => Ok(client::run(verb)),
        Verb::Doctor { json, settings } => Ok(doctor::run(&settings, json)),
        Verb::Completions { shell } => Ok(print(&completions(shell))),
        Verb::Openapi { format } => Ok(print(&document(format))),
    });
    done.unwrap_or_else(|message| lifecycle::report("cuponera", Err(message)))
}

/// Prints to standard output. A reader that closes the pipe is not an error.
fn print(text: &str) -> ExitCode {
    client::print::print(text).map_or_else(client::ClientError::report, |()| ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cuponera::command(), "cuponera", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn document(format: Format) -> String {
    match format {
        Format::Json => cuponera_api::openapi_document(),
        Format::Http => cuponera_api::http_file(),
        Format::Errors => cuponera_api::error_page(),
        Format::Permissions => cuponera_api::permission_page(),
    }
}

/// Checks the settings and runs a subcommand with them. Errors are returned as messages.
fn start<F: Future<Output = Result<(), String>>>(
    settings: Settings,
    verb: impl FnOnce(Settings) -> F,
) -> Result<ExitCode, String> {
    let checked = settings.check();
    lifecycle::run(settings, checked, verb).map(|()| ExitCode::SUCCESS)
}
