//! The metrics in Prometheus format. Values that are not counted as they change are read for each scrape;
//! values from the database at most every five seconds.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{metrics, process};
use crate::cache::{Cache, CacheState};
use cuponera_store::Store;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Minimum interval between two reads of the database.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Timeout of a read. Scrapers do not wait much longer for an answer.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the metrics can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    /// On the address of the API, by programs on this machine.
    Loopback,
    /// On a separate address, by any client that can reach it.
    OwnAddress,
}

type Probe = Box<dyn Fn() + Send + Sync>;

/// The metrics of this process.
#[derive(Clone)]
pub struct Exposition(Arc<Sources>);

struct Sources {
    metrics_access: MetricsAccess,
    stores: Mutex<Vec<(&'static str, Store)>>,
    probes: Mutex<Vec<Probe>>,
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Exposition {
    /// Starts collecting, unless already started.
    pub fn new(metrics_access: MetricsAccess) -> Self {
        metrics::recorder();
        metrics::prepare_jobs();
        Self(Arc::new(Sources {
            metrics_access,
            stores: Mutex::default(),
            probes: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        }))
    }

    /// Where the metrics can be read.
    pub fn metrics_access(&self) -> MetricsAccess {
        self.0.metrics_access
    }

    /// Adds the connection pools of a part of the program. The backlog is read with the connections of the
    /// last part that was added: requests never use all connections of a worker.
    pub fn watch(&self, part: &'static str, store: &Store) {
        self.0.stores.lock().unwrap_or_else(PoisonError::into_inner).push((part, store.clone()));
    }

    /// Adds a gauge for whether Redis answers.
    pub fn watch_cache(&self, cache: &Cache) {
        let cache = cache.clone();
        self.on_scrape(move || metrics::redis_is_up(cache.state() != CacheState::Disconnected));
    }

    /// Adds a probe that runs at each scrape.
    pub fn on_scrape(&self, probe: impl Fn() + Send + Sync + 'static) {
        self.0.probes.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(probe));
    }

    /// All metrics as text.
    pub async fn render(&self) -> String {
        for probe in self.0.probes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            probe();
        }
        // Before the read below, which uses connections itself.
        for (part, store) in self.stores() {
            for (pool, level) in store.pool_levels() {
                metrics::pool(part, pool, level.size, level.idle, level.most);
            }
        }
        self.refresh_backlog().await;
        process::update();
        metrics::recorder().render()
    }

    async fn refresh_backlog(&self) {
        let mut looked = self.0.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return;
        }
        let stores = self.stores();
        let waits = stores.iter().map(|(part, store)| async move {
            for (pool, waited) in store.pool_waits().await {
                metrics::pool_waited(part, pool, waited);
            }
        });
        futures::future::join_all(waits).await;
        if let Some((_, store)) = stores.last() {
            // In a separate task: it begins a transaction, and a scraper may disconnect meanwhile.
            let store = store.clone();
            let update = tokio::spawn(async move { store.backlog().await });
            let backlog =
                timeout(REFRESH_TIMEOUT, update).await.ok().and_then(Result::ok).and_then(Result::ok);
            let backlog =
                backlog.map(|all| (all.runnable, all.oldest.unwrap_or_default(), all.unsent, all.deliveries));
            metrics::backlog(backlog);
        }
        if let Some((_, store)) = stores.last() {
            let store = store.clone();
            let update = tokio::spawn(async move { store.sealing_lag().await });
            let lag = timeout(REFRESH_TIMEOUT, update).await.ok().and_then(Result::ok).and_then(Result::ok);
            if let Some(lag) = lag {
                metrics::sealing_lag(lag.lag, lag.oldest_writer);
            }
        }
        *looked = Some(Instant::now());
    }

    fn stores(&self) -> Vec<(&'static str, Store)> {
        self.0.stores.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").field("metrics_access", &self.0.metrics_access).finish_non_exhaustive()
    }
}
