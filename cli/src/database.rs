//! The database of an installation: somebody else's, a private server of our own, or one that another process runs.
//!
//! **Invariant.** A server of our own ends with the [`Database`] that has it, whether or not anything went wrong.

use std::time::{Duration, Instant};

use cuponera_core::config::Settings;
use cuponera_core::lifecycle;
use cuponera_core::store::{Pools, Store, connect_options};
use cuponera_postgres::{Binaries, Options, PrivatePostgres, find_running};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tracing::info;

/// The database that is made in a private Postgres.
pub(crate) const DATABASE: &str = "cuponera";
/// How long a `cuponera up` on the same data folder may take to start or to stop before we give up.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);
const JOIN_POLL: Duration = Duration::from_millis(100);
/// The SQLSTATE of a server that starts, recovers or stops.
const CANNOT_CONNECT_NOW: &str = "57P03";
const RECOVERY_POLL: Duration = Duration::from_millis(50);

/// Where the data is, and whose the server is.
pub(crate) struct Database {
    url: SecretString,
    server: Server,
}

enum Server {
    /// Named in the settings.
    Named,
    /// Another process's: used, and left running.
    Joined,
    /// Ours: started, or adopted from a process that was killed. It stops when this is dropped.
    Own(Box<PrivatePostgres>),
}

impl Database {
    /// The database that the settings name, or the private one of the data folder, which nobody else may use meanwhile.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, String> {
        if let Some(named) = Self::named(settings) {
            return Ok(named);
        }
        Self::own(start(settings).await?.map_err(|error| chain(&error))?).await
    }

    /// The same, but where `cuponera up` runs on the data folder its Postgres is used beside it.
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
                // It is just starting, or stopping.
                Err(cuponera_postgres::Error::Locked { .. }) if begun.elapsed() < JOIN_PATIENCE => {}
                Err(error) => return Err(chain(&error)),
            }
        }
    }

    fn named(settings: &Settings) -> Option<Self> {
        settings.database_url.clone().map(|url| Self { url, server: Server::Named })
    }

    async fn own(server: PrivatePostgres) -> Result<Self, String> {
        info!(how = ?server.started(), "the private Postgres runs");
        create_database(server.url()).await?;
        Ok(Self { url: in_database(server.url())?, server: Server::Own(Box::new(server)) })
    }

    pub(crate) fn url(&self) -> &SecretString {
        &self.url
    }

    /// Whether nobody else can be at work on it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.server, Server::Own(_))
    }

    /// A store on it, whatever its schema is.
    pub(crate) async fn connect(&self, pools: Pools) -> Result<Store, String> {
        lifecycle::connect(self.url.expose_secret(), pools).await
    }

    /// A store on it whose schema will do: ours is brought up to date, others' is looked at. Where another process has
    /// just started its Postgres, it may not have made the schema yet.
    pub(crate) async fn connect_with_schema(&self, pools: Pools) -> Result<Store, String> {
        let begun = Instant::now();
        loop {
            let connected = self.connect_once_with_schema(pools).await;
            let may_wait = matches!(self.server, Server::Joined) && begun.elapsed() < JOIN_PATIENCE;
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

    /// Stops the server if it is ours, as dropping does, and says what went wrong.
    pub(crate) async fn close(self) -> Result<(), String> {
        match self.server {
            Server::Named | Server::Joined => Ok(()),
            Server::Own(server) => server.stop().await.map_err(|error| chain(&error)),
        }
    }
}

/// Starts the private Postgres; the outer error is of the machine, the inner one of the folder.
async fn start(settings: &Settings) -> Result<Result<PrivatePostgres, cuponera_postgres::Error>, String> {
    let binaries = Binaries::find().map_err(|error| chain(&error))?;
    Ok(PrivatePostgres::start(&binaries, &Options::new(&settings.data_dir)).await)
}

/// The same server's database of ours.
fn in_database(url: &str) -> Result<SecretString, String> {
    Ok(options(url)?.database(DATABASE).to_url_lossy().to_string().into())
}

fn options(url: &str) -> Result<PgConnectOptions, String> {
    connect_options(url).map_err(|error| format!("the URL of the private Postgres {error}"))
}

async fn create_database(url: &str) -> Result<(), String> {
    let made = create_database_if_absent(&options(url)?).await;
    made.map_err(|error| format!("the database cannot be made: {error}"))
}

async fn create_database_if_absent(admin: &PgConnectOptions) -> sqlx::Result<()> {
    let mut connection = connect_when_recovered(admin).await?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(DATABASE)
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        sqlx::query(AssertSqlSafe(format!("create database {DATABASE}"))).execute(&mut connection).await?;
    }
    Ok(())
}

/// A server that was adopted says that it is ready also while it recovers from the crash of one of its processes, which may
/// take as long as any recovery does; then it refuses connections.
async fn connect_when_recovered(admin: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let mut is_announced = false;
    loop {
        match admin.connect().await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CANNOT_CONNECT_NOW) => {
                if !is_announced {
                    info!(error = %error, "waiting for Postgres to recover");
                    is_announced = true;
                }
                tokio::time::sleep(RECOVERY_POLL).await;
            }
            connected => return connected,
        }
    }
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
