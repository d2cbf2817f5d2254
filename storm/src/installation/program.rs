//! A program of an installation. One fault at a time can kill, freeze, terminate and restart it.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use super::POLL;
use crate::Result;

/// Maximum duration of a start.
const START: Duration = Duration::from_secs(2);
/// After SIGTERM a program ends within this time, by design.
pub(crate) const END: Duration = Duration::from_secs(15);

/// The command of a program, and its process.
pub(crate) struct Program {
    pub(crate) name: String,
    path: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Mutex<Running>,
}

/// The process and its start time.
struct Running {
    child: Child,
    since: Instant,
}

impl Running {
    fn new(child: Child) -> Self {
        Self { child, since: Instant::now() }
    }
}

impl Program {
    /// Starts the program with these settings and no others, and logs to a file.
    pub(crate) fn start(
        name: &str,
        path: PathBuf,
        arguments: &[&str],
        settings: Vec<(String, String)>,
        log: PathBuf,
    ) -> Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let child = Mutex::new(Running::new(command(&path, &arguments, &settings, &log)?.spawn()?));
        Ok(Self { name: name.to_owned(), path, arguments, settings, log, child })
    }

    /// Exclusive access to the process, for one fault.
    pub(crate) async fn exclusive(&self) -> ExclusiveProgram<'_> {
        ExclusiveProgram { program: self, running: self.child.lock().await }
    }

    pub(crate) async fn kill(&self) -> Result<()> {
        self.exclusive().await.kill().await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A program to which one fault has exclusive access.
pub(crate) struct ExclusiveProgram<'a> {
    program: &'a Program,
    running: MutexGuard<'a, Running>,
}

impl ExclusiveProgram<'_> {
    /// The process id.
    pub(crate) fn pid(&mut self) -> Result<u32> {
        // A process that has ended keeps its id until it is waited for.
        self.running.child.try_wait()?;
        self.running.child.id().ok_or_else(|| format!("{} ended unexpectedly", self.program.name).into())
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).ok_or("a process has an id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.running.child.kill().await?)
    }

    /// Sends SIGTERM and waits until the program ends, in time and with success. A program that was just
    /// started may fail instead, because its database may be unavailable.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        self.handles_term().await;
        let is_starting = self.running.since.elapsed() < START;
        self.signal(Signal::TERM)?;
        let name = &self.program.name;
        let ended = tokio::time::timeout(END, self.running.child.wait()).await;
        let status = ended.map_err(|_| format!("{name} did not end within {END:?} after SIGTERM"))??;
        if status.success() || is_starting {
            return Ok(());
        }
        Err(format!("{name} ended with {status} after SIGTERM").into())
    }

    /// Waits until the program has installed its SIGTERM handler, or has ended. Before that the signal
    /// kills it.
    async fn handles_term(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < START {
            let Ok(pid) = self.pid() else { return };
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|signals| u64::from_str_radix(signals.trim(), 16).ok());
            if caught.is_some_and(|signals| signals & (1 << (Signal::TERM.as_raw() - 1)) != 0) {
                return;
            }
            sleep(POLL).await;
        }
    }

    /// Restarts the program after its end.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let Program { path, arguments, settings, log, .. } = self.program;
        *self.running = Running::new(command(path, arguments, settings, log)?.spawn()?);
        Ok(())
    }
}

fn command(
    path: &PathBuf,
    arguments: &[String],
    settings: &[(String, String)],
    log: &PathBuf,
) -> Result<Command> {
    let folder = log.parent().ok_or("a log has a folder")?;
    let log: File = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CUPONERA_")) {
        command.env_remove(name);
    }
    // This folder has no `.env`.
    command.current_dir(folder);
    command.args(arguments).envs(settings.iter().map(|(name, value)| (name, value)));
    // In its own process group: a Ctrl-C in the terminal stops the storm, which stops its programs.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
    Ok(command)
}

/// Runs a command with this input until it ends.
pub(crate) async fn finish(
    path: PathBuf,
    arguments: &[&str],
    settings: &[(String, String)],
    input: &str,
    log: &PathBuf,
) -> Result<()> {
    use tokio::io::AsyncWriteExt;

    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let mut child = command(&path, &arguments, settings, log)?.stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("a command has no input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let status = child.wait().await?;
    if status.success() {
        return Ok(());
    }
    let said = std::fs::read_to_string(log).unwrap_or_default();
    Err(format!("cuponera {}: {status}: {said}", arguments.join(" ")).into())
}
