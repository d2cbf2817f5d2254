//! `cuponera up`: Postgres, API and worker as one process. The one place that sees both API and worker.

use std::io::Write as _;
use std::sync::Arc;

use cuponera_api::{App, Parts};
use cuponera_core::config::Settings;
use cuponera_core::credential::Passwords;
use cuponera_core::lifecycle::{self, RunningRelay};
use cuponera_core::queue::Queue;
use cuponera_core::store::Store;
use cuponera_core::telemetry::Exposition;
use cuponera_worker::Worker;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::banner::{FirstAdmin, banner};
use crate::database::Database;
use crate::secrets;

/// The first business, if there is none.
const FIRST_BUSINESS: &str = "My business";
/// What the log says last if a second signal comes.
pub(crate) const LAST_WORDS: &str =
    "stopping at once; a private Postgres is left running and found again at the next start";

/// Starts everything, serves until a signal ends it, and stops everything.
///
/// **Invariant.** The private Postgres belongs to [`Database`], which stops it when it is dropped. So a start that fails,
/// panics or is ended by a signal leaves no process behind, wherever it was.
pub(crate) async fn up(settings: Settings) -> Result<(), String> {
    secrets::open_data_folder(&settings.data_dir)?;
    let listener = cuponera_api::listen(&settings)?;
    let stop = lifecycle::stop_on_signals(LAST_WORDS)?;
    let opening = Box::pin(Installation::open(&settings, &stop));
    let Some(installation) = stop.run_until_cancelled(opening).await else {
        info!("stopped before it served");
        return Ok(());
    };
    let installation = installation?;
    // Last of what may fail, and not to be cut short: a password that was made up is shown if the account was made.
    let admin = first_admin(&settings, &installation.store).await?;
    let address = listener.local_addr().unwrap_or(settings.http_addr);
    let banner = banner(address, &settings.data_dir, admin.as_ref());
    // The standard output may be closed. The server runs without it.
    if let Err(error) = std::io::stdout().write_all(banner.as_bytes()) {
        let fix = "a first admin's password can be set with `cuponera admin reset-password`";
        warn!(%error, fix, "the banner cannot be written");
    }
    installation.serve(listener, stop).await
}

/// Brings the schema up to date.
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

/// All that API and worker need; nothing of them runs yet.
struct Installation {
    app: Arc<App>,
    worker: Worker,
    queue: Queue,
    metrics: Exposition,
    store: Store,
    // After what uses it.
    database: Database,
}

impl Installation {
    async fn open(settings: &Settings, stop: &CancellationToken) -> Result<Self, String> {
        let metrics = lifecycle::expose(settings, stop).await?;
        let queue = lifecycle::open_queue(settings).await?;
        let secret = jwt_secret(settings)?;
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
        let parts =
            Parts::new(settings, &secret, store.clone(), files, queue.clone(), cache, metrics.clone());
        let app = App::start(parts).map_err(|error| error.chain())?;
        Ok(Self { app, worker, queue, metrics, store, database })
    }

    async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), String> {
        let Self { app, worker, queue, metrics, store, database } = self;
        let own = worker.store.clone();
        let tasks = TaskTracker::new();
        let relay = RunningRelay::start(&queue, &own);
        // After the API's: a look at the backlog waits for no request.
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
        // After the worker: a chunk that it gave back is announced.
        relay.stop().await;
        lifecycle::close(&[&store, &own]).await;
        info!("stopped");
        database.close().await
    }
}

/// No other process works on this database, so what a process that died was at need not wait for its lease.
async fn end_leases(store: &Store) -> Result<(), String> {
    let ended = store.end_all_leases().await.map_err(|error| error.chain())?;
    if ended > 0 {
        info!(chunks = ended, "chunks of a process that ended early are taken over");
    }
    Ok(())
}

fn jwt_secret(settings: &Settings) -> Result<SecretString, String> {
    match &settings.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        None => secrets::jwt_secret(&settings.data_dir),
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
