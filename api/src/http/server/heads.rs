//! Requires that lines of request heads end with CR LF.
//!
//! hyper also accepts a bare LF, as RFC 9112 (section 2.2) allows. A proxy in front may not, and then the two see different
//! requests in the same bytes (request smuggling). This stream between the socket and hyper parses the heads of a connection,
//! and replaces a bare LF with a byte that is invalid in a head, which hyper answers with 400.
//!
//! `Content-Length` determines where the next head begins. A chunked body is not parsed, so its request is the last of its
//! connection ([`is_last`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use memchr::memchr;
use poem::http::HeaderMap;
use poem::http::header::TRANSFER_ENCODING;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Number of bytes kept of a line: enough for `content-length:` and any length.
const MAX_KEPT_BYTES: usize = 64;
/// Follows the byte that replaces a bare LF. It completes the head, so that hyper answers it immediately.
const END: &[u8] = b"\r\n\r\n";

/// A stream without a bare LF in its heads.
#[derive(Debug)]
pub(super) struct StrictHeads<S> {
    stream: S,
    state: State,
    /// The beginning of the current line.
    line: Vec<u8>,
    /// The last byte of the current line, if there is one.
    last: Option<u8>,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In or before a head.
    Head,
    /// In a body with this number of bytes left.
    Body(u64),
    /// In a body of unknown length, or after it.
    Rest,
    /// After a bare LF: deliver the rest of [`END`], then end the stream.
    Rejected { delivered: usize },
}

/// The parsed part of the current head.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    has_begun: bool,
    length: u64,
    is_unclear: bool,
}

/// Whether a request is the last of its connection, because the beginning of the next is unknown.
pub(super) fn is_last(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
}

impl<S> StrictHeads<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, state: State::Head, line: Vec::new(), last: None, head: Head::default() }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Parses received bytes. Returns the position of a bare LF, if any.
    fn parse(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Rest | State::Rejected { .. } => return None,
                State::Body(left) => {
                    let taken = left.min((bytes.len() - at) as u64);
                    self.state = if taken == left { State::Head } else { State::Body(left - taken) };
                    at += usize::try_from(taken).unwrap_or(bytes.len());
                }
                State::Head => match memchr(b'\n', &bytes[at..]) {
                    None => {
                        self.keep(&bytes[at..]);
                        return None;
                    }
                    Some(length) => {
                        self.keep(&bytes[at..at + length]);
                        if self.last != Some(b'\r') {
                            return Some(at + length);
                        }
                        self.end_line();
                        at += length + 1;
                    }
                },
            }
        }
        None
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_KEPT_BYTES.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
        self.last = bytes.last().copied().or(self.last);
    }

    fn end_line(&mut self) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if line.is_empty() {
            // Empty lines before a request are ignored.
            if self.head.has_begun {
                self.state = self.head.body();
                self.head = Head::default();
            }
        } else {
            self.head.take(line);
        }
        self.line.clear();
        self.last = None;
    }
}

impl Head {
    fn take(&mut self, line: &[u8]) {
        self.has_begun = true;
        let Some(colon) = memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_unclear = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // hyper rejects invalid and conflicting lengths.
            match str::from_utf8(value).ok().and_then(|value| value.parse().ok()) {
                Some(length) => self.length = length,
                None => self.is_unclear = true,
            }
        }
    }

    fn body(self) -> State {
        match self {
            Self { is_unclear: true, .. } => State::Rest,
            Self { length: 0, .. } => State::Head,
            Self { length, .. } => State::Body(length),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictHeads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Rejected { delivered } = self.state {
            let more = &END[delivered..];
            let more = &more[..more.len().min(buffer.remaining())];
            buffer.put_slice(more);
            self.state = State::Rejected { delivered: delivered + more.len() };
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read
            && let Some(at) = self.parse(&buffer.filled()[before..])
        {
            buffer.filled_mut()[before + at] = 0;
            buffer.set_filled(before + at + 1);
            self.state = State::Rejected { delivered: 0 };
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictHeads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
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
    use tokio::io::AsyncReadExt;

    use super::*;

    /// The bytes that hyper reads if `bytes` arrive in pieces of this size.
    async fn read(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut stream = StrictHeads::new(Pieces(bytes.chunks(piece).map(<[u8]>::to_vec).collect()));
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        read
    }

    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(buffer.remaining()));
                buffer.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn requests_with_proper_lines_and_any_bodies_pass_unchanged() {
        let requests: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\r\n\r\nPOST / HTTP/1.1\r\ncontent-LENGTH:  7 \r\nHost: a\r\n\r\n\na\n\nb\r\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 4000000000\r\n\r\n\n\n\n",
        ];
        for request in requests {
            for piece in [1, 2, 3, 7, 1_000] {
                assert_eq!(read(request, piece).await, request, "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_bare_line_feed_ends_the_head_with_an_invalid_byte() {
        let heads: [(&[u8], &[u8]); 5] = [
            (b"GET / HTTP/1.1\nHost: a\r\n\r\n", b"GET / HTTP/1.1\0\r\n\r\n"),
            (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\nGET /secret", b"GET / HTTP/1.1\r\nHost: a\r\n\0\r\n\r\n"),
            (b"\nGET / HTTP/1.1\r\n\r\n", b"\0\r\n\r\n"),
            (
                b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\nGET / HTTP/1.1\nHost: a\r\n\r\n",
                b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\nGET / HTTP/1.1\0\r\n\r\n",
            ),
        ];
        for (head, expected) in heads {
            for piece in [1, 2, 3, 1_000] {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                assert_eq!(text(&read(head, piece).await), text(expected), "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn lines_longer_than_the_kept_part_are_parsed_to_their_end() {
        let long = "x".repeat(10_000);
        let head = format!("GET / HTTP/1.1\r\nX-Long: {long}\r\nHost: a\r\n\r\n");
        assert_eq!(read(head.as_bytes(), 100).await, head.as_bytes());
        let bare = format!("GET / HTTP/1.1\r\nX-Long: {long}\nHost: a\r\n\r\n");
        assert!(read(bare.as_bytes(), 100).await.ends_with(b"x\0\r\n\r\n"));
    }
}
