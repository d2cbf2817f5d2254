//! `cuponera up`: Postgres, API and worker as one process. The one place that sees both API and worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cuponera_api::{App, Limits, Misses, Parts};
use cuponera_core::config::Settings;
use cuponera_core::credential::{Passwords, Tokens};
use cuponera_core::files::Files;
use cuponera_core::queue::{Queue, Relay, Sqs, Wakeups};
use cuponera_core::store::Store;
use cuponera_core::telemetry::{self, Exposition};
use cuponera_worker::Worker;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::banner::{FirstAdmin, banner};
use crate::database::Database;
use crate::secrets;

/// The first business, if there is none.
const FIRST_BUSINESS: &str = "My business";
/// How long the last tasks may take once API and worker have ended.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);
/// How long the outbox may take to be sent a last time.
const RELAY_PATIENCE: Duration = Duration::from_secs(2);

/// Starts everything, serves until told to stop, and stops everything.
pub(crate) async fn up(settings: Settings) -> Result<(), String> {
    secrets::open_data_folder(&settings.data_dir)?;
    let listener = bind(settings.http_addr, "CUPONERA_HTTP_ADDR")?;
    // From here on a signal leads to an orderly end, also while Postgres starts.
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let scraped = settings.metrics_addr.map(|address| bind(address, "CUPONERA_METRICS_ADDR")).transpose()?;
    let queue = open_queue(&settings).await?;
    let database = Database::open(&settings).await?;
    let metrics = settings.exposition();
    if let Some(listener) = scraped {
        tokio::spawn(telemetry::serve(listener, metrics.clone(), stop.clone()));
    }
    let served = serve(&settings, listener, metrics, &database, &queue, &stop).await;
    let closed = database.close().await;
    served.and(closed)
}

/// Takes an address; the message names the setting to choose another with.
fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, String> {
    cuponera_api::bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}. Choose another address with {setting}")
    })
}

/// Brings the schema up to date.
pub(crate) async fn migrate(settings: Settings) -> Result<(), String> {
    secrets::open_data_folder(&settings.data_dir)?;
    let database = Database::open(&settings).await?;
    let migrated = match database.connect(settings.pools()).await {
        Ok(store) => store.migrate().await.map_err(|error| error.chain()),
        Err(message) => Err(message),
    };
    let closed = database.close().await;
    migrated.and(closed)
}

async fn serve(
    settings: &Settings,
    listener: TcpListener,
    metrics: Exposition,
    database: &Database,
    queue: &Queue,
    stop: &CancellationToken,
) -> Result<(), String> {
    let store = queue.attach(database.connect(settings.pools()).await?);
    store.migrate().await.map_err(|error| error.chain())?;
    // Before anything can write an event: one in the rest partition would keep its month from having its own.
    store.ensure_event_months().await.map_err(|error| error.chain())?;
    if database.is_own() {
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
    let own = queue.attach(database.connect(settings.worker_pools()).await?);
    let relay = start_relay(queue, &own);
    start_worker(settings, &own, &files, queue, &tasks, stop);
    if let Queue::Postgres(wakeups) = queue {
        let (url, wakeups, stop) = (database.url().clone(), wakeups.clone(), stop.clone());
        tasks.spawn(async move { wakeups.listen(url.expose_secret(), &stop).await });
    }
    let app = App::start(parts(settings, store.clone(), files, queue.clone(), metrics.clone())?)
        .map_err(|error| error.chain())?;
    // After the API's: a look at the backlog waits for no request.
    metrics.watch("worker", &own);
    print!(
        "{}",
        banner(listener.local_addr().unwrap_or(settings.http_addr), &settings.data_dir, admin.as_ref())
    );
    cuponera_api::serve(listener, app, stop.clone()).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    // After the worker: a chunk that it gave back is announced.
    relay.stop().await;
    let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, async { tokio::join!(store.close(), own.close()) }).await;
    info!("stopped");
    Ok(())
}

fn start_worker(
    settings: &Settings,
    store: &Store,
    files: &Files,
    queue: &Queue,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let worker = Worker {
        store: store.clone(),
        files: files.clone(),
        queue: queue.clone(),
        concurrency: settings.concurrency(),
        name: format!("up-{}", std::process::id()),
    };
    tasks.spawn(worker.run(stop.clone()));
}

/// What sends the outbox, if there is a queue to send it to.
struct RunningRelay {
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn start_relay(queue: &Queue, store: &Store) -> RunningRelay {
    let relay = RunningRelay { stop: CancellationToken::new(), tasks: TaskTracker::new() };
    if let Queue::Sqs(sqs) = queue {
        relay.tasks.spawn(Relay::new(store.clone(), sqs.clone()).run(relay.stop.clone()));
    }
    relay
}

impl RunningRelay {
    /// Sends what is there once more. What that does not reach stays in the database, for the next process.
    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(RELAY_PATIENCE, self.tasks.wait()).await;
    }
}

/// The queue of the settings. A queue that is away is no reason not to start; one that is not there is.
pub(crate) async fn open_queue(settings: &Settings) -> Result<Queue, String> {
    let Some(address) = settings.queue_address()? else {
        return Ok(Queue::Postgres(Arc::new(Wakeups::default())));
    };
    let sqs = Sqs::connect(address).await.map_err(|fault| format!("CUPONERA_QUEUE_URL: {fault}"))?;
    Ok(Queue::Sqs(Arc::new(sqs)))
}

fn parts(
    settings: &Settings,
    store: Store,
    files: Files,
    queue: Queue,
    metrics: Exposition,
) -> Result<Parts, String> {
    let secret = match &settings.jwt_secret {
        Some(secret) => secret.clone(),
        None => secrets::jwt_secret(&settings.data_dir)?,
    };
    Ok(Parts {
        store,
        files,
        queue,
        tokens: Tokens::new(&secret, settings.access_token_ttl),
        refresh_ttl: settings.refresh_token_ttl,
        upload_limit: settings.upload_limit.as_u64(),
        lanes: settings.lanes(),
        limits: limits(settings),
        cors_origins: settings.cors_origins.clone(),
        metrics,
    })
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        anonymous: settings.rate_limit_anonymous.0,
        user: settings.rate_limit_user.0,
        service: settings.rate_limit_service.0,
        admin: settings.rate_limit_admin.0,
        misses: Some(Misses::default()),
        trusted_proxies: settings.trusted_proxies.clone(),
        connections: None,
    }
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
