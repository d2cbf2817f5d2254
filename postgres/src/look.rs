//! What a data folder says of its private Postgres. Nothing is started, stopped or written.

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::cluster::Cluster;
use crate::postmaster::{self, PidFile};
use crate::{Error, SUPERUSER};

/// A data folder, seen from outside.
#[derive(Debug)]
pub struct Look {
    /// Whether a process owns the folder now.
    pub is_owned: bool,
    /// The major version of its cluster, if there is one.
    pub cluster: Option<u32>,
    /// Its server, if it takes connections.
    pub server: Option<RunningServer>,
}

/// A server that takes connections.
pub struct RunningServer {
    /// Its first process.
    pub pid: i32,
    /// Its port on loopback.
    pub port: u16,
    password: String,
}

impl RunningServer {
    /// The superuser on a database of it; it has the password in it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }
}

// By hand: it carries the password.
impl fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningServer")
            .field("pid", &self.pid)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Looks at a data folder, which may be absent.
///
/// Errors: a cluster that cannot be read, or one without its password.
pub fn look(data_dir: &Path) -> Result<Look, Error> {
    let is_owned = is_owned(data_dir);
    let path = data_dir.join("postgres");
    if !path.join("PG_VERSION").exists() {
        return Ok(Look { is_owned, cluster: None, server: None });
    }
    let cluster = Cluster::at(path, password(data_dir)?)?;
    let file = PidFile::find(&cluster)?.filter(|file| postmaster::serves(file.pid, &cluster));
    let server = file.and_then(|file| {
        let password = cluster.password().to_owned();
        file.ready_port().map(|port| RunningServer { pid: file.pid, port, password })
    });
    Ok(Look { is_owned, cluster: Some(cluster.major()), server })
}

/// Whether somebody holds the lock. It is let go at once; who starts meanwhile waits longer than that.
fn is_owned(data_dir: &Path) -> bool {
    let Ok(file) = File::open(data_dir.join("lock")) else { return false };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}

fn password(data_dir: &Path) -> Result<String, Error> {
    let path = data_dir.join("postgres.password");
    match fs::read_to_string(&path) {
        Ok(password) => Ok(password.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::PasswordMissing { path }),
        Err(error) => Err(Error::folder("read", path)(error)),
    }
}
