//! Starts, finds again and stops the private Postgres of a data folder.
//!
//! Promises: one owner per data folder; a cluster is whole or absent; a server that outlived its owner is
//! taken over, not fought; what was committed survives a kill of either. A start that fails or is given up leaves no
//! process behind. The server outlives a killed owner on purpose: the next start finds it again. Linux only: it leans on
//! `/proc` and `flock`.
//!
//! Absent: databases and roles (the caller makes them), backups, upgrades between major versions, and
//! watching over a server that dies while its owner lives: connections fail then, and the next start
//! recovers.

mod binaries;
mod cluster;
mod error;
mod folder;
mod launch;
mod look;
mod postmaster;
mod server;
mod server_log;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};

pub use binaries::Binaries;
pub use error::Error;
pub use look::{Look, RunningServer, look};

use cluster::Cluster;
use folder::DataFolder;
use server::Server;

/// The role that owns everything in a private Postgres.
pub const SUPERUSER: &str = "cuponera";

/// Where a private Postgres lives and how it differs from the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds the cluster (`postgres/`), its password, its log and the lock. Made with mode 0700 if absent.
    pub data_dir: PathBuf,
    /// Server settings that win over the defaults of this crate, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// The defaults on `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), settings: Vec::new() }
    }

    /// Adds a server setting, for example `fsync` = `off` for tests.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// How a running server came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// The data folder had no cluster: it was made, then started.
    Created,
    /// The cluster existed and no server ran on it.
    Started,
    /// A server of an earlier run was still alive and has been adopted, with the settings of that run.
    Found,
}

/// A running Postgres that belongs to this process.
///
/// Dropping it stops the server, and keeps the thread until that is done: no error and no panic leaves a server behind.
/// [`stop`](Self::stop) does the same and tells what went wrong; [`leave`](Self::leave) lets it run on.
pub struct PrivatePostgres {
    url: String,
    started: Started,
    server: Server,
    // Held for its lock; declared last so that it is released last.
    folder: DataFolder,
}

impl PrivatePostgres {
    /// Makes the cluster if there is none, starts its server or adopts the one still running, and returns
    /// once it takes connections.
    ///
    /// Errors: see [`Error`]; each is one line with the path and the fix. Then, and if this future is dropped before it is
    /// done, a server that was found or started is stopped.
    pub async fn start(binaries: &Binaries, options: &Options) -> Result<Self, Error> {
        let folder = DataFolder::open(&options.data_dir).await?;
        let (cluster, created) = Cluster::open_or_create(&folder, binaries, &options.settings).await?;
        let (server, found) = server::run(&folder, cluster, binaries, &options.settings).await?;
        let started = match (created, found) {
            (_, true) => Started::Found,
            (true, false) => Started::Created,
            (false, false) => Started::Started,
        };
        let url = url_of(server.cluster(), server.port());
        let data_dir = folder.path().display();
        tracing::info!(port = server.port(), ?started, %data_dir, "postgres is ready");
        Ok(Self { url, started, server, folder })
    }

    /// `postgres://cuponera:<password>@127.0.0.1:<port>/postgres`: the superuser on the maintenance database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How this server came to be.
    pub fn started(&self) -> Started {
        self.started
    }

    /// Ends the server: open transactions are rolled back, connections closed, everything written.
    ///
    /// Waits until it is gone; one that does not end in time is stopped the hard way, which loses nothing
    /// that was committed but makes the next start recover.
    pub async fn stop(self) -> Result<(), Error> {
        // The folder stays locked until the server is gone.
        let Self { server, folder: _folder, .. } = self;
        server.stop().await
    }

    /// Releases the data folder and lets the server run on, as a crash of this process would.
    pub fn leave(self) {
        self.server.leave();
    }
}

/// The URL, as [`PrivatePostgres::url`] is, of the server that runs on a data folder and takes connections; none if there
/// is no such server now.
///
/// It belongs to somebody else, who may stop it at any time: it is there to be used, and not to be stopped.
pub fn find_running(data_dir: &Path) -> Result<Option<String>, Error> {
    let Some(cluster) = Cluster::find(data_dir)? else { return Ok(None) };
    Ok(look::find_server(&cluster)?.map(|server| server.url("postgres")))
}

fn url_of(cluster: &Cluster, port: u16) -> String {
    format!("postgres://{SUPERUSER}:{}@127.0.0.1:{port}/postgres", cluster.password())
}

// By hand: the URL carries the password.
impl fmt::Debug for PrivatePostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivatePostgres")
            .field("data_dir", &self.folder.path())
            .field("port", &self.server.port())
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}
