//! What keeps the queues from being found, with what to do about it.

use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Why the queues could not be found.
#[derive(Debug, thiserror::Error)]
pub enum SqsFault {
    /// Nothing says in which region the queue is.
    #[error("nothing says in which region the queue is: name the queue by its URL, or set AWS_REGION")]
    NoRegion,
    /// There is no such queue, or not for these credentials.
    #[error(
        "there is no queue {0}, or these credentials may not see it: make it, or correct the name, the account or AWS_REGION"
    )]
    NoSuchQueue(String),
    /// Failed work would have no place to go.
    #[error(
        "the queue {0} has no dead-letter queue: give it a redrive policy with a large maxReceiveCount, or make {0}-dead"
    )]
    NoDeadLetterQueue(String),
    /// The call was refused, or could not be made, and asking again will not help.
    #[error("{0}")]
    Refused(String),
    /// An answer without what it should have.
    #[error("the queue gave an answer that cannot be read: {0}")]
    Strange(String),
    /// It did not answer, or not for now.
    #[error("{0}")]
    Away(String),
}

impl SqsFault {
    /// Whether asking again later may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Away(_))
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
                    Self::Away(chain(error))
                } else {
                    Self::Refused(chain(error))
                }
            }
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Self::Away(chain(error)),
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
                Self::Away(chain(error))
            }
            _ => Self::Refused(chain(error)),
        }
    }
}

fn chain<E: std::error::Error + 'static>(error: &SdkError<E>) -> String {
    // The whole context names requests and headers; its first line is the chain of causes.
    let context = DisplayErrorContext(error).to_string();
    context.split(" (").next().unwrap_or_default().to_owned()
}
