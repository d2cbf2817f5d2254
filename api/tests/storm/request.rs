//! Requests as bytes on a socket, and the ways to interrupt one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Client, Reply};

/// The operation of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    AssignRandom,
    AssignNamed,
    Lock,
    Unlock,
    Redeem,
    Generate,
    Upload,
    Create,
    Patch,
    Refresh,
    Cancel,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::AssignRandom,
        Self::AssignNamed,
        Self::Lock,
        Self::Unlock,
        Self::Redeem,
        Self::Generate,
        Self::Upload,
        Self::Create,
        Self::Patch,
        Self::Refresh,
        Self::Cancel,
    ];
}

/// The moment at which a client disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Break {
    /// Before the whole request was sent.
    InTheRequest,
    /// Immediately after it was sent.
    AfterTheRequest,
    /// While the server worked on it.
    InTheWork,
    /// After the first bytes of the answer.
    InTheAnswer,
}

/// Maximum time before a client disconnects, about the duration of a change in the storm.
const MAX_TIMEOUT_MS: u64 = 60;

/// A changing request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) number: usize,
    pub(super) kind: Kind,
    method: &'static str,
    path: String,
    media: &'static str,
    body: String,
}

impl Request {
    pub(super) fn json(number: usize, kind: Kind, method: &'static str, path: String, body: &Value) -> Self {
        Self { number, kind, method, path, media: "application/json", body: body.to_string() }
    }

    pub(super) fn csv(number: usize, kind: Kind, path: String, body: String) -> Self {
        Self { number, kind, method: "POST", path, media: "text/csv", body }
    }

    /// The request id in the history, and the idempotency key.
    pub(super) fn name(&self) -> String {
        format!("storm-{}", self.number)
    }

    fn bytes(&self, client: &Client) -> Vec<u8> {
        let mut head =
            format!("{} /api/v1/{} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, client.address());
        let token = client.token().expect("the client has a token");
        let fields = [
            ("Authorization", format!("Bearer {token}")),
            ("Content-Type", self.media.to_owned()),
            ("Content-Length", self.body.len().to_string()),
            ("Idempotency-Key", self.name()),
            ("X-Request-Id", self.name()),
        ];
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").expect("writing to a string cannot fail");
        }
        format!("{head}\r\n{}", self.body).into_bytes()
    }

    /// Sends the request on its own connection and disconnects at a random point: with a close, or with a reset as
    /// after a crash.
    pub(super) async fn break_off(&self, client: &Client, seed: u64) -> Break {
        let mut rng = StdRng::seed_from_u64(seed);
        let bytes = self.bytes(client);
        let mut stream = TcpStream::connect(client.address()).await.expect("cannot connect to the server");
        let at = match rng.random_range(0..10) {
            0 | 1 => {
                let part = rng.random_range(0..bytes.len());
                send(&mut stream, &bytes[..part]).await;
                Break::InTheRequest
            }
            2 | 3 => {
                send(&mut stream, &bytes).await;
                Break::AfterTheRequest
            }
            4..9 => {
                send(&mut stream, &bytes).await;
                let patience = Duration::from_micros(rng.random_range(0..MAX_TIMEOUT_MS * 1_000));
                tokio::time::sleep(patience).await;
                Break::InTheWork
            }
            _ => {
                send(&mut stream, &bytes).await;
                let mut first = [0; 16];
                let read = stream.read(&mut first).await.expect("the server closed the connection");
                assert!(read > 0, "the server closed without an answer");
                Break::InTheAnswer
            }
        };
        if rng.random() {
            stream.set_zero_linger().expect("cannot set the socket option");
        }
        at
    }

    /// Sends the request again and reads the whole answer. Repeats this while the first request still runs.
    pub(super) async fn repeat(&self, client: &Client) -> Reply {
        loop {
            let method = Method::from_bytes(self.method.as_bytes()).expect("a method");
            let request = client
                .request(method, &self.path)
                .header("Content-Type", self.media)
                .header("Idempotency-Key", self.name())
                .header("X-Request-Id", self.name())
                .body(self.body.clone());
            let reply = Reply::to(request).await;
            if reply.outcome() != "409 key_in_progress" {
                return reply;
            }
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("the server closed the connection");
}

/// The number of clients for each moment.
pub(super) fn summary(breaks: &[Break]) -> String {
    let mut counts = BTreeMap::<Break, usize>::new();
    for at in breaks {
        *counts.entry(*at).or_default() += 1;
    }
    format!("{counts:?}")
}
