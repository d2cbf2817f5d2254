//! Errors that prevent finding the queues, with their remedies.

use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Why the queues were not found.
#[derive(Debug, thiserror::Error)]
pub enum SqsError {
    /// The region of the queue is unknown.
    #[error(
        "the region of the queue is unknown: set CUPONERA_QUEUE_URL to the URL of the queue, or set AWS_REGION"
    )]
    NoRegion,
    /// The queue does not exist, or these credentials have no access.
    #[error(
        "there is no queue {0}, or these credentials may not see it: create it, or correct the name, the account or AWS_REGION"
    )]
    NoSuchQueue(String),
    /// There is no dead-letter queue for failed chunks.
    #[error(
        "the queue {0} has no dead-letter queue: give it a redrive policy with a large maxReceiveCount, or create {0}-dead"
    )]
    NoDeadLetterQueue(String),
    /// The call was rejected, or could not be made, and a retry will not help.
    #[error("{0}")]
    Rejected(String),
    /// An answer without a required field.
    #[error("SQS returned an invalid answer: {0}")]
    UnexpectedAnswer(String),
    /// No answer, or a temporary error.
    #[error("{0}")]
    Unavailable(String),
}

impl SqsError {
    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(super) fn is_no_such_queue(&self) -> bool {
        matches!(self, Self::NoSuchQueue(_))
    }

    pub(super) fn from_sdk<E>(queue: &str, error: &SdkError<E>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let code = answer.err().code().unwrap_or_default();
                let status = answer.raw().status().as_u16();
                if code.contains("NonExistentQueue") || code.contains("QueueDoesNotExist") {
                    Self::NoSuchQueue(queue.to_owned())
                } else if status >= 500 || status == 429 || code.contains("Throttl") {
                    Self::Unavailable(chain(error))
                } else {
                    Self::Rejected(chain(error))
                }
            }
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Self::Unavailable(chain(error)),
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
                Self::Unavailable(chain(error))
            }
            _ => Self::Rejected(chain(error)),
        }
    }
}

fn chain<E: std::error::Error + 'static>(error: &SdkError<E>) -> String {
    // The first line of the context is the chain of causes; the rest contains requests and headers.
    let context = DisplayErrorContext(error).to_string();
    context.split(" (").next().unwrap_or_default().to_owned()
}
