//! `cuponera up`: Postgres, API and worker as one process. The one place that sees both API and worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cuponera_api::{App, Parts};
use cuponera_core::config::Settings;
use cuponera_core::credential::{Passwords, Tokens};
use cuponera_core::error::Error;
use cuponera_core::files::Files;
use cuponera_core::queue::Wakeups;
use cuponera_core::store::{Pools, Store};
use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use cuponera_worker::Worker;
use poem::listener::{Acceptor, TcpAcceptor};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::banner::{FirstAdmin, banner};
use crate::secrets;

/// The database that `up` makes in its private Postgres.
pub(crate) const DATABASE: &str = "cuponera";
/// The first business, if there is none.
const FIRST_BUSINESS: &str = "My business";
/// How long the last tasks may take once API and worker have ended.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// Starts everything, serves until told to stop, and stops everything.
pub(crate) async fn up(settings: Settings) -> Result<(), String> {
    secrets::open_data_folder(&settings.data_dir)?;
    let acceptor = cuponera_api::bind(settings.http_addr).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}. Choose another address with CUPONERA_HTTP_ADDR",
            settings.http_addr
        )
    })?;
    // From here on a signal leads to an orderly end, also while Postgres starts.
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let database = Database::open(&settings).await?;
    let served = serve(&settings, acceptor, &database, &stop).await;
    let closed = database.close().await;
    served.and(closed)
}

/// Brings the schema up to date.
pub(crate) async fn migrate(settings: Settings) -> Result<(), String> {
    secrets::open_data_folder(&settings.data_dir)?;
    let database = Database::open(&settings).await?;
    let migrated = match connect(&database, settings.pools()).await {
        Ok(store) => store.migrate().await.map_err(|error| error.chain()),
        Err(message) => Err(message),
    };
    let closed = database.close().await;
    migrated.and(closed)
}

async fn serve(
    settings: &Settings,
    acceptor: TcpAcceptor,
    database: &Database,
    stop: &CancellationToken,
) -> Result<(), String> {
    let store = connect(database, settings.pools()).await?;
    store.migrate().await.map_err(|error| error.chain())?;
    // Before anything can write an event: one in the rest partition would keep its month from having its own.
    store.ensure_event_months().await.map_err(|error| error.chain())?;
    if database.is_private() {
        // Nobody else works on this database, so what a process that died was at need not wait for its lease.
        let ended = store.end_all_leases().await.map_err(|error| error.chain())?;
        if ended > 0 {
            info!(chunks = ended, "chunks of a process that ended early are taken over");
        }
    }
    let admin = first_admin(settings, &store).await?;
    let folder = settings.files_folder()?;
    let files =
        Files::in_folder(&folder).map_err(|error| format!("{}: {}", folder.display(), error.chain()))?;
    let tasks = TaskTracker::new();
    let own = connect(database, settings.worker_pools()).await?;
    start_worker(settings, database, &own, &files, &tasks, stop);
    let app = App::start(parts(settings, store.clone(), files)?).map_err(|error| error.chain())?;
    print!("{}", banner(address_of(&acceptor, settings), &settings.data_dir, admin.as_ref()));
    let served = cuponera_api::serve(acceptor, app, stop.clone()).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, async { tokio::join!(store.close(), own.close()) }).await;
    info!("stopped");
    served.map_err(|error| format!("the API ended: {error}"))
}

/// Where it listens: the system has chosen the port if the settings left that to it.
fn address_of(acceptor: &impl Acceptor, settings: &Settings) -> SocketAddr {
    let bound = acceptor.local_addr();
    bound.first().and_then(|local| local.as_socket_addr()).copied().unwrap_or(settings.http_addr)
}

