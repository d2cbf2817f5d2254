//! Deletes the dead letters of jobs that were retried, in the background. The request does not wait for the queue.

use std::sync::Arc;

use cuponera_platform::queue::{Queue, delete_unneeded_dead_letters};
use cuponera_store::Store;
use tokio::sync::{Mutex, Semaphore};
use tracing::warn;

/// One pass that runs and one that waits. The waiting pass also covers all later requests.
const MAX_PASSES: usize = 2;

/// Passes over the dead-letter queue in this process run one at a time, because a message that one pass receives is hidden
/// from another.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    passes: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { passes: Arc::new(Semaphore::new(MAX_PASSES)), turn: Arc::default() }
    }
}

impl DeadLetters {
    /// A pass, to run in the background; none if one already waits.
    pub(crate) fn pass(
        &self,
        store: &Store,
        queue: &Queue,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Queue::Sqs(sqs) = queue else { return None };
        let permit = self.passes.clone().try_acquire_owned().ok()?;
        let (store, sqs, turn) = (store.clone(), sqs.clone(), self.turn.clone());
        Some(async move {
            let _turn = turn.lock().await;
            if let Err(fault) = delete_unneeded_dead_letters(&store, &sqs).await {
                warn!(
                    error = fault.chain(),
                    "cannot delete dead letters of jobs that run again; the jobs are not affected"
                );
            }
            drop(permit);
        })
    }
}
