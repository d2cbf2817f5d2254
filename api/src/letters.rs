//! Takes letters off the dead-letter queue whose jobs run again. Whoever redrives does not wait for the queue.

use std::sync::Arc;

use cuponera_core::queue::{Queue, forget_needless_letters};
use tokio::sync::{Mutex, Semaphore};
use tracing::warn;

use crate::app::App;

/// One that reads and one that waits: it will see whatever is asked of it meanwhile.
const READERS: usize = 2;

/// The readers of letters in this process, one after the other: two would hide letters from each other.
#[derive(Debug)]
pub(crate) struct Letters {
    places: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

impl Default for Letters {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(READERS)), turn: Arc::default() }
    }
}

impl Letters {
    /// Has the letters read behind the caller's back.
    pub(crate) fn forget_needless(&self, app: &App) {
        let Queue::Sqs(sqs) = &app.queue else { return };
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        let (store, sqs, turn) = (app.store.clone(), sqs.clone(), self.turn.clone());
        app.run_behind(async move {
            let _turn = turn.lock().await;
            if let Err(fault) = forget_needless_letters(&store, &sqs).await {
                warn!(error = fault.chain(), "dead letters stay: their jobs run all the same");
            }
            drop(place);
        });
    }
}
