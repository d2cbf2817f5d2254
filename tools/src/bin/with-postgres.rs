//! Runs a command with a private Postgres for tests: `with-postgres -- COMMAND ARGS…`.
//!
//! The server and the temporary files of the command are in memory if there is enough of it: each test creates
//! and deletes a database of a thousand files, which takes most of its time on the file systems of disks. Else
//! the data folder is in the build folder and is kept between runs. It is disposable, so the server does not
//! wait for the disk. The server stops after the command, whose exit status is returned.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use cuponera_tools::URL_VARIABLE;
use rustix::fs::statvfs;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// No durability, enough connections for several concurrent races, and cheap copies of the template: its pages are
/// logged, and compressing them takes longer than writing them.
const SETTINGS: [(&str, &str); 6] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "400"),
    ("wal_compression", "off"),
    ("shared_buffers", "512MB"),
];

/// A file system in memory.
const MEMORY: &str = "/dev/shm";
/// Several times what the tests use.
const NEEDED_BYTES: u64 = 6 << 30;

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
    let build = build_folder()?;
    let memory = memory_folder(&build);
    let data = memory.as_ref().map_or_else(|| build.join("test-postgres"), |folder| folder.join("postgres"));
    let mut options = Options::new(data);
    for (name, value) in SETTINGS {
        options = options.with_setting(name, value);
    }
    let postgres = PrivatePostgres::start(&Binaries::find()?, &options).await?;
    let temporary = memory.as_ref().map(|folder| folder.join("tmp"));
    if let Some(folder) = &temporary {
        std::fs::create_dir_all(folder)?;
    }
    let status = run_beside(&postgres, command, arguments, temporary.as_deref()).await;
    postgres.stop().await?;
    if let Some(folder) = memory {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(status?)
}

async fn run_beside(
    postgres: &PrivatePostgres,
    command: OsString,
    arguments: impl Iterator<Item = OsString>,
    temporary: Option<&Path>,
) -> io::Result<ExitStatus> {
    let mut command = Command::new(command);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_libpq_variable(name)) {
        command.env_remove(name);
    }
    if let Some(folder) = temporary {
        command.env("TMPDIR", folder);
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

/// The build folder, which is two levels above this program.
fn build_folder() -> Result<PathBuf, AnyError> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).ok_or("this program is not in a build folder")?.to_owned())
}

/// A new folder in memory, of this process. Deletes those of ended processes of the same build folder. `None` if there is not
/// enough memory.
fn memory_folder(build: &Path) -> Option<PathBuf> {
    let found = statvfs(MEMORY).ok()?;
    if found.f_bavail.saturating_mul(found.f_frsize) < NEEDED_BYTES {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    build.hash(&mut hasher);
    let prefix = format!("cuponera-tests-{:016x}-", hasher.finish());
    for entry in std::fs::read_dir(MEMORY).ok()?.flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(&prefix)).and_then(|pid| pid.parse().ok());
        if owner.and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_err()) {
            // A Postgres that still runs there ends without its files.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Some(Path::new(MEMORY).join(format!("{prefix}{}", std::process::id())))
}

/// As in a shell: a command ended by a signal has status 128 plus the signal's number.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
