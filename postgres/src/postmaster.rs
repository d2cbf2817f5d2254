//! Reads `postmaster.pid` and checks whether the process it names is the server of the cluster.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::Error;
use crate::cluster::Cluster;

/// The setting that puts the identity of the cluster on the server's command line; `ps` shows it.
pub(crate) const MARK: &str = "cluster_name";

// Line numbers in postmaster.pid, from 0 (`src/include/utils/pidfile.h` of Postgres).
const LINE_PORT: usize = 3;
const LINE_STATUS: usize = 7;

/// The lock file of a running or crashed server. It grows line by line while a server starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) pid: i32,
    port: Option<u16>,
    is_ready: bool,
}

impl PidFile {
    /// `None` if the file is absent or has no process id yet.
    pub(crate) fn find(cluster: &Cluster) -> Result<Option<Self>, Error> {
        let path = cluster.pid_file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::folder("read", path)(error)),
        }
    }

    /// The port, if the server accepts connections.
    pub(crate) fn ready_port(&self) -> Option<u16> {
        self.port.filter(|_| self.is_ready)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse().ok().filter(|pid| *pid > 0)?;
        let port = lines.get(LINE_PORT).and_then(|line| line.parse().ok());
        Some(Self { pid, port, is_ready: lines.get(LINE_STATUS) == Some(&"ready") })
    }
}

/// Whether a process with this id exists, including zombies.
pub(crate) fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether this process is the server of this cluster: its command line contains our mark, or (a server
/// that was started by hand) it is a Postgres whose working directory is the cluster.
///
/// The command line is checked first because every user may read it. The working directory of another
/// user's process needs a capability that root in a container often lacks.
pub(crate) fn serves(pid: i32, cluster: &Cluster) -> bool {
    let command_line = command_line(pid);
    let mut arguments = command_line.split(|byte| *byte == 0);
    let program = Path::new(OsStr::from_bytes(arguments.next().unwrap_or_default()));
    let is_postgres = program.file_name().is_some_and(|name| name == "postgres" || name == "postmaster");
    let mark = format!("{MARK}={}", cluster.identity());
    let is_marked = command_line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes());
    is_postgres && (is_marked || cluster.is(Path::new(&format!("/proc/{pid}/cwd"))))
}

fn command_line(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_at_every_stage_of_its_growth() {
        let whole = "41\n/proc/self/fd/9\n1700000000\n5433\n\n127.0.0.1\n 12 34\nready   \n";
        assert_eq!(PidFile::parse(whole), Some(PidFile { pid: 41, port: Some(5433), is_ready: true }));
        assert_eq!(PidFile::parse(whole).and_then(|file| file.ready_port()), Some(5433));
        let starting = whole.replace("ready   ", "starting");
        assert_eq!(PidFile::parse(&starting).and_then(|file| file.ready_port()), None);
        let stopping = whole.replace("ready   ", "stopping");
        assert_eq!(PidFile::parse(&stopping).and_then(|file| file.ready_port()), None);
        assert_eq!(PidFile::parse("41\n"), Some(PidFile { pid: 41, port: None, is_ready: false }));
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("-41\n"), None);
    }
}
