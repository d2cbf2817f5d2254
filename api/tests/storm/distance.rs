//! A distant database: a proxy that delays each piece of data, so a client can also disconnect while a transaction
//! begins or commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Maximum delay of a piece.
const MAX_MS: u64 = 5;

/// A database behind a proxy that delays until `end`.
pub(super) struct Distance {
    /// The URL of the proxy.
    pub(super) url: String,
    is_far: Arc<AtomicBool>,
    _connections: JoinSet<()>,
}

impl Distance {
    pub(super) async fn to(url: &str) -> Self {
        let start = url.find("://").expect("a URL") + 3;
        let end = url[start..].find('/').map_or(url.len(), |at| start + at);
        let (user, near) = url[start..end].rsplit_once('@').expect("a URL that names a user");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("cannot bind a port of loopback");
        let far = listener.local_addr().expect("a bound listener has an address");
        let is_far = Arc::new(AtomicBool::new(true));
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, near.to_owned(), is_far.clone()));
        let url = format!("{}{user}@{far}{}", &url[..start], &url[end..]);
        Self { url, is_far, _connections: connections }
    }

    pub(super) fn end(&self) {
        self.is_far.store(false, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, near: String, is_far: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let database = TcpStream::connect(&near).await.expect("cannot connect to the database");
        for stream in [&client, &database] {
            stream.set_nodelay(true).expect("cannot set the socket option");
        }
        let ((from_client, to_client), (from_database, to_database)) =
            (client.into_split(), database.into_split());
        connections.spawn(carry(from_client, to_database, is_far.clone()));
        connections.spawn(carry(from_database, to_client, is_far.clone()));
    }
}

/// Copies data with a delay.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, is_far: Arc<AtomicBool>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        if is_far.load(Ordering::Relaxed) {
            let under_way = Duration::from_micros(rand::rng().random_range(0..MAX_MS * 1_000));
            tokio::time::sleep(under_way).await;
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
    // The connection is no longer used and may be closed already.
    let _ = to.shutdown().await;
}
