//! The `cuponera` command: thin verbs over the libraries.

mod admin;
mod banner;
mod client;
mod database;
mod doctor;
mod health;
mod redrive;
mod secrets;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use cuponera_core::config::Settings;
use cuponera_core::lifecycle;

/// Coupon books, millions of codes, and each redeemed exactly as often as allowed.
#[derive(Debug, Parser)]
#[command(name = "cuponera", version, max_term_width = 110, after_long_help = client::FIRST_STEPS)]
struct Cuponera {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start everything in one process: the private Postgres (unless a database is named), API and worker.
    Up {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Bring the schema of the database up to this version, and end.
    Migrate {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Take the dead letters off the dead-letter queue, and retry their jobs.
    Redrive {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Make businesses and admins, and give new passwords; also while `up` runs.
    #[command(subcommand)]
    Admin(admin::AdminVerb),
    #[command(flatten)]
    Client(client::Verb),
    /// Check everything that `up` needs, and say what to do about what is missing.
    #[command(after_long_help = doctor::HELP)]
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Ask a server whether it is well, and end with success if it says so: a health check for containers.
    Health {
        /// What to ask.
        #[arg(default_value = health::URL)]
        url: String,
    },
    /// Print a script that completes this command's words in a shell.
    #[command(after_long_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the OpenAPI document, or what is made from it.
    Openapi {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// A form of the OpenAPI document.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// The document itself.
    #[default]
    Json,
    /// Requests that editors can send.
    Http,
    /// The page of error codes.
    Errors,
    /// What each role and API key may do.
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
        Verb::Admin(verb) => start(verb.settings().clone(), |settings| admin::admin(settings, verb)),
        Verb::Health { url } => health::run(&url),
        Verb::Client(verb) => Ok(client::run(verb)),
        Verb::Doctor { json, settings } => Ok(doctor::run(&settings, json)),
        Verb::Completions { shell } => Ok(print(&completions(shell))),
        Verb::Openapi { format } => Ok(print(&document(format))),
    });
    done.unwrap_or_else(|message| lifecycle::report("cuponera", Err(message)))
}

/// Prints to somebody who may stop reading.
fn print(text: &str) -> ExitCode {
    client::say::say(text).map_or_else(client::Fault::report, |()| ExitCode::SUCCESS)
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

/// Runs a verb with settings that have been checked; whatever is wrong comes back as a sentence.
fn start<F: Future<Output = Result<(), String>>>(
    settings: Settings,
    verb: impl FnOnce(Settings) -> F,
) -> Result<ExitCode, String> {
    let checked = settings.check();
    lifecycle::run(settings, checked, verb).map(|()| ExitCode::SUCCESS)
}
