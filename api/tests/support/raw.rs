//! Raw connections: sends exact bytes, from any loopback address.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connects from an address of this machine.
pub(crate) async fn connect_from(source: &str, server: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("no socket");
    socket.bind(SocketAddr::new(source.parse().expect("an address"), 0)).expect("no such address");
    socket.connect(server.parse().expect("an address")).await.expect("the server accepts no connections")
}

/// Reads until the end or a reset; returns the bytes received until then.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends these bytes on a separate connection, and reads until the server closes it.
pub(crate) async fn ask(source: &str, server: &str, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect_from(source, server).await;
    // A rejected connection may be closed already; the answer shows why.
    let _ = stream.write_all(request.as_ref()).await;
    read_all(&mut stream).await
}
