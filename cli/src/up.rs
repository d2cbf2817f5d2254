//! `cuponera up`: Postgres, API and worker in one process. The only module that uses both API and worker.

use std::io::Write as _;
use std::sync::Arc;

use cuponera_api::{App, AppBuilder};
use cuponera_domain::audit::AuditKey;
use cuponera_platform::config::Settings;
use cuponera_platform::credential::Argon2Hasher;
use cuponera_platform::lifecycle::{self, RunningRelay};
use cuponera_platform::queue::Queue;
use cuponera_platform::telemetry::Exposition;
use cuponera_store::Store;
use cuponera_worker::Worker;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::banner::{FirstAdmin, banner};
use crate::database::Database;
use crate::secrets;

/// The name of the business that `up` creates if there is none.
const FIRST_BUSINESS: &str = "My business";
/// Logged when a second signal ends the process immediately.
pub(crate) const LAST_WORDS: &str =
    "stopping immediately; a private Postgres is left running and the next start adopts it";

/// Starts everything, serves until a signal ends it, and stops everything.
///
/// **Invariant I-43.** [`Database`] owns the private Postgres and stops it when dropped. A start that fails, panics or
/// is ended by a signal therefore leaves no process behind, at any point.
pub(crate) async fn up(settings: Settings) -> Result<(), String> {
    secrets::open_data_folder(&settings.data_dir)?;
    let listener = cuponera_api::listen(&settings)?;
    let stop = lifecycle::stop_on_signals(LAST_WORDS)?;
    let opening = Box::pin(Installation::open(&settings, &stop));
    let Some(installation) = stop.run_until_cancelled(opening).await else {
        info!("stopped before serving");
        return Ok(());
    };
    let installation = installation?;
    // The last step that may fail. A signal does not cancel it: if the account is created, its password must be
    // printed.
    let admin = first_admin(&settings, &installation.store).await?;
    let address = listener.local_addr().unwrap_or(settings.http_addr);
    let banner = banner(address, &settings.data_dir, admin.as_ref());
    // Standard output may be closed; the server runs without it.
    if let Err(error) = std::io::stdout().write_all(banner.as_bytes()) {
        let fix = "set the first admin's password with `cuponera admin reset-password`";
        warn!(%error, fix, "the banner cannot be written");
    }
    installation.serve(listener, stop).await
}

/// Upgrades the schema and builds missing indexes.
pub(crate) async fn migrate(settings: Settings) -> Result<(), String> {
    if settings.database_url.is_none() {
        secrets::open_data_folder(&settings.data_dir)?;
    }
    let work = async {
        let database = Database::open(&settings).await?;
        let store = database.connect(settings.pools()).await?;
        bring_up_to_date(&store).await?;
        store.build_indexes().await.map_err(|error| error.chain())?;
        store.close().await;
        database.close().await
    };
    lifecycle::unless_stopped(LAST_WORDS, work).await
}

async fn bring_up_to_date(store: &Store) -> Result<(), String> {
    store.migrate().await.map_err(|error| error.chain())?;
    store.open_event_log().await.map_err(|error| error.chain())
}

/// Everything that API and worker need, opened but not yet running.
struct Installation {
    app: Arc<App>,
    worker: Worker,
    queue: Queue,
    metrics: Exposition,
    store: Store,
    // Dropped last: the other fields use it.
    database: Database,
}

impl Installation {
    async fn open(settings: &Settings, stop: &CancellationToken) -> Result<Self, String> {
        let metrics = lifecycle::expose(settings, stop).await?;
        let queue = lifecycle::open_queue(settings).await?;
        let secret = jwt_secret(settings)?;
        let audit_key = audit_key(settings)?;
        let files = lifecycle::open_files(settings).await?;
        let database = Database::open(settings).await?;
        let store = queue.attach(database.connect(settings.pools()).await?);
        bring_up_to_date(&store).await?;
        if database.is_own() {
            end_leases(&store).await?;
        }
        let cache = lifecycle::open_cache(settings, &metrics).await?;
        let own = queue.attach(database.connect(settings.worker_pools()).await?);
        let worker = Worker::new(settings, "up", own, files.clone(), queue.clone(), cache.clone());
        let worker = Worker { audit_key: Some(audit_key), ..worker };
        let builder =
            AppBuilder::new(settings, &secret, store.clone(), files, queue.clone(), cache, metrics.clone());
        let app = App::start(builder).map_err(|error| error.chain())?;
        Ok(Self { app, worker, queue, metrics, store, database })
    }

    async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), String> {
        let Self { app, worker, queue, metrics, store, database } = self;
        let own = worker.store.clone();
        let tasks = TaskTracker::new();
        let relay = RunningRelay::start(&queue, &own);
        // After the API's store: backlog metrics use the store added last, which requests cannot exhaust.
        metrics.watch("worker", &own);
        tasks.spawn(worker.run(stop.clone()));
        if let Queue::Postgres(wakeups) = &queue {
            let (url, wakeups, stop) = (database.url().clone(), wakeups.clone(), stop.clone());
            tasks.spawn(async move { wakeups.listen(url.expose_secret(), &stop).await });
        }
        cuponera_api::serve(listener, app, stop.clone()).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        // After the worker, so that chunks it released are announced.
        relay.stop().await;
        lifecycle::close(&[&store, &own]).await;
        info!("stopped");
        database.close().await
    }
}

/// Makes the chunks of a dead process runnable. Their leases need not expire: no other process uses this database.
async fn end_leases(store: &Store) -> Result<(), String> {
    let ended = store.end_all_leases().await.map_err(|error| error.chain())?;
    if ended > 0 {
        info!(chunks = ended, "released the chunks of a process that died");
    }
    Ok(())
}

fn jwt_secret(settings: &Settings) -> Result<SecretString, String> {
    match &settings.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        None => secrets::jwt_secret(&settings.data_dir),
    }
}

fn audit_key(settings: &Settings) -> Result<AuditKey, String> {
    match settings.audit_key()? {
        Some(key) => Ok(key),
        None => secrets::audit_key(&settings.data_dir),
    }
}

/// Creates the first business and its admin if the database has no business.
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
    let passwords = Argon2Hasher::new().map_err(|error| error.chain())?;
    let hash = passwords.hash(password).await.map_err(|error| error.chain())?;
    let made = store.create_first_business_if_none(FIRST_BUSINESS, &settings.admin_email, &hash).await;
    let admin = FirstAdmin { email: settings.admin_email.clone(), password: shown };
    Ok(made.map_err(|error| error.chain())?.then_some(admin))
}
