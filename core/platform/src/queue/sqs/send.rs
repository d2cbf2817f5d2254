//! Sends messages in batches of ten and checks the result of each message.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use tracing::warn;

use cuponera_store::Outgoing;
use cuponera_store::{Error, Result};

use super::Sqs;

/// Maximum number of messages in a call.
pub(in crate::queue) const BATCH: usize = 10;

/// One of the two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Target {
    /// The queue of the workers.
    Work,
    /// The dead-letter queue.
    Dead,
}

impl Sqs {
    /// Sends up to [`BATCH`] messages; returns the row ids of those that the queue accepted. A successful
    /// call may have rejected some of its messages.
    pub(in crate::queue) async fn send(&self, target: Target, outgoing: &[Outgoing]) -> Result<Vec<i64>> {
        let urls = self.urls().await?;
        let url = match target {
            Target::Work => &urls.work,
            Target::Dead => &urls.dead,
        };
        let entries = outgoing.iter().map(entry).collect::<Result<Vec<_>>>()?;
        let sent = self.client.send_message_batch().queue_url(url).set_entries(Some(entries)).send().await;
        let sent = sent.map_err(Error::unavailable)?;
        if let Some(first) = sent.failed().first() {
            let (code, failed) = (first.code(), sent.failed().len());
            warn!(code, reason = first.message(), failed, "the queue rejected messages of a batch");
        }
        Ok(sent.successful().iter().filter_map(|taken| taken.id().parse().ok()).collect())
    }
}

/// The message group is the business: on a standard queue this enables fair delivery.
fn entry(outgoing: &Outgoing) -> Result<SendMessageBatchRequestEntry> {
    SendMessageBatchRequestEntry::builder()
        .id(outgoing.id.to_string())
        .message_body(outgoing.message.to_json().map_err(Error::internal)?)
        .message_group_id(outgoing.business.to_string())
        .build()
        .map_err(Error::internal)
}
