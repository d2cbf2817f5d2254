//! Wakes the relay of the outbox within a process.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the relay when rows are added to the outbox. Shared by all stores of a process.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Arc<Notify>);

impl Notifier {
    /// Waits for a notification; returns at once if one came since the last call.
    pub async fn notified(&self) {
        self.0.notified().await;
    }

    /// Notifies the relay.
    pub(super) fn notify_relay(&self) {
        self.0.notify_one();
    }
}
