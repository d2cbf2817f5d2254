//! A proxy between a fleet and its database. It can cut and delay connections, and remove a guard from
//! statements.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Result;
use crate::bugs::Bug;

/// The type byte of the Postgres message Parse, which contains the text of a statement.
const PARSE: u8 = b'P';
/// The code of an SSLRequest, which a client sends before its startup message.
const SSL_REQUEST: u32 = 80_877_103;
/// Limit of a message's size; longer messages do not occur.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// The proxy. It runs while the value lives.
pub(crate) struct PostgresProxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    upstream: String,
    bug: Option<&'static Bug>,
    delay_ms: AtomicU64,
    cut: watch::Sender<u64>,
    edited_statements: AtomicUsize,
}

impl PostgresProxy {
    /// Listens on loopback and forwards connections to `upstream`.
    pub(crate) async fn before(upstream: String, bug: Option<&'static Bug>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            bug,
            delay_ms: AtomicU64::new(0),
            cut: watch::Sender::new(0),
            edited_statements: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Ends all connections at once, including data in transit.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Delays each piece of data from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Number of statements from which the guard was removed.
    pub(crate) fn edited_statements(&self) -> usize {
        self.shared.edited_statements.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            let mut cut = shared.cut.subscribe();
            // An error of either side ends the connection, as it would without the proxy.
            tokio::select! {
                _ = carry_both(client, &shared) => {}
                _ = cut.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry_both(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let server = TcpStream::connect(&shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let ask = async {
        match shared.bug {
            Some(bug) => carry_statements(from_client, to_server, shared, bug).await,
            None => carry(from_client, to_server, shared).await,
        }
    };
    // The connection ends when either side ends.
    tokio::select! {
        done = ask => done,
        done = carry(from_server, to_client, shared) => done,
    }
}

/// Forwards bytes unchanged.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    while let read @ 1.. = from.read(&mut piece).await? {
        shared.pause().await;
        to.write_all(&piece[..read]).await?;
    }
    Ok(())
}

/// Forwards messages and removes the guard from statements.
async fn carry_statements(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    bug: &Bug,
) -> std::io::Result<()> {
    // Messages before the session starts have no type byte.
    loop {
        let body = read_body(&mut from).await?;
        write_message(&mut to, None, &body).await?;
        if body.get(..4) != Some(&SSL_REQUEST.to_be_bytes()) {
            break;
        }
    }
    loop {
        let kind = from.read_u8().await?;
        let mut body = read_body(&mut from).await?;
        shared.pause().await;
        if kind == PARSE
            && let Some(changed) = without_guard(&body, bug)
        {
            shared.edited_statements.fetch_add(1, Ordering::Relaxed);
            body = changed;
        }
        write_message(&mut to, Some(kind), &body).await?;
    }
}

impl Shared {
    async fn pause(&self) {
        let delay_ms = self.delay_ms.load(Ordering::Relaxed);
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
    }
}

/// Reads the body of a message. Its length includes the 4 bytes of the length itself.
async fn read_body(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    let body = length.checked_sub(4).filter(|length| *length <= MAX_MESSAGE_BYTES);
    let mut bytes = vec![0; body.ok_or(std::io::ErrorKind::InvalidData)?];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_message(to: &mut OwnedWriteHalf, kind: Option<u8>, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len() + 4).map_err(|_| std::io::ErrorKind::InvalidData)?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend(length.to_be_bytes());
    message.extend(body);
    to.write_all(&message).await
}

/// A Parse message consists of a name and a statement, both terminated by zero, and the parameter types.
fn without_guard(body: &[u8], bug: &Bug) -> Option<Vec<u8>> {
    let name_end = body.iter().position(|byte| *byte == 0)? + 1;
    let end = name_end + body[name_end..].iter().position(|byte| *byte == 0)?;
    let statement = std::str::from_utf8(&body[name_end..end]).ok()?;
    let changed = bug.remove_guard(statement)?;
    Some([&body[..name_end], changed.as_bytes(), &body[end..]].concat())
}
