//! `cuponera up`: Postgres, API and worker as one process. The one place that sees both API and worker.

use std::sync::Arc;
use std::time::Duration;

use cuponera_api::{App, Limits, Misses, Parts};
use cuponera_core::config::Settings;
use cuponera_core::credential::{Passwords, Tokens};
use cuponera_core::files::Files;
use cuponera_core::queue::Wakeups;
use cuponera_core::store::Store;
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

/// Starts everything, serves until told to stop, and stops everything.
pub(crate) async fn up(settings: Settings) -> Result<(), String> {
    secrets::open_data_folder(&settings.data_dir)?;
    let listener = cuponera_api::bind(settings.http_addr).map_err(|error| {
        format!(
            "cannot listen on {}: {error}. Choose another address with CUPONERA_HTTP_ADDR",
            settings.http_addr
        )
    })?;
    // From here on a signal leads to an orderly end, also while Postgres starts.
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let database = Database::open(&settings).await?;
    let served = serve(&settings, listener, &database, &stop).await;
    let closed = database.close().await;
    served.and(closed)
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
    database: &Database,
    stop: &CancellationToken,
) -> Result<(), String> {
    let store = database.connect(settings.pools()).await?;
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
    let own = database.connect(settings.worker_pools()).await?;
    start_worker(settings, database, &own, &files, &tasks, stop);
    let app = App::start(parts(settings, store.clone(), files)?).map_err(|error| error.chain())?;
    print!(
        "{}",
        banner(listener.local_addr().unwrap_or(settings.http_addr), &settings.data_dir, admin.as_ref())
    );
    cuponera_api::serve(listener, app, stop.clone()).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, async { tokio::join!(store.close(), own.close()) }).await;
    info!("stopped");
    Ok(())
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
    let (url, stop) = (database.url().expose_secret().to_owned(), stop.clone());
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
        limits: limits(settings),
        cors_origins: settings.cors_origins.clone(),
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
