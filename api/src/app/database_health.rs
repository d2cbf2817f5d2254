//! Whether the database answers. It is queried at most twice a second, regardless of the number of requests.

use std::time::{Duration, Instant};

use cuponera_core::store::Store;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a result is valid.
const FRESH: Duration = Duration::from_millis(500);
/// Timeout of the query.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last result, and when it was obtained.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Pulse {
    /// Whether the database answers. Concurrent calls wait for one query.
    pub(crate) async fn is_felt(&self, store: &Store) -> bool {
        let mut last = self.last.lock().await;
        if let Some((_, verdict)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return verdict;
        }
        let verdict = matches!(timeout(PATIENCE, store.ping()).await, Ok(Ok(())));
        *last = Some((Instant::now(), verdict));
        verdict
    }
}
