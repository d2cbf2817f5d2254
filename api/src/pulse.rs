//! Whether the database answers: asked at most twice a second, however many want to know.

use std::time::{Duration, Instant};

use cuponera_core::store::Store;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a verdict holds.
const FRESH: Duration = Duration::from_millis(500);
/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last verdict, and when it was found.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Pulse {
    /// Whether the database answers. Whoever asks while another is finding out waits for that verdict.
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
