//! Reads the dead-letter queue.

use std::time::Duration;

use cuponera_store::{Error, Result};

use super::{BATCH, Sqs};

/// Wait time of a read: with a wait, SQS queries all its servers; without one, only some.
const WAIT_SECONDS: i32 = 1;

/// A dead letter, hidden from other readers for a time.
#[derive(Debug)]
pub(in crate::queue) struct DeadLetter {
    /// The body of the message.
    pub(in crate::queue) body: String,
    receipt: String,
}

impl Sqs {
    /// Receives up to ten letters and hides them for a time; an empty list if there are no more.
    pub(in crate::queue) async fn receive_dead_letters(&self, hidden: Duration) -> Result<Vec<DeadLetter>> {
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.urls().await?.dead)
            .max_number_of_messages(i32::try_from(BATCH).map_err(Error::internal)?)
            .wait_time_seconds(WAIT_SECONDS)
            .visibility_timeout(i32::try_from(hidden.as_secs()).map_err(Error::internal)?)
            .send()
            .await
            .map_err(Error::unavailable)?;
        let letters = answer.messages.unwrap_or_default().into_iter().map(|message| DeadLetter {
            body: message.body.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
        });
        Ok(letters.collect())
    }

    /// Deletes processed letters.
    pub(in crate::queue) async fn delete_dead_letters(&self, letters: &[DeadLetter]) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let receipts = letters.iter().map(|letter| letter.receipt.clone()).collect();
        self.delete(&self.urls().await?.dead, receipts).await
    }

    /// Makes a letter visible to other readers at once.
    pub(in crate::queue) async fn release_dead_letter(&self, letter: &DeadLetter) -> Result<()> {
        let asked = self.client.change_message_visibility().queue_url(&self.urls().await?.dead);
        let asked = asked.receipt_handle(&letter.receipt).visibility_timeout(0);
        asked.send().await.map_err(Error::unavailable)?;
        Ok(())
    }
}
