//! Receives one message for each free slot, keeps it hidden while its chunk is executed, and deletes
//! finished messages in batches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName};
use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use cuponera_domain::job::Message;
use cuponera_store::{Error, Result};

use super::{BATCH, CALL_TIMEOUT, Sqs};

/// A message stays hidden this much longer than a claim: it reappears when its chunk may be taken over, not
/// earlier.
const VISIBILITY_MARGIN: Duration = Duration::from_secs(2);
/// How long a delete waits for others, to form a batch.
const BATCH_DELAY: Duration = Duration::from_millis(100);
/// How long a message of an unknown kind is hidden the first time; the time grows with each receive.
const UNKNOWN_HIDDEN: Duration = Duration::from_secs(30);
const MAX_UNKNOWN_HIDDEN: Duration = Duration::from_mins(15);
const UNKNOWN_LOG_INTERVAL: Duration = Duration::from_mins(1);

/// A received message, owned by a slot.
#[derive(Debug)]
pub(in crate::queue) struct Received {
    receipt: String,
    message: Message,
}

impl Received {
    /// The message.
    pub(in crate::queue) fn message(&self) -> &Message {
        &self.message
    }
}

/// The receiver of one slot.
#[derive(Debug)]
pub(in crate::queue) struct Receiver {
    sqs: Arc<Sqs>,
    slot: u64,
    visibility: i32,
    deletes: mpsc::Sender<String>,
    backoff: ExponentialBackoff,
    is_unavailable: bool,
}

impl Receiver {
    pub(super) fn new(sqs: Arc<Sqs>, lease: Duration, deletes: mpsc::Sender<String>) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(200))
            .with_max_interval(Duration::from_secs(3))
            .with_max_elapsed_time(None)
            .build();
        let visibility = whole_seconds(lease + VISIBILITY_MARGIN);
        Self { slot: sqs.idle.new_slot(), sqs, visibility, deletes, backoff, is_unavailable: false }
    }

    /// Waits for a message of a known kind. Returns `None` at once when `stop` is cancelled; a message in
    /// transit is then delivered again later.
    pub(in crate::queue) async fn next(&mut self, stop: &CancellationToken) -> Option<Received> {
        while !stop.is_cancelled() {
            self.sqs.idle.waits(self.slot);
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                answer = self.sqs.receive(self.visibility) => answer,
            };
            match answer {
                Ok(None) => self.has_answered(),
                Ok(Some(envelope)) => {
                    self.has_answered();
                    self.sqs.idle.ends(self.slot);
                    match Message::parse(&envelope.body) {
                        Some(message) => return Some(Received { receipt: envelope.receipt, message }),
                        None => self.leave(envelope).await,
                    }
                }
                Err(failure) => self.pause(&failure, stop).await,
            }
        }
        self.sqs.idle.ends(self.slot);
        None
    }

    /// Keeps the message hidden for the duration of a renewed claim.
    pub(in crate::queue) async fn hold(&self, received: &Received) {
        self.hide(&received.receipt, self.visibility).await;
    }

    /// Makes the message visible after a delay.
    pub(in crate::queue) async fn give_back(&self, received: Received, delay: Duration) {
        self.hide(&received.receipt, whole_seconds(delay)).await;
    }

    /// Queues the message for deletion. If this fails, it is delivered again and finds no work.
    pub(in crate::queue) fn delete(&self, received: Received) {
        if self.deletes.try_send(received.receipt).is_err() {
            debug!("a message is not deleted: the list of deletes is full");
        }
    }

    fn has_answered(&mut self) {
        self.backoff.reset();
        if std::mem::take(&mut self.is_unavailable) {
            info!("the queue answers again");
        }
    }

    async fn pause(&mut self, failure: &Error, stop: &CancellationToken) {
        self.sqs.idle.ends(self.slot);
        if !std::mem::replace(&mut self.is_unavailable, true) {
            warn!(error = failure.chain(), "receiving messages failed");
        }
        let pause = self.backoff.next_backoff().unwrap_or(CALL_TIMEOUT);
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }

    /// A newer version may know the kind, so the message is neither deleted nor moved.
    async fn leave(&self, envelope: Envelope) {
        self.sqs.foreign.note();
        let rest = UNKNOWN_HIDDEN.saturating_mul(envelope.receive_count.max(1)).min(MAX_UNKNOWN_HIDDEN);
        self.hide(&envelope.receipt, whole_seconds(rest)).await;
    }

    async fn hide(&self, receipt: &str, seconds: i32) {
        let Ok(urls) = self.sqs.urls().await else { return };
        let asked = self.sqs.client.change_message_visibility().queue_url(&urls.work).receipt_handle(receipt);
        if let Err(error) = asked.visibility_timeout(seconds).send().await {
            debug!(
                error = Error::unavailable(error).chain(),
                "the visibility timeout of a message could not be changed"
            );
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.sqs.idle.ends(self.slot);
    }
}

