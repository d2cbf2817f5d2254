//! Notes how locks stand, after the fact and behind the backs of those who asked.

use cuponera_core::cache::{Cache, CacheState, LockNote};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many notes may wait; what finds no place is left to the scan of the agenda.
const MAX_WAITING: usize = 4_096;
/// How many are sent at once.
const AT_ONCE: usize = 256;

/// Where lanes leave their notes.
#[derive(Debug, Clone)]
pub(crate) struct LockNotes {
    cache: Cache,
    sender: mpsc::Sender<LockNote>,
}

impl LockNotes {
    /// Starts what sends them.
    pub(crate) fn start(cache: Cache, stop: CancellationToken, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        if cache.state() != CacheState::Disabled {
            tasks.spawn(send(cache.clone(), receiver, stop));
        }
        Self { cache, sender }
    }

    /// Leaves notes, if there is anybody to read them.
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
