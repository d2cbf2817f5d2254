//! The `cuponera` command: thin verbs over the libraries.

mod banner;
mod redrive;
mod secrets;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cuponera_core::config::Settings;

/// Coupon books, millions of codes, and each redeemed exactly as often as allowed.
#[derive(Debug, Parser)]
#[command(name = "cuponera", version, about, max_term_width = 110)]
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
    /// Print the OpenAPI document.
    Openapi,
}

fn main() -> ExitCode {
    // A missing .env is normal; one that cannot be read is said once the settings are.
    let dotenv = match dotenvy::dotenv() {
        Ok(_) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(format!(".env: {error}")),
    };
    let verb = Cuponera::parse().verb;
    let done = dotenv.and_then(|()| match verb {
        Verb::Up { settings } => start(*settings, up::up),
        Verb::Migrate { settings } => start(*settings, up::migrate),
        Verb::Redrive { settings } => start(*settings, redrive::redrive),
        Verb::Openapi => {
            print!("{}", cuponera_api::openapi_document());
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cuponera: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Checks the settings and runs a verb; whatever is wrong comes back as a sentence.
fn start<F: Future<Output = Result<(), String>>>(
    settings: Settings,
    verb: fn(Settings) -> F,
) -> Result<(), String> {
    settings.check().map_err(|faults| faults.join("\ncuponera: "))?;
    cuponera_core::telemetry::start(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(verb(settings))
}