/// A message as returned by SQS.
struct Envelope {
    receipt: String,
    body: String,
    receive_count: u32,
}

impl Sqs {
    async fn receive(&self, visibility: i32) -> Result<Option<Envelope>> {
        // Ends a hanging poll shortly after its wait time.
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(self.long_poll + CALL_TIMEOUT).build();
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.urls().await?.work)
            .max_number_of_messages(1)
            .wait_time_seconds(whole_seconds(self.long_poll))
            .visibility_timeout(visibility)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(aws_sdk_sqs::Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map_err(Error::unavailable)?;
        let message = answer.messages.unwrap_or_default().into_iter().next();
        Ok(message.map(|message| {
            let count = MessageSystemAttributeName::ApproximateReceiveCount;
            let count = message.attributes().and_then(|all| all.get(&count));
            let receive_count = count.and_then(|count| count.parse().ok()).unwrap_or(1);
            Envelope {
                receive_count,
                receipt: message.receipt_handle.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
            }
        }))
    }

    /// Deletes up to ten messages of one of the queues.
    pub(super) async fn delete(&self, url: &str, receipts: Vec<String>) -> Result<()> {
        let entry = |(number, receipt): (usize, String)| {
            DeleteMessageBatchRequestEntry::builder().id(number.to_string()).receipt_handle(receipt).build()
        };
        let entries = receipts.into_iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(Error::internal)?;
        let asked = self.client.delete_message_batch().queue_url(url).set_entries(Some(entries));
        asked.send().await.map_err(Error::unavailable)?;
        Ok(())
    }
}

/// Deletes finished messages, up to ten in each call, until all receivers are dropped.
#[derive(Debug)]
pub struct Deleter {
    sqs: Arc<Sqs>,
    receipts: mpsc::Receiver<String>,
}

impl Deleter {
    pub(super) fn new(sqs: Arc<Sqs>, receipts: mpsc::Receiver<String>) -> Self {
        Self { sqs, receipts }
    }

    /// Runs until the last receiver is dropped.
    pub async fn run(mut self) {
        while let Some(first) = self.receipts.recv().await {
            let batch = self.collect_batch(first).await;
            // Failed entries need no check: the message is gone already, or is delivered again and finds no
            // work.
            if let Err(failure) = self.delete(batch).await {
                debug!(error = failure.chain(), "messages could not be deleted");
            }
        }
    }

    async fn delete(&self, batch: Vec<String>) -> Result<()> {
        let urls = self.sqs.urls().await?;
        self.sqs.delete(&urls.work, batch).await
    }

    async fn collect_batch(&mut self, first: String) -> Vec<String> {
        let mut batch = vec![first];
        let more = async {
            while batch.len() < BATCH {
                let Some(next) = self.receipts.recv().await else { break };
                batch.push(next);
            }
        };
        let _ = tokio::time::timeout(BATCH_DELAY, more).await;
        batch
    }
}

/// Counts messages of unknown kinds and logs them, at most once a minute.
#[derive(Debug, Default)]
pub(super) struct UnknownMessages {
    seen: Mutex<(u64, Option<Instant>)>,
}

impl UnknownMessages {
    fn note(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0 += 1;
        if seen.1.is_none_or(|at| at.elapsed() >= UNKNOWN_LOG_INTERVAL) {
            warn!(messages = seen.0, "messages of an unknown kind or version are kept");
            *seen = (0, Some(Instant::now()));
        }
    }
}

/// Converts to whole seconds for SQS, rounded up.
fn whole_seconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX)
}
