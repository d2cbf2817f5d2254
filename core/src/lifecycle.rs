//! What every program of ours does alike: it reads its settings, hears signals, opens what it works with, and runs the relay.
//!
//! Whatever is wrong comes back as a sentence that names the setting at fault; [`report`] prints it.

mod environment;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::cache::Cache;
use crate::config::Settings;
use crate::error::Error;
use crate::files::Files;
use crate::queue::{Queue, Relay, Sqs, Wakeups};
use crate::store::{Pools, Store, examine};
use crate::telemetry::{self, Exposition};

/// How long the outbox may take to be sent a last time.
const RELAY_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long threads that wait for the system may take, such as for the address of a name.
const THREADS_PATIENCE: Duration = Duration::from_millis(200);
/// How long connections that are in use may take to be given back. With it a worker has ended within 15 s.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// Comes first in every `main`: puts the environment in order, with `.env` (see [`environment`]), and chooses the
/// implementation of TLS's cryptography.
pub fn prepare() -> Result<(), String> {
    environment::put_in_order()?;
    // With two providers in the build there is no default. It fails only if there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(())
}

/// Starts the log and runs a program with settings that have been checked.
pub fn run<F: Future<Output = Result<(), String>>>(
    settings: Settings,
    checked: Result<(), Vec<String>>,
    program: impl FnOnce(Settings) -> F,
) -> Result<(), String> {
    checked.map_err(|faults| faults.join("\n"))?;
    let _telemetry = telemetry::start(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let done = runtime.block_on(program(settings));
    // A name that is still being looked up on a thread of its own must not hold up the end.
    runtime.shutdown_timeout(THREADS_PATIENCE);
    done
}

/// What a program tells its caller at its end: what was wrong, a line each, with its own name before it.
pub fn report(program: &str, done: Result<(), String>) -> ExitCode {
    let Err(faults) = done else { return ExitCode::SUCCESS };
    for fault in faults.lines() {
        eprintln!("{program}: {fault}");
    }
    ExitCode::FAILURE
}

/// Ctrl-C, SIGTERM and SIGHUP (the terminal is gone) ask for an orderly end; a second one ends at once, after `last_words`
/// for the log. A SIGHUP that is ignored, as under `nohup`, stays so.
pub fn stop_on_signals(last_words: &'static str) -> Result<CancellationToken, String> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut hangup = (!ignores_hangup())
        .then(|| signal(SignalKind::hangup()))
        .transpose()
        .map_err(|error| error.to_string())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let mut hung_up = async || match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        };
        let mut next = async || {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hung_up() => {} }
        };
        next().await;
        info!("stopping");
        told.cancel();
        next().await;
        warn!("{last_words}");
        std::process::exit(130);
    });
    Ok(stop)
}

/// Whether this process inherited an ignored SIGHUP, as under `nohup`. True if the system does not say (no `/proc`).
fn ignores_hangup() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// Does the work of a command; a signal ends it early, and what it holds is dropped.
pub async fn unless_stopped<T>(
    last_words: &'static str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let stop = stop_on_signals(last_words)?;
    let done = stop.run_until_cancelled(work).await;
    done.unwrap_or_else(|| Err("a signal ended it before it was done".to_owned()))
}

/// The queue of the settings. A queue that is away is no reason not to start; one that is not there is.
pub async fn open_queue(settings: &Settings) -> Result<Queue, String> {
    let Some(address) = settings.queue_address()? else {
        return Ok(Queue::Postgres(Arc::new(Wakeups::default())));
    };
    let sqs = Sqs::connect(address).await.map_err(|fault| format!("CUPONERA_QUEUE_URL: {fault}"))?;
    Ok(Queue::Sqs(Arc::new(sqs)))
}

/// The metrics of this process, on an address of their own if the settings name one.
pub async fn expose(settings: &Settings, stop: &CancellationToken) -> Result<Exposition, String> {
    let metrics = settings.exposition();
    if let Some(address) = settings.metrics_addr {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            format!("cannot listen on {address}: {error}. Choose another address with CUPONERA_METRICS_ADDR")
        })?;
        tokio::spawn(telemetry::serve(listener, metrics.clone(), stop.clone()));
    }
    Ok(metrics)
}

/// The Redis of the settings, if there is one. One that is away is no reason not to start.
pub async fn open_cache(settings: &Settings, metrics: &Exposition) -> Result<Cache, String> {
    let cache = match &settings.redis_url {
        None => Cache::none(),
        Some(url) => Cache::open(url).await.map_err(|fault| format!("CUPONERA_REDIS_URL: {fault}"))?,
    };
    metrics.watch_cache(&cache);
    Ok(cache)
}

/// The files of the settings. A bucket that is away is no reason not to start; one that is not there is.
pub async fn open_files(settings: &Settings) -> Result<Files, String> {
    Files::open(&settings.files_address()?).await.map_err(|fault| format!("CUPONERA_FILES_URL: {fault}"))
}

/// A store on a database, whatever its schema is.
pub async fn connect(url: &str, pools: Pools) -> Result<Store, String> {
    match Store::connect(url, pools).await {
        Ok(store) => Ok(store),
        // A pool knows only that it had no connection in time: who looks is told why.
        Err(away @ Error::Unavailable(_)) => Err(match examine(url).await {
            Ok(_) => said(away),
            Err(why) => format!("the database does not answer: {why}"),
        }),
        Err(fault) => Err(said(fault)),
    }
}

/// What keeps us from a database: a fault of ours says it all, anything else is that it is away.
fn said(error: Error) -> String {
    match error {
        Error::Internal(cause) => cause.to_string(),
        other => format!("the database does not answer: {}", other.chain()),
    }
}

/// A store on the database that the settings name, whose schema another program has brought up to date.
pub async fn open_store(settings: &Settings, pools: Pools, queue: &Queue) -> Result<Store, String> {
    let store = open_another_store(settings, pools, queue).await?;
    let opened = async {
        store.check_schema().await?;
        store.open_event_log().await
    };
    match opened.await {
        Ok(()) => Ok(store),
        Err(error) => {
            store.close().await;
            Err(said(error))
        }
    }
}

/// One more on that database, whose schema was checked.
pub async fn open_another_store(settings: &Settings, pools: Pools, queue: &Queue) -> Result<Store, String> {
    let url = settings.database_url.as_ref().ok_or("CUPONERA_DATABASE_URL: is not set")?;
    let store = connect(url.expose_secret(), pools).await;
    Ok(queue.attach(store.map_err(|fault| format!("CUPONERA_DATABASE_URL: {fault}"))?))
}

/// Closes the connections, but does not wait for ever for those that are in use.
pub async fn close(stores: &[&Store]) {
    let closing = futures::future::join_all(stores.iter().map(|store| store.close()));
    let _ = tokio::time::timeout(CLOSE_PATIENCE, closing).await;
}

/// What sends the outbox, if there is a queue to send it to.
#[derive(Debug)]
pub struct RunningRelay {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl RunningRelay {
    /// Starts it.
    pub fn start(queue: &Queue, store: &Store) -> Self {
        let relay = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        if let Queue::Sqs(sqs) = queue {
            relay.tasks.spawn(Relay::new(store.clone(), sqs.clone()).run(relay.stop.clone()));
        }
        relay
    }

    /// Sends what is there once more. What that does not reach stays in the database, for the next process.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(RELAY_PATIENCE, self.tasks.wait()).await;
    }
}
