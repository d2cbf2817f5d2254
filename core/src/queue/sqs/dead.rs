//! Reading the dead-letter queue.

use std::time::Duration;

use crate::error::{Error, Result};

use super::{BATCH, Sqs};

/// How long a read waits for a letter: a short wait asks all of SQS's servers, none asks a few.
const WAIT_SECONDS: i32 = 1;

/// A letter, hidden from others for a time.
#[derive(Debug)]
pub(in crate::queue) struct DeadLetter {
    /// What it says.
    pub(in crate::queue) body: String,
    receipt: String,
}

impl Sqs {
    /// Up to ten letters, hidden from others for a time; none if there are no more.
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

    /// Forgets letters that were dealt with.
    pub(in crate::queue) async fn delete_dead_letters(&self, letters: &[DeadLetter]) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let receipts = letters.iter().map(|letter| letter.receipt.clone()).collect();
        self.delete(&self.urls().await?.dead, receipts).await
    }

    /// Lets others see a letter again at once.
    pub(in crate::queue) async fn release_dead_letter(&self, letter: &DeadLetter) -> Result<()> {
        let asked = self.client.change_message_visibility().queue_url(&self.urls().await?.dead);
        let asked = asked.receipt_handle(&letter.receipt).visibility_timeout(0);
        asked.send().await.map_err(Error::unavailable)?;
        Ok(())
    }
}
