//! The pace at which a client must read its answers.
//!
//! The measure is the time that writes to the socket wait for the client. They may wait [`GRACE`] in total; each
//! [`MIN_BYTES_PER_SECOND`] bytes that the client takes add a second, up to the grace period again. A stream with nothing to
//! send does not wait, so it is never closed for its pace.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may stop reading: a phone that changes networks takes this long.
const GRACE: Duration = Duration::from_secs(30);
/// The minimum pace of reading, in bytes per second: half of the pace of uploads, because the slowest clients are
/// phones. The kernel wakes a writer when a third of `SEND_BUFFER_BYTES` (doubled) is free; at this pace that takes a
/// third of the grace period.
const MIN_BYTES_PER_SECOND: u32 = 16 * 1024;

/// A stream whose writes fail with `TimedOut` if the client reads too slowly.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: S,
    allowance: WaitAllowance,
    /// Created at the first wait, because most connections never wait.
    timer: Option<Pin<Box<Sleep>>>,
    is_too_slow: bool,
}

/// The remaining time that writes may wait.
#[derive(Debug)]
struct WaitAllowance {
    left: Duration,
    /// The beginning of the current wait.
    waits_since: Option<Instant>,
}

impl WaitAllowance {
    fn new() -> Self {
        Self { left: GRACE, waits_since: None }
    }

    /// Starts a wait, or continues it. Returns its deadline.
    fn wait(&mut self, now: Instant) -> Instant {
        *self.waits_since.get_or_insert(now) + self.left
    }

    /// Ends a wait: the client has read `bytes`.
    fn take(&mut self, now: Instant, bytes: u32) {
        if let Some(since) = self.waits_since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
        let earned = Duration::from_secs(1) * bytes / MIN_BYTES_PER_SECOND;
        self.left = (self.left + earned).min(GRACE);
    }
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, allowance: WaitAllowance::new(), timer: None, is_too_slow: false }
    }

    /// The inner stream, and whether its client was too slow.
    pub(crate) fn into_inner(self) -> (S, bool) {
        (self.stream, self.is_too_slow)
    }

    /// Records the outcome of a write.
    fn count(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.allowance.take(Instant::now(), u32::try_from(bytes).unwrap_or(u32::MAX));
            }
            Poll::Pending if self.has_waited_too_long(context) => {
                self.is_too_slow = true;
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        written
    }

    fn has_waited_too_long(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.allowance.wait(Instant::now());
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.count(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.count(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// When a client that reads this many bytes after each pause is cut off. None if it still reads after a day.
    fn cut_off_after(bytes: u32, pause: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let (mut allowance, mut now) = (WaitAllowance::new(), begun);
        while now - begun < MINUTE * 60 * 24 {
            let deadline = allowance.wait(now);
            if deadline <= now + pause {
                return Some(deadline - begun);
            }
            now += pause;
            allowance.take(now, bytes);
        }
        None
    }

    #[test]
    fn a_client_that_stops_reading_is_cut_off_after_the_grace_period() {
        assert_eq!(cut_off_after(0, MINUTE), Some(GRACE));
    }

    #[test]
    fn a_client_below_the_minimum_is_cut_off_soon_however_it_divides_its_reads() {
        let half = MIN_BYTES_PER_SECOND / 2;
        for (bytes, pause) in [(1, 100), (half / 10, 100), (half, 1_000), (10 * half, 10_000)] {
            let cut_off = cut_off_after(bytes, Duration::from_millis(pause)).expect("it reads for a day");
            assert!(cut_off <= GRACE * 2 + Duration::from_secs(10), "{bytes} bytes: {cut_off:?}");
        }
    }

    #[test]
    fn a_client_at_the_minimum_is_never_cut_off() {
        for seconds in [1, 10, 29] {
            let (bytes, pause) = (MIN_BYTES_PER_SECOND * seconds, Duration::from_secs(seconds.into()));
            assert_eq!(cut_off_after(bytes, pause), None, "every {seconds} s");
        }
    }

    #[test]
    fn a_stream_that_is_read_at_once_is_never_cut_off_however_little_it_has_to_send() {
        let mut now = Instant::now();
        let mut allowance = WaitAllowance::new();
        for _ in 0..10_000 {
            now += MINUTE;
            allowance.take(now, 3);
        }
        assert_eq!(allowance.left, GRACE);
    }

    #[test]
    fn many_bytes_taken_at_once_are_no_credit_for_stopping_later() {
        let now = Instant::now();
        let mut allowance = WaitAllowance::new();
        allowance.take(now, u32::MAX);
        assert_eq!(allowance.wait(now), now + GRACE);
    }
}