fn start_worker(
    settings: &Settings,
    database: &Database,
    store: &Store,
    files: &Files,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let wakeups = Arc::new(Wakeups::default());
    let worker = Worker {
        store: store.clone(),
        files: files.clone(),
        wakeups: wakeups.clone(),
        concurrency: settings.concurrency(),
        name: format!("up-{}", std::process::id()),
    };
    tasks.spawn(worker.run(stop.clone()));
    let (url, stop) = (database.url.expose_secret().to_owned(), stop.clone());
    tasks.spawn(async move { wakeups.listen(&url, &stop).await });
}

fn parts(settings: &Settings, store: Store, files: Files) -> Result<Parts, String> {
    let secret = match &settings.jwt_secret {
        Some(secret) => secret.clone(),
        None => secrets::jwt_secret(&settings.data_dir)?,
    };
    Ok(Parts {
        store,
        files,
        tokens: Tokens::new(&secret, settings.access_token_ttl),
        refresh_ttl: settings.refresh_token_ttl,
        upload_limit: settings.upload_limit.as_u64(),
        lanes: settings.lanes(),
    })
}

async fn connect(database: &Database, pools: Pools) -> Result<Store, String> {
    Store::connect(database.url.expose_secret(), pools).await.map_err(|error| match error {
        Error::Internal(cause) => cause.to_string(),
        other => format!("the database does not answer: {}", other.chain()),
    })
}

/// Makes the first business and its admin, once.
async fn first_admin(settings: &Settings, store: &Store) -> Result<Option<FirstAdmin>, String> {
    if store.has_business().await.map_err(|error| error.chain())? {
        return Ok(None);
    }
    let (password, shown) = if let Some(password) = &settings.admin_password {
        (password.clone(), None)
    } else {
        let password = secrets::password()?;
        (SecretString::from(password.clone()), Some(password))
    };
    let passwords = Passwords::new().map_err(|error| error.chain())?;
    let hash = passwords.hash(password).await.map_err(|error| error.chain())?;
    let made = store.create_first_business_if_none(FIRST_BUSINESS, &settings.admin_email, &hash).await;
    let admin = FirstAdmin { email: settings.admin_email.clone(), password: shown };
    Ok(made.map_err(|error| error.chain())?.then_some(admin))
}

/// The database of this installation: a private server, or somebody else's.
struct Database {
    url: SecretString,
    private: Option<PrivatePostgres>,
}

impl Database {
    async fn open(settings: &Settings) -> Result<Self, String> {
        if let Some(url) = &settings.database_url {
            return Ok(Self { url: url.clone(), private: None });
        }
        let binaries = Binaries::find().map_err(|error| chain(&error))?;
        let server = PrivatePostgres::start(&binaries, &Options::new(&settings.data_dir)).await;
        let server = server.map_err(|error| chain(&error))?;
        info!(how = ?server.started(), "the private Postgres runs");
        let admin: PgConnectOptions =
            server.url().parse().map_err(|_| "the private Postgres has a strange address")?;
        create_database(&admin).await.map_err(|error| format!("the database cannot be made: {error}"))?;
        let url = admin.database(DATABASE).to_url_lossy().to_string();
        Ok(Self { url: url.into(), private: Some(server) })
    }

    fn is_private(&self) -> bool {
        self.private.is_some()
    }

    async fn close(self) -> Result<(), String> {
        match self.private {
            None => Ok(()),
            Some(server) => server.stop().await.map_err(|error| chain(&error)),
        }
    }
}

async fn create_database(admin: &PgConnectOptions) -> sqlx::Result<()> {
    let mut connection = admin.connect().await?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(DATABASE)
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        sqlx::query(AssertSqlSafe(format!("create database {DATABASE}"))).execute(&mut connection).await?;
    }
    Ok(())
}

/// Ctrl-C and SIGTERM ask for an orderly end; a second one ends at once.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), String> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        };
        next().await;
        info!("stopping");
        stop.cancel();
        next().await;
        warn!("stopping at once; a private Postgres is left running and found again at the next start");
        std::process::exit(130);
    });
    Ok(())
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
