//! One server process: spawned or adopted, awaited, stopped.
//!
//! **Invariant.** A spawned or adopted process belongs to a [`Server`] at once, which stops it when
//! dropped. An error, a panic or a cancelled future leaves no process behind.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binaries::{Binaries, Install};
use crate::cluster::Cluster;
use crate::folder::DataFolder;
use crate::postmaster::{self, PidFile};
use crate::server_log::{Log, error_line};
use crate::{Error, launch, settings};

const POLL: Duration = Duration::from_millis(20);

/// Crash recovery replays up to `max_wal_size` (4 GB) of log: 14 minutes at 5 MB/s. A server that is
/// stopped before it is ready starts the recovery from the beginning.
const READY_TIMEOUT: Duration = Duration::from_mins(15);

/// For transient causes: the port was taken meanwhile, or the last processes of a crashed server are still
/// ending.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(300);
const TRANSIENT_CAUSES: [&str; 3] =
    ["could not bind", "lock file \"postmaster.pid\" already exists", "pre-existing shared memory block"];

/// A fast shutdown writes all dirty buffers, up to 2 GB.
const FAST_TIMEOUT: Duration = Duration::from_mins(2);
/// After an immediate shutdown the postmaster kills remaining processes after 5 s.
const IMMEDIATE_TIMEOUT: Duration = Duration::from_secs(15);

/// A running server. Dropping it stops the server, unless `leave` was called.
#[derive(Debug)]
pub(crate) struct Server {
    cluster: Arc<Cluster>,
    postmaster: Postmaster,
    log: PathBuf,
    /// 0 until the server accepts connections.
    port: u16,
    is_left: bool,
}

/// The first process of a server and parent of all others.
#[derive(Debug)]
struct Postmaster {
    pid: i32,
    // `None`: the process was started by an earlier run; only its id is known.
    child: Option<Child>,
}

/// Adopts the server of an earlier run (the second value is then true) or starts one.
pub(crate) async fn run(
    folder: &DataFolder,
    cluster: Cluster,
    binaries: &Binaries,
    settings: &[(String, String)],
) -> Result<(Server, bool), Error> {
    let cluster = Arc::new(cluster);
    let server = |postmaster| Server::new(cluster.clone(), postmaster, folder.log());
    let give_up_at = Instant::now() + RETRY_TIMEOUT;
    loop {
        // A server that stops or crashes during the wait is replaced by a new one.
        if let Some(found) = find(&cluster)?
            && let Some(server) = server(found).ready().await?
        {
            return Ok((server, true));
        }
        let log = Log::open(folder.log())?;
        let spawned = spawn(&cluster, cluster.install(binaries)?, settings, &log)?;
        if let Some(server) = server(spawned).ready().await? {
            return Ok((server, false));
        }
        let story = log.since_opened();
        let passes = TRANSIENT_CAUSES.iter().any(|cause| story.contains(cause));
        if !passes || Instant::now() > give_up_at {
            return Err(Error::DidNotStart { error_line: error_line(&story), log: folder.log() });
        }
        tracing::debug!(error_line = error_line(&story), "postgres did not start, trying again");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

impl Server {
    fn new(cluster: Arc<Cluster>, postmaster: Postmaster, log: PathBuf) -> Self {
        Self { cluster, postmaster, log, port: 0, is_left: false }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Waits until the server accepts connections; `None` if it ended.
    async fn ready(mut self) -> Result<Option<Self>, Error> {
        let begun_at = Instant::now();
        // Checked before the file is read: the last content of a dead process must not count.
        while self.postmaster.is_alive(&self.cluster) {
            let pid = self.postmaster.pid;
            let file = PidFile::find(&self.cluster)?.filter(|file| file.pid == pid);
            if let Some(port) = file.and_then(|file| file.ready_port()) {
                self.port = port;
                return Ok(Some(self));
            }
            if begun_at.elapsed() > READY_TIMEOUT {
                return Err(Error::NotReady {
                    pid,
                    waited_s: READY_TIMEOUT.as_secs(),
                    log: self.log.clone(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }

    /// Requests a fast shutdown, then an immediate one; returns when the process is gone.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        let stopped = tokio::task::spawn_blocking(move || self.end()).await;
        stopped.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Keeps the server running.
    pub(crate) fn leave(mut self) {
        self.is_left = true;
    }

    /// Like [`stop`](Self::stop), but blocks the thread.
    fn end(&mut self) -> Result<(), Error> {
        // Prevents a second attempt in `drop`, whatever the result.
        self.is_left = true;
        let (pid, log) = (self.postmaster.pid, &self.log);
        for (signal, timeout) in [(Signal::INT, FAST_TIMEOUT), (Signal::QUIT, IMMEDIATE_TIMEOUT)] {
            // Checked immediately before the signal: another process may have the id by now.
            if !self.postmaster.is_alive(&self.cluster) {
                return Ok(());
            }
            if let Err(source) = send(pid, signal) {
                return Err(Error::DoesNotStop { pid, log: log.clone(), source: Some(source) });
            }
            if self.postmaster.is_gone_within(&self.cluster, timeout) {
                return Ok(());
            }
            tracing::warn!(pid, ?signal, "postgres did not stop in time");
        }
        Err(Error::DoesNotStop { pid, log: log.clone(), source: None })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_left
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "the private Postgres was not stopped");
        }
    }
}

impl Postmaster {
    fn is_gone_within(&mut self, cluster: &Cluster, timeout: Duration) -> bool {
        let begun_at = Instant::now();
        while self.is_alive(cluster) {
            if begun_at.elapsed() > timeout {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    fn is_alive(&mut self, cluster: &Cluster) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => postmaster::serves(self.pid, cluster),
        }
    }
}

/// The postmaster of an earlier run, if it is alive.
fn find(cluster: &Cluster) -> Result<Option<Postmaster>, Error> {
    let Some(PidFile { pid, .. }) = PidFile::find(cluster)? else {
        return Ok(None);
    };
    if postmaster::serves(pid, cluster) {
        return Ok(Some(Postmaster { pid, child: None }));
    }
    // Postgres would mistake any process with this id for a server and refuse to start. It still finds the
    // last processes of a crashed server by their shared memory.
    if postmaster::exists(pid) {
        let path = cluster.pid_file();
        fs::remove_file(&path).map_err(Error::folder("remove", path))?;
    }
    Ok(None)
}

fn spawn(
    cluster: &Cluster,
    install: &Install,
    callers: &[(String, String)],
    log: &Log,
) -> Result<Postmaster, Error> {
    let program = install.program("postgres");
    let port = free_port().map_err(|source| Error::Run { program, source })?;
    let own = [
        ("listen_addresses", Ipv4Addr::LOCALHOST.to_string()),
        ("port", port.to_string()),
        // A socket folder would have to be accessible to two users and short enough for a socket address.
        ("unix_socket_directories", String::new()),
        (postmaster::MARK, cluster.identity().to_owned()),
    ];
    let mut command = launch::command(install, "postgres", cluster.run_as());
    command.arg("-D").arg(launch::inherited_path(cluster.handle()));
    for setting in settings::all(callers, &own) {
        command.args(["-c", &setting]);
    }
    command.stdout(log.writer()?).stderr(log.writer()?);
    let child = launch::spawn_inheriting(cluster.handle(), &mut command)
        .map_err(|source| launch::spawn_error(install, "postgres", cluster.run_as(), source))?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    Ok(Postmaster { pid, child: Some(child) })
}

/// A port that is free now. If it is taken before the server binds it, the start is retried with another.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn send(pid: i32, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    match kill_process(pid, signal) {
        // The process has already ended.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
