//! Reports the state of a data folder's private Postgres. Starts, stops and writes nothing.

use std::fmt;
use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::cluster::Cluster;
use crate::postmaster::{self, PidFile};
use crate::{Error, SUPERUSER};

/// The state of a data folder, seen by another process.
#[derive(Debug)]
pub struct DataFolderStatus {
    /// Whether a process owns the folder now.
    pub is_owned: bool,
    /// The major version of its cluster, if there is one.
    pub cluster: Option<u32>,
    /// Its server, if it accepts connections.
    pub server: Option<RunningServer>,
}

/// A server that accepts connections.
pub struct RunningServer {
    /// The postmaster's process id.
    pub pid: i32,
    /// Its port on loopback.
    pub port: u16,
    password: String,
}

impl RunningServer {
    /// The URL of one of its databases for the superuser; it contains the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }
}

// Manual implementation: the struct contains the password.
impl fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningServer")
            .field("pid", &self.pid)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Examines a data folder, which may be absent.
///
/// Errors: an unreadable cluster, or a cluster without its password.
pub fn inspect(data_dir: &Path) -> Result<DataFolderStatus, Error> {
    let is_owned = is_owned(data_dir);
    let Some(cluster) = Cluster::find(data_dir)? else {
        return Ok(DataFolderStatus { is_owned, cluster: None, server: None });
    };
    let server = find_server(&cluster)?;
    Ok(DataFolderStatus { is_owned, cluster: Some(cluster.major()), server })
}

/// The server of a cluster, if it accepts connections.
pub(crate) fn find_server(cluster: &Cluster) -> Result<Option<RunningServer>, Error> {
    let running = PidFile::find(cluster)?.filter(|file| postmaster::serves(file.pid, cluster));
    Ok(running.and_then(|file| {
        let password = cluster.password().to_owned();
        file.ready_port().map(|port| RunningServer { pid: file.pid, port, password })
    }))
}

/// Whether another process holds the lock. The shared lock taken here is released at once; a process that
/// starts meanwhile waits longer than that (`LOCK_TIMEOUT`).
fn is_owned(data_dir: &Path) -> bool {
    let Ok(file) = File::open(data_dir.join("lock")) else { return false };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}
