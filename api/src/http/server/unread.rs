//! Counts the bytes of a request body that its handler has not read.
//!
//! hyper closes a connection after the response if the body has not arrived completely. The response then needs `Connection: close`,
//! because the next request of a client that keeps the connection open would fail.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

/// A request body whose bytes are counted when they are read.
#[derive(Debug)]
pub(super) struct CountedBody {
    body: Incoming,
    unread: Unread,
}

/// The number of unread bytes of a body. A body of unknown length counts as empty: its request is the last of its connection
/// ([`super::heads::is_last`]).
#[derive(Debug, Clone)]
pub(super) struct Unread(Arc<AtomicU64>);

impl CountedBody {
    pub(super) fn new(body: Incoming) -> (Self, Unread) {
        let unread = Unread(Arc::new(body.size_hint().exact().unwrap_or(0).into()));
        (Self { body, unread: unread.clone() }, unread)
    }
}

impl Unread {
    /// Whether the connection is closed after the response: hyper may be unable to skip the rest.
    pub(super) fn closes(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            // A body of unknown length wraps around, which only closes a connection that is closed anyway.
            self.unread.0.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
