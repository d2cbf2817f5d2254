//! Sends notes about locks to Redis after the answer, in the background.

use cuponera_domain::lock::LockNote;
use cuponera_platform::cache::{Cache, CacheState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Maximum number of waiting notes. A note beyond it is dropped: the sweep finds the lock in `lock_agenda`.
const MAX_WAITING: usize = 4_096;
/// Maximum number of notes in one call.
const AT_ONCE: usize = 256;

/// The queue in which lanes put their notes.
#[derive(Debug, Clone)]
pub(crate) struct LockNotes {
    cache: Cache,
    sender: mpsc::Sender<LockNote>,
}

impl LockNotes {
    /// Starts the task that sends the notes.
    pub(crate) fn start(cache: Cache, stop: CancellationToken, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        if cache.state() != CacheState::Disabled {
            tasks.spawn(send(cache.clone(), receiver, stop));
        }
        Self { cache, sender }
    }

    /// Queues notes if Redis is connected.
    pub(crate) fn leave(&self, notes: impl Iterator<Item = LockNote>) {
        if self.cache.state() != CacheState::Connected {
            return;
        }
        for note in notes {
            if self.sender.try_send(note).is_err() {
                return;
            }
        }
    }
}

async fn send(cache: Cache, mut receiver: mpsc::Receiver<LockNote>, stop: CancellationToken) {
    loop {
        let mut notes = Vec::new();
        tokio::select! {
            biased;
            _ = receiver.recv_many(&mut notes, AT_ONCE) => {}
            () = stop.cancelled() => {}
        }
        if notes.is_empty() {
            return;
        }
        cache.note_locks(&notes).await;
    }
}
