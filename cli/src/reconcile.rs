//! `cuponera reconcile`: compares the statistics with a recount, while the installation runs.

use std::fmt::Write;
use std::process::ExitCode;

use cuponera_domain::id::BookId;
use cuponera_platform::config::Settings;
use cuponera_platform::lifecycle;
use cuponera_store::{Difference, Pools};

use crate::client::ClientError;
use crate::client::print::print;
use crate::database::Database;
use crate::secrets;
use crate::up::LAST_WORDS;

/// The exit status if a number differs.
const DIFFERENT: u8 = 5;

pub(crate) const HELP: &str = "\
It prints a line for each number that differs, then the number of differences. The expected number is 0. It reads whole tables, which
takes a few seconds for a million events, and changes nothing. API calls and jobs continue to run. Statistics of archived months are
not compared with events.

Exit status:
  0    no number differs
  1    an error
  2    a usage error
  5    a number differs";

/// Compares, prints the differences, and returns the exit status.
pub(crate) fn run(settings: Settings, book: Option<BookId>) -> Result<ExitCode, String> {
    let checked = settings.check();
    let differences = lifecycle::run(settings, checked, |settings| async move {
        lifecycle::unless_stopped(LAST_WORDS, Box::pin(compare(&settings, book))).await
    })?;
    let status = if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) };
    Ok(print(&report(&differences)).map_or_else(ClientError::report, |()| status))
}

async fn compare(settings: &Settings, book: Option<BookId>) -> Result<Vec<Difference>, String> {
    if settings.database_url.is_none() {
        secrets::open_data_folder(&settings.data_dir)?;
    }
    let database = Database::open_or_join(settings).await?;
    let store = database.connect_with_schema(Pools::MIN).await?;
    let differences = store.reconcile(book).await.map_err(|error| error.chain());
    store.close().await;
    let closed = database.close().await;
    differences.and_then(|differences| closed.map(|()| differences))
}

fn report(differences: &[Difference]) -> String {
    let mut text = String::new();
    for Difference { scope, number, bucket_at, stored, recounted } in differences {
        let at = bucket_at.map(|at| format!(" at {}", at.to_rfc3339())).unwrap_or_default();
        let _ = writeln!(text, "{scope}: {number}{at}: stored {stored}, recounted {recounted}");
    }
    let _ = writeln!(text, "numbers that differ: {}", differences.len());
    text
}
