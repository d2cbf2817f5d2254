//! One server process: spawned or found alive, waited for, stopped.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binaries::{Binaries, Install};
use crate::cluster::Cluster;
use crate::folder::DataFolder;
use crate::postmaster::{self, PidFile};
use crate::server_log::{Log, complaint};
use crate::{Error, launch, settings};

const POLL: Duration = Duration::from_millis(20);

/// Recovery after a crash replays up to `max_wal_size` of log, on a slow disk too.
const READY_PATIENCE: Duration = Duration::from_mins(5);

/// For causes that pass: the port was taken meanwhile, or the last processes of a fallen server are still
/// ending.
const RETRY_PATIENCE: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(300);
const PASSING_CAUSES: [&str; 3] =
    ["could not bind", "lock file \"postmaster.pid\" already exists", "pre-existing shared memory block"];

/// A fast shutdown writes every dirty buffer, up to 2 GB of them.
const FAST_PATIENCE: Duration = Duration::from_mins(2);
/// After an immediate shutdown the postmaster itself kills what is left after 5 s.
const IMMEDIATE_PATIENCE: Duration = Duration::from_secs(15);

/// A server that was ready when this was made.
#[derive(Debug)]
pub(crate) struct Server {
    cluster: Cluster,
    postmaster: Postmaster,
    port: u16,
    log: PathBuf,
}

/// The first process of a server, parent of all others.
#[derive(Debug)]
struct Postmaster {
    pid: i32,
    // None: a child of an earlier run, known only by its number.
    child: Option<Child>,
}

/// Adopts the server of an earlier run (then the second half is true) or starts one.
pub(crate) async fn run(
    folder: &DataFolder,
    cluster: Cluster,
    binaries: &Binaries,
    settings: &[(String, String)],
) -> Result<(Server, bool), Error> {
    let give_up_at = Instant::now() + RETRY_PATIENCE;
    loop {
        // One that is just stopping, or falls while we wait, makes room for a new one.
        if let Some(mut postmaster) = find(&cluster)?
            && let Some(port) = postmaster.ready_port(&cluster, folder).await?
        {
            return Ok((Server { cluster, postmaster, port, log: folder.log() }, true));
        }
        let log = Log::open(folder.log())?;
        let mut postmaster = spawn(&cluster, cluster.install(binaries)?, settings, &log)?;
        if let Some(port) = postmaster.ready_port(&cluster, folder).await? {
            return Ok((Server { cluster, postmaster, port, log: folder.log() }, false));
        }
        let story = log.since_opened();
        let passes = PASSING_CAUSES.iter().any(|cause| story.contains(cause));
        if !passes || Instant::now() > give_up_at {
            return Err(Error::DidNotStart { complaint: complaint(&story), log: folder.log() });
        }
        tracing::debug!(complaint = complaint(&story), "postgres did not start, trying again");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

impl Server {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Asks for a fast shutdown, then for an immediate one; returns when the process is gone.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        let pid = self.postmaster.pid;
        for (signal, patience) in [(Signal::INT, FAST_PATIENCE), (Signal::QUIT, IMMEDIATE_PATIENCE)] {
            // Looked at just before the signal: the number may belong to another process by now.
            if !self.postmaster.is_alive(&self.cluster) {
                return Ok(());
            }
            if let Err(source) = send(pid, signal) {
                return Err(Error::DoesNotStop { pid, log: self.log, source: Some(source) });
            }
            if self.postmaster.is_gone_within(&self.cluster, patience).await {
                return Ok(());
            }
            tracing::warn!(pid, ?signal, "postgres did not stop in time");
        }
        Err(Error::DoesNotStop { pid, log: self.log, source: None })
    }
}

impl Postmaster {
    /// Waits until it takes connections; None if it ended instead.
    async fn ready_port(&mut self, cluster: &Cluster, folder: &DataFolder) -> Result<Option<u16>, Error> {
        let begun_at = Instant::now();
        // Asked before the file is read: what a dead process wrote last must not count.
        while self.is_alive(cluster) {
            let file = PidFile::find(cluster)?.filter(|file| file.pid == self.pid);
            if let Some(port) = file.and_then(|file| file.ready_port()) {
                return Ok(Some(port));
            }
            if begun_at.elapsed() > READY_PATIENCE {
                let waited_s = READY_PATIENCE.as_secs();
                return Err(Error::NotReady { pid: self.pid, waited_s, log: folder.log() });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }

    async fn is_gone_within(&mut self, cluster: &Cluster, patience: Duration) -> bool {
        let begun_at = Instant::now();
        while self.is_alive(cluster) {
            if begun_at.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(POLL).await;
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

/// The postmaster of an earlier run, if it lives.
fn find(cluster: &Cluster) -> Result<Option<Postmaster>, Error> {
    let Some(PidFile { pid, .. }) = PidFile::find(cluster)? else {
        return Ok(None);
    };
    if postmaster::serves(pid, cluster) {
        return Ok(Some(Postmaster { pid, child: None }));
    }
    // Postgres would take any process with that number for a server and refuse to start. It still finds the
    // last processes of a fallen server by their shared memory.
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
        // Their folder would have to be reachable for two users and short enough for an address.
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

/// A port that was free a moment ago; if it is taken meanwhile, the start is tried again with another.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn send(pid: i32, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    match kill_process(pid, signal) {
        // Gone meanwhile: what was wanted.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
