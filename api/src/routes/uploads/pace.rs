//! The bytes of an upload. Enforces a minimum pace, and bounds what the parser of a form may hold in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

/// Time allowed for any upload, independent of its size.
const GRACE: Duration = Duration::from_mins(1);
/// The minimum rate, in bytes per second, after this grace period. A slower upload only occupies a slot.
const MIN_BYTES_PER_SECOND: u64 = 32 * 1024;

/// A stream of bytes that ends with an error when its pace is below the minimum or its budget is exceeded.
pub(crate) struct Paced {
    bytes: BoxStream<'static, io::Result<Bytes>>,
    budget: Budget,
    begun: Instant,
    taken: u64,
    pause: Pause,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pause {
    Never,
    AfterNext,
    Now,
}

/// The number of bytes that a stream may still deliver.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    /// Limits the stream to `bytes` more bytes.
    pub(crate) fn limit(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Removes the limit.
    pub(crate) fn lift(&self) {
        self.limit(u64::MAX);
    }

    fn spend(&self, bytes: u64) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        left == u64::MAX || bytes <= left
    }
}

impl Paced {
    pub(crate) fn new(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        let budget = Budget(Arc::new(AtomicU64::new(u64::MAX)));
        Self { bytes: bytes.boxed(), budget, begun: Instant::now(), taken: 0, pause: Pause::Never }
    }

    /// For a reader that takes everything that is ready: the stream is pending once after each piece, so the reader
    /// must process it before the next. The budget can be changed while the stream is read.
    pub(crate) fn piece_by_piece(
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> (Self, Budget) {
        let paced = Self { pause: Pause::AfterNext, ..Self::new(bytes) };
        let budget = paced.budget.clone();
        (paced, budget)
    }

    fn is_too_slow(&self) -> bool {
        self.begun.elapsed() > GRACE + Duration::from_secs(self.taken / MIN_BYTES_PER_SECOND)
    }
}

impl Stream for Paced {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pause == Pause::Now {
            self.pause = Pause::AfterNext;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(piece) = self.bytes.poll_next_unpin(context) else { return Poll::Pending };
        let Some(Ok(bytes)) = piece else { return Poll::Ready(piece) };
        let length = bytes.len() as u64;
        self.taken += length;
        if self.pause == Pause::AfterNext {
            self.pause = Pause::Now;
        }
        Poll::Ready(Some(if self.is_too_slow() {
            Err(io::ErrorKind::TimedOut.into())
        } else if self.budget.spend(length) {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "too many bytes between the files of a form"))
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_when_its_budget_is_spent_and_not_before() {
        let pieces = stream::iter((0..5).map(|_| Ok(Bytes::from_static(b"1234"))));
        let (mut paced, budget) = Paced::piece_by_piece(pieces);
        assert!(paced.next().await.unwrap().is_ok());
        budget.limit(8);
        assert!(paced.next().await.unwrap().is_ok());
        assert!(paced.next().await.unwrap().is_ok());
        assert!(paced.next().await.unwrap().is_err());
        budget.lift();
        assert!(paced.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_greedy_reader_gets_one_piece_at_a_time() {
        let (mut paced, _) = Paced::piece_by_piece(stream::iter([Ok(Bytes::new()), Ok(Bytes::new())]));
        let polls = futures::future::poll_fn(|context| {
            let polls = [(); 3].map(|()| paced.poll_next_unpin(context).is_ready());
            Poll::Ready(polls)
        });
        assert_eq!(polls.await, [true, false, true]);
    }
}
