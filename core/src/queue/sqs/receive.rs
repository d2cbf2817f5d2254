//! Receiving: one message for each free place, held while its chunk is worked, deleted in batches once it is settled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName};
use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::error::{Error, Result};
use crate::job::Message;

use super::{ANSWER, BATCH, Sqs};

/// A message stays hidden so much longer than a claim lasts: it comes back when its chunk may be taken over, and not before.
const BEYOND_THE_LEASE: Duration = Duration::from_secs(2);
/// How long a delete waits for others to go with it.
const GATHER: Duration = Duration::from_millis(100);
/// A message that is not ours is hidden for so long the first time; each time it comes back it is hidden longer.
const FOREIGN_REST: Duration = Duration::from_secs(30);
const LONGEST_FOREIGN_REST: Duration = Duration::from_mins(15);
const FOREIGN_LOG_EVERY: Duration = Duration::from_mins(1);

/// A message in the hands of a place.
#[derive(Debug)]
pub(in crate::queue) struct Received {
    receipt: String,
    message: Message,
}

impl Received {
    /// What it says.
    pub(in crate::queue) fn message(&self) -> &Message {
        &self.message
    }
}

/// A place's ear on the queue.
#[derive(Debug)]
pub(in crate::queue) struct Receiver {
    sqs: Arc<Sqs>,
    place: u64,
    visibility: i32,
    deletes: mpsc::Sender<String>,
    patience: ExponentialBackoff,
    is_away: bool,
}

impl Receiver {
    pub(super) fn new(sqs: Arc<Sqs>, lease: Duration, deletes: mpsc::Sender<String>) -> Self {
        let patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(200))
            .with_max_interval(Duration::from_secs(3))
            .with_max_elapsed_time(None)
            .build();
        let visibility = whole_seconds(lease + BEYOND_THE_LEASE);
        Self { place: sqs.idle.new_place(), sqs, visibility, deletes, patience, is_away: false }
    }

    /// Waits for a message of ours. Ends at once when told to stop: a message that is on its way then comes back by itself.
    pub(in crate::queue) async fn next(&mut self, stop: &CancellationToken) -> Option<Received> {
        while !stop.is_cancelled() {
            self.sqs.idle.waits(self.place);
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                answer = self.sqs.receive(self.visibility) => answer,
            };
            match answer {
                Ok(None) => self.has_answered(),
                Ok(Some(envelope)) => {
                    self.has_answered();
                    self.sqs.idle.ends(self.place);
                    match Message::parse(&envelope.body) {
                        Some(message) => return Some(Received { receipt: envelope.receipt, message }),
                        None => self.leave(envelope).await,
                    }
                }
                Err(failure) => self.pause(&failure, stop).await,
            }
        }
        self.sqs.idle.ends(self.place);
        None
    }

    /// Keeps the message hidden for as long as a renewed claim lasts.
    pub(in crate::queue) async fn hold(&self, received: &Received) {
        self.hide(&received.receipt, self.visibility).await;
    }

    /// Lets others have it after a delay.
    pub(in crate::queue) async fn give_back(&self, received: Received, delay: Duration) {
        self.hide(&received.receipt, whole_seconds(delay)).await;
    }

    /// Has it deleted soon. If that fails it comes back, and there is nothing to do.
    pub(in crate::queue) fn delete(&self, received: Received) {
        if self.deletes.try_send(received.receipt).is_err() {
            debug!("a message is not deleted: too many wait for that");
        }
    }

    fn has_answered(&mut self) {
        self.patience.reset();
        if std::mem::take(&mut self.is_away) {
            info!("the queue answers again");
        }
    }

    async fn pause(&mut self, failure: &Error, stop: &CancellationToken) {
        self.sqs.idle.ends(self.place);
        if !std::mem::replace(&mut self.is_away, true) {
            warn!(error = failure.chain(), "no message could be received");
        }
        let pause = self.patience.next_backoff().unwrap_or(ANSWER);
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }

    /// A newer version may know what to do with it, so it is neither deleted nor moved.
    async fn leave(&self, envelope: Envelope) {
        self.sqs.foreign.note();
        let rest = FOREIGN_REST.saturating_mul(envelope.receive_count.max(1)).min(LONGEST_FOREIGN_REST);
        self.hide(&envelope.receipt, whole_seconds(rest)).await;
    }

    async fn hide(&self, receipt: &str, seconds: i32) {
        let Ok(urls) = self.sqs.urls().await else { return };
        let asked = self.sqs.client.change_message_visibility().queue_url(&urls.work).receipt_handle(receipt);
        if let Err(error) = asked.visibility_timeout(seconds).send().await {
            debug!(
                error = Error::unavailable(error).chain(),
                "when a message comes back could not be changed"
            );
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.sqs.idle.ends(self.place);
    }
}

/// A message as the queue gives it.
struct Envelope {
    receipt: String,
    body: String,
    receive_count: u32,
}

impl Sqs {
    async fn receive(&self, visibility: i32) -> Result<Option<Envelope>> {
        // A poll that hangs is given up a little after it should have ended.
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(self.long_poll + ANSWER).build();
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

/// Deletes messages that are done with, up to ten in a call, until all who hand them in are gone.
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
            let batch = self.gather(first).await;
            // An entry that fails is gone already, or comes back and finds nothing to do: no need to look.
            if let Err(failure) = self.delete(batch).await {
                debug!(error = failure.chain(), "messages could not be deleted");
            }
        }
    }

    async fn delete(&self, batch: Vec<String>) -> Result<()> {
        let urls = self.sqs.urls().await?;
        self.sqs.delete(&urls.work, batch).await
    }

    async fn gather(&mut self, first: String) -> Vec<String> {
        let mut batch = vec![first];
        let more = async {
            while batch.len() < BATCH {
                let Some(next) = self.receipts.recv().await else { break };
                batch.push(next);
            }
        };
        let _ = tokio::time::timeout(GATHER, more).await;
        batch
    }
}

/// Counts messages that are not ours, and tells of them now and then.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    seen: Mutex<(u64, Option<Instant>)>,
}

impl Foreign {
    fn note(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0 += 1;
        if seen.1.is_none_or(|at| at.elapsed() >= FOREIGN_LOG_EVERY) {
            warn!(messages = seen.0, "messages of an unknown kind or version are left alone");
            *seen = (0, Some(Instant::now()));
        }
    }
}

/// Seconds as SQS takes them, rounded up.
fn whole_seconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX)
}
