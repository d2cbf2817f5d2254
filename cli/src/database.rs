//! The database of an installation: an external server, a private server that this process owns, or the private server
//! of another process.
//!
//! **Invariant I-43.** A server that this process owns stops when its [`Database`] is dropped, also after an error.

use std::time::{Duration, Instant};

use cuponera_platform::config::Settings;
use cuponera_platform::lifecycle;
use cuponera_postgres::{Binaries, Options, PrivatePostgres, find_running};
use cuponera_store::{Pools, Store, create_private_database, private_database_url};
use secrecy::{ExposeSecret, SecretString};
use tracing::info;

/// How long to wait for a `cuponera up` on the same data folder that is starting or stopping.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
const JOIN_POLL: Duration = Duration::from_millis(100);

/// The URL of the database, and the owner of its server.
pub(crate) struct Database {
    url: SecretString,
    server: Server,
}

enum Server {
    /// External: configured by URL.
    Named,
    /// Owned by another process: used and left running.
    Joined,
    /// Owned: started here, or adopted from a process that was killed. Stops when dropped.
    Own(Box<PrivatePostgres>),
}

impl Database {
    /// Opens the configured database, or starts the private one of the data folder and locks it against other
    /// processes.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, String> {
        if let Some(named) = Self::named(settings) {
            return Ok(named);
        }
        Self::own(start(settings).await?.map_err(|error| chain(&error))?).await
    }

    /// Like [`Self::open`], but uses the Postgres of a `cuponera up` that already runs on the data folder.
    pub(crate) async fn open_or_join(settings: &Settings) -> Result<Self, String> {
        if let Some(named) = Self::named(settings) {
            return Ok(named);
        }
        let begun = Instant::now();
        loop {
            if let Some(url) = find_running(&settings.data_dir).map_err(|error| chain(&error))? {
                return Ok(Self { url: in_database(&url)?, server: Server::Joined });
            }
            match start(settings).await? {
                Ok(server) => return Self::own(server).await,
                // The `up` is starting or stopping.
                Err(cuponera_postgres::Error::Locked { .. }) if begun.elapsed() < JOIN_TIMEOUT => {}
                Err(error) => return Err(chain(&error)),
            }
        }
    }

    fn named(settings: &Settings) -> Option<Self> {
        settings.database_url.clone().map(|url| Self { url, server: Server::Named })
    }

    async fn own(server: PrivatePostgres) -> Result<Self, String> {
        info!(how = ?server.started(), "the private Postgres runs");
        create_private_database(server.url())
            .await
            .map_err(|error| format!("cannot create the database: {}", error.chain()))?;
        Ok(Self { url: in_database(server.url())?, server: Server::Own(Box::new(server)) })
    }

    pub(crate) fn url(&self) -> &SecretString {
        &self.url
    }

    /// Whether no other process can use the database.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.server, Server::Own(_))
    }

    /// Opens a store without checking the schema.
    pub(crate) async fn connect(&self, pools: Pools) -> Result<Store, String> {
        lifecycle::connect(self.url.expose_secret(), pools).await
    }

    /// Opens a store with a usable schema. The schema of an owned server is migrated, that of another server only
    /// checked. A process that has just started its Postgres may not have created the schema yet, so this waits for it.
    pub(crate) async fn connect_with_schema(&self, pools: Pools) -> Result<Store, String> {
        let begun = Instant::now();
        loop {
            let connected = self.connect_once_with_schema(pools).await;
            let may_wait = matches!(self.server, Server::Joined) && begun.elapsed() < JOIN_TIMEOUT;
            if connected.is_ok() || !may_wait {
                return connected;
            }
            tokio::time::sleep(JOIN_POLL).await;
        }
    }

    async fn connect_once_with_schema(&self, pools: Pools) -> Result<Store, String> {
        let store = self.connect(pools).await?;
        let checked = if self.is_own() { store.migrate().await } else { store.check_schema().await };
        match checked {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error.chain())
            }
        }
    }

    /// Stops the server if this process owns it, as dropping does, and returns any error.
    pub(crate) async fn close(self) -> Result<(), String> {
        match self.server {
            Server::Named | Server::Joined => Ok(()),
            Server::Own(server) => server.stop().await.map_err(|error| chain(&error)),
        }
    }
}

/// Starts the private Postgres. The outer error means that its programs are missing, the inner one that it did not
/// start.
async fn start(settings: &Settings) -> Result<Result<PrivatePostgres, cuponera_postgres::Error>, String> {
    let binaries = Binaries::find().map_err(|error| chain(&error))?;
    Ok(PrivatePostgres::start(&binaries, &Options::new(&settings.data_dir)).await)
}

fn in_database(url: &str) -> Result<SecretString, String> {
    let url =
        private_database_url(url).map_err(|error| format!("the URL of the private Postgres {error}"))?;
    Ok(url.into())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
