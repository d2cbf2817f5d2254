//! Runs a command with a private Postgres for tests: `with-postgres -- COMMAND ARGS…`.
//!
//! The data folder is in the build folder and is kept between runs, for a quick start. It is disposable, so
//! the server does not wait for the disk. The server stops after the command, whose exit status is
//! returned.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use cuponera_tools::URL_VARIABLE;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// No durability, and enough connections for several concurrent races.
const SETTINGS: [(&str, &str); 4] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "400"),
];

type AnyError = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(status) => exit_code(status),
        Err(error) => {
            eprintln!("with-postgres: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitStatus, AnyError> {
    let mut arguments = std::env::args_os().skip(1).skip_while(|argument| argument == "--");
    let command = arguments.next().ok_or("usage: with-postgres -- COMMAND ARGS…")?;
    let mut options = Options::new(data_dir()?);
    for (name, value) in SETTINGS {
        options = options.with_setting(name, value);
    }
    let postgres = PrivatePostgres::start(&Binaries::find()?, &options).await?;
    let status = run_beside(&postgres, command, arguments).await;
    postgres.stop().await?;
    Ok(status?)
}

async fn run_beside(
    postgres: &PrivatePostgres,
    command: OsString,
    arguments: impl Iterator<Item = OsString>,
) -> io::Result<ExitStatus> {
    let mut command = Command::new(command);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_libpq_variable(name)) {
        command.env_remove(name);
    }
    let mut child = command.args(arguments).env(URL_VARIABLE, postgres.url()).spawn()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            // A terminal signals the whole group, so the child may receive the signal twice, which is
            // harmless.
            Some(()) = interrupt.recv() => pass_on(&child, Signal::INT),
            Some(()) = terminate.recv() => pass_on(&child, Signal::TERM),
        }
    }
}

/// Whether sqlx in the child's process would merge this variable into the URL. `PG_BIN` belongs to this
/// project.
fn is_libpq_variable(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"PG") && name != "PG_BIN"
}

/// The child decides what a signal means; this process ends after it.
fn pass_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already.
        let _ = kill_process(pid, signal);
    }
}

/// `test-postgres` in the build folder, which is two levels above this program.
fn data_dir() -> Result<PathBuf, AnyError> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or("this program is not in a build folder")?;
    Ok(target.join("test-postgres"))
}

/// As in a shell: a command ended by a signal has status 128 plus the signal's number.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
