//! `cuponera doctor`: reports what prevents `up` from running, or soon will, with a fix for each finding.
//!
//! It only reads: it creates, starts, stops and changes nothing. It never prints secrets.

mod address;
mod database;
mod fleet;
mod folder;
mod report;

use std::process::ExitCode;

use cuponera_platform::config::Settings;
use rustix::process::{Resource, getrlimit};
use tracing_subscriber::EnvFilter;

use crate::client::{ClientError, print::print};
use report::{Finding, Report};

pub(crate) const HELP: &str = "\
Examples:
  cuponera doctor
  CUPONERA_DATABASE_URL=postgres://shop@db.internal/shop cuponera doctor --json

It only reads: it creates, starts, stops and changes nothing.

Exit status:
  0  no faults; there may be warnings (!)
  1  there are faults (✗)
  2  a setting or flag cannot be parsed";

/// A lower limit of open files gives a warning.
const COMFORTABLE_FILES: u64 = 4096;
/// Descriptors for listeners, logs, uploads and the like.
const OTHER_FILES: u64 = 128;

/// Runs all checks and prints the report. Fails if there is a fault.
pub(crate) fn run(settings: &Settings, as_json: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ClientError::Local(error.to_string()).report(),
    };
    let report = runtime.block_on(examine(settings));
    if let Err(fault @ ClientError::Local(_)) = print(&if as_json { report.json() } else { report.words() }) {
        return fault.report();
    }
    if report.has_faults() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn examine(settings: &Settings) -> Report {
    let mut findings = settings_findings(settings);
    findings.extend(folder::data_folder(settings));
    findings.push(address::address(settings).await);
    findings.extend(database::database(settings).await);
    findings.extend(folder::files_folder(settings));
    findings.extend(fleet::fleet(settings).await);
    findings.push(open_files(settings));
    Report::of(findings)
}

fn settings_findings(settings: &Settings) -> Vec<Finding> {
    let mut faults = settings.check().err().unwrap_or_default();
    if let Err(error) = EnvFilter::try_new(&settings.log) {
        faults.push(format!("CUPONERA_LOG: {error}"));
    }
    if faults.is_empty() {
        return vec![Finding::good("settings", "all are valid")];
    }
    let fix = "correct it in the environment, in .env, or as a flag (cuponera up --help)";
    faults.into_iter().map(|fault| Finding::fault("settings", fault, fix)).collect()
}

/// The maximum number of database connections of the process: the API's, the worker's, and one for `LISTEN`.
fn connections(settings: &Settings) -> u32 {
    settings.pools().total() + settings.worker_pools().total() + 1
}

fn open_files(settings: &Settings) -> Finding {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return Finding::good("open files", "no limit");
    };
    let own = u64::from(connections(settings)) + OTHER_FILES;
    let clients = limit.saturating_sub(own);
    let fix = "raise it with `ulimit -n 65536`, or LimitNOFILE= in a systemd unit";
    if clients == 0 {
        return Finding::fault("open files", format!("{limit}, but at least {own} are needed"), fix);
    }
    let detail = format!("{limit}, so about {clients} clients at once");
    if limit < COMFORTABLE_FILES {
        Finding::warning("open files", detail, fix)
    } else {
        Finding::good("open files", detail)
    }
}
