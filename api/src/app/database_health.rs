//! Whether the database answers. It is queried at most twice a second, regardless of the number of requests.

use std::time::{Duration, Instant};

use cuponera_store::Store;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a result is valid.
const RESULT_TTL: Duration = Duration::from_millis(500);
/// Timeout of the query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The last result, and when it was obtained.
#[derive(Debug, Default)]
pub(crate) struct DatabaseHealth {
    last: Mutex<Option<(Instant, bool)>>,
}

impl DatabaseHealth {
    /// Whether the database answers. Concurrent calls wait for one query.
    pub(crate) async fn is_connected(&self, store: &Store) -> bool {
        let mut last = self.last.lock().await;
        if let Some((_, is_connected)) = last.filter(|(at, _)| at.elapsed() < RESULT_TTL) {
            return is_connected;
        }
        let is_connected = matches!(timeout(QUERY_TIMEOUT, store.ping()).await, Ok(Ok(())));
        *last = Some((Instant::now(), is_connected));
        is_connected
    }
}
