//! The common parts of all programs: they read settings, handle signals, open the services they use, and
//! run the relay.
//!
//! Errors are sentences that name the setting at fault; [`report`] prints them.

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
use crate::files::Files;
use crate::queue::{Queue, Relay, Sqs, Wakeups};
use crate::telemetry::{self, Exposition, MetricsAccess};
use cuponera_store::Error;
use cuponera_store::{Pools, Store, examine};

/// Time for the last sending of the outbox.
const RELAY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Time for threads that wait for the system, for example for a DNS lookup.
const THREADS_TIMEOUT: Duration = Duration::from_millis(200);
/// Time for busy connections to be returned. With it, a worker ends within 15 s.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Must be the first call in each `main`: corrects the environment, including `.env` (see [`environment`]),
/// and selects the cryptography provider of TLS.
pub fn prepare() -> Result<(), String> {
    environment::correct_environment()?;
    // With two providers in the build there is no default. Fails only if one is already installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(())
}

/// Starts the log and runs a program with its checked settings.
pub fn run<T, F: Future<Output = Result<T, String>>>(
    settings: Settings,
    checked: Result<(), Vec<String>>,
    program: impl FnOnce(Settings) -> F,
) -> Result<T, String> {
    checked.map_err(|faults| faults.join("\n"))?;
    let _telemetry = telemetry::start(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let done = runtime.block_on(program(settings));
    // A DNS lookup on its own thread must not delay the end.
    runtime.shutdown_timeout(THREADS_TIMEOUT);
    done
}

/// Prints the errors of a program, one line each with the program's name, and returns the exit code.
pub fn report(program: &str, done: Result<(), String>) -> ExitCode {
    let Err(faults) = done else { return ExitCode::SUCCESS };
    for fault in faults.lines() {
        eprintln!("{program}: {fault}");
    }
    ExitCode::FAILURE
}

/// Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) request an orderly stop. A second signal ends the
/// process at once, after `last_words` was logged. An ignored SIGHUP, as under `nohup`, stays ignored.
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

/// Whether this process inherited an ignored SIGHUP, as under `nohup`. True if this is unknown (no
/// `/proc`).
fn ignores_hangup() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// Runs the work of a command. A signal ends it early and drops its resources.
pub async fn unless_stopped<T>(
    last_words: &'static str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let stop = stop_on_signals(last_words)?;
    let done = stop.run_until_cancelled(work).await;
    done.unwrap_or_else(|| Err("a signal stopped the command before it was finished".to_owned()))
}

/// The queue of the settings. Fails if the queue does not exist, but not if SQS is unavailable.
pub async fn open_queue(settings: &Settings) -> Result<Queue, String> {
    let Some(address) = settings.queue_address()? else {
        return Ok(Queue::Postgres(Arc::new(Wakeups::default())));
    };
    let sqs = Sqs::connect(address).await.map_err(|fault| format!("CUPONERA_QUEUE_URL: {fault}"))?;
    Ok(Queue::Sqs(Arc::new(sqs)))
}

/// The metrics of this process, on a separate address if the settings name one.
pub async fn expose(settings: &Settings, stop: &CancellationToken) -> Result<Exposition, String> {
    let access =
        if settings.metrics_addr.is_some() { MetricsAccess::OwnAddress } else { MetricsAccess::Loopback };
    let metrics = Exposition::new(access);
    if let Some(address) = settings.metrics_addr {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            format!("cannot listen on {address}: {error}. Choose another address with CUPONERA_METRICS_ADDR")
        })?;
        tokio::spawn(telemetry::serve(listener, metrics.clone(), stop.clone()));
    }
    Ok(metrics)
}

/// The Redis of the settings, if any. An unavailable Redis is not an error.
pub async fn open_cache(settings: &Settings, metrics: &Exposition) -> Result<Cache, String> {
    let cache = match &settings.redis_url {
        None => Cache::none(),
        Some(url) => Cache::open(url).await.map_err(|fault| format!("CUPONERA_REDIS_URL: {fault}"))?,
    };
    metrics.watch_cache(&cache);
    Ok(cache)
}

/// The file store of the settings. Fails if the bucket does not exist, but not if S3 is unavailable.
pub async fn open_files(settings: &Settings) -> Result<Files, String> {
    Files::open(&settings.files_address()?).await.map_err(|fault| format!("CUPONERA_FILES_URL: {fault}"))
}

/// Connects a store to a database with any schema.
pub async fn connect(url: &str, pools: Pools) -> Result<Store, String> {
    match Store::connect(url, pools).await {
        Ok(store) => Ok(store),
        // A pool only reports that it got no connection in time; a separate connection gives the reason.
        Err(away @ Error::Unavailable(_)) => Err(match examine(url).await {
            Ok(_) => error_text(away),
            Err(why) => format!("the database does not answer: {why}"),
        }),
        Err(fault) => Err(error_text(fault)),
    }
}

/// The reason why a database cannot be used: the text of an internal error; any other error means that it
/// does not answer.
fn error_text(error: Error) -> String {
    match error {
        Error::Internal(cause) => cause.to_string(),
        other => format!("the database does not answer: {}", other.chain()),
    }
}

/// A store on the configured database, whose schema must be current.
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
            Err(error_text(error))
        }
    }
}

/// Another store on that database, without a check of the schema.
pub async fn open_another_store(settings: &Settings, pools: Pools, queue: &Queue) -> Result<Store, String> {
    let url = settings.database_url.as_ref().ok_or("CUPONERA_DATABASE_URL: is not set")?;
    let store = connect(url.expose_secret(), pools).await;
    Ok(queue.attach(store.map_err(|fault| format!("CUPONERA_DATABASE_URL: {fault}"))?))
}

/// Closes the connections, but does not wait indefinitely for busy ones.
pub async fn close(stores: &[&Store]) {
    let closing = futures::future::join_all(stores.iter().map(|store| store.close()));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

/// The task that sends the outbox, if the queue is SQS.
#[derive(Debug)]
pub struct RunningRelay {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl RunningRelay {
    /// Starts the relay.
    pub fn start(queue: &Queue, store: &Store) -> Self {
        let relay = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        if let Queue::Sqs(sqs) = queue {
            relay.tasks.spawn(Relay::new(store.clone(), sqs.clone()).run(relay.stop.clone()));
        }
        relay
    }

    /// Sends the outbox once more. Messages that are not sent remain in the database for the next process.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(RELAY_TIMEOUT, self.tasks.wait()).await;
    }
}
