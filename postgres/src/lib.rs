//! Starts, finds and stops the private Postgres of a data folder.
//!
//! Guarantees: a data folder has one owner; a cluster is complete or absent; a server that outlived its
//! owner is adopted; committed data survives a kill of either process. A failed or cancelled start leaves
//! no process behind. The server outlives a killed owner on purpose: the next start adopts it. Linux only:
//! the crate uses `/proc` and `flock`.
//!
//! Not included: databases and roles (the caller creates them), backups, upgrades between major versions,
//! and supervision: if the server dies while its owner runs, connections fail, and the next start recovers.

mod binaries;
mod cluster;
mod error;
mod folder;
mod inspect;
mod launch;
mod postmaster;
mod server;
mod server_log;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};

pub use binaries::Binaries;
pub use error::Error;
pub use inspect::{DataFolderStatus, RunningServer, inspect};

use cluster::Cluster;
use folder::DataFolder;
use server::Server;

/// The role that owns all objects of a private Postgres.
pub const SUPERUSER: &str = "cuponera";

/// The data folder of a private Postgres and its deviations from the default settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Contains the cluster (`postgres/`), its password, its log and the lock. Created with mode 0700 if
    /// absent.
    pub data_dir: PathBuf,
    /// Server settings that override the defaults of this crate, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// The default options for `data_dir`.
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

/// How the server was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// The data folder had no cluster. The cluster was created and its server started.
    Created,
    /// The cluster existed and no server was running on it.
    Started,
    /// A server of an earlier run was still running and was adopted, with the settings of that run.
    Found,
}

/// A running Postgres that belongs to this process.
///
/// Dropping it stops the server and blocks the thread until that is done, so an error or a panic leaves no
/// server behind. [`stop`](Self::stop) also returns the error; [`leave`](Self::leave) keeps the server
/// running.
pub struct PrivatePostgres {
    url: String,
    started: Started,
    server: Server,
    // Holds the lock; declared last so that it is released last.
    folder: DataFolder,
}

impl PrivatePostgres {
    /// Creates the cluster if it is absent, starts its server or adopts a running one, and returns when the
    /// server accepts connections.
    ///
    /// Errors: see [`Error`]; each is one line with the path and the remedy. On an error, and if this
    /// future is dropped, the server is stopped, whether it was started or adopted.
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

    /// How this server was obtained.
    pub fn started(&self) -> Started {
        self.started
    }

    /// Stops the server: rolls back open transactions, closes connections and writes all data.
    ///
    /// Waits for the process to end. After a timeout the server is shut down immediately: committed data is
    /// kept, but the next start runs recovery.
    pub async fn stop(self) -> Result<(), Error> {
        // The folder stays locked until the server has ended.
        let Self { server, folder: _folder, .. } = self;
        server.stop().await
    }

    /// Releases the data folder and keeps the server running, as a crash of this process would.
    pub fn leave(self) {
        self.server.leave();
    }
}

/// The URL, as in [`PrivatePostgres::url`], of the server that runs on a data folder and accepts
/// connections, if there is one.
///
/// Another process owns the server and may stop it at any time. Use it, but do not stop it.
pub fn find_running(data_dir: &Path) -> Result<Option<String>, Error> {
    let Some(cluster) = Cluster::find(data_dir)? else { return Ok(None) };
    Ok(inspect::find_server(&cluster)?.map(|server| server.url("postgres")))
}

fn url_of(cluster: &Cluster, port: u16) -> String {
    format!("postgres://{SUPERUSER}:{}@127.0.0.1:{port}/postgres", cluster.password())
}

// Manual implementation: the URL contains the password.
impl fmt::Debug for PrivatePostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivatePostgres")
            .field("data_dir", &self.folder.path())
            .field("port", &self.server.port())
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}
