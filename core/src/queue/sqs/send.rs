//! Sending: ten messages in a call, and a look at what became of each.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use tracing::warn;

use crate::error::{Error, Result};
use crate::store::Outgoing;

use super::Sqs;

/// So many messages go into one call.
pub(in crate::queue) const BATCH: usize = 10;

/// Which of the two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Target {
    /// Where workers listen.
    Work,
    /// Where operators look.
    Dead,
}

impl Sqs {
    /// Sends up to [`BATCH`] messages; answers the rows of those that the queue has taken. A call that succeeds may have
    /// refused some of its messages.
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
            warn!(code, reason = first.message(), failed, "the queue did not take all messages of a batch");
        }
        Ok(sent.successful().iter().filter_map(|taken| taken.id().parse().ok()).collect())
    }
}

/// The business is the message's group: on a standard queue that makes a fair one.
fn entry(outgoing: &Outgoing) -> Result<SendMessageBatchRequestEntry> {
    SendMessageBatchRequestEntry::builder()
        .id(outgoing.id.to_string())
        .message_body(outgoing.message.to_json().map_err(Error::internal)?)
        .message_group_id(outgoing.business.to_string())
        .build()
        .map_err(Error::internal)
}
