//! Connections without a client: bytes as they are sent, from any address of this machine.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connects from an address of this machine.
pub(crate) async fn connect_from(source: &str, server: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("no socket");
    socket.bind(SocketAddr::new(source.parse().expect("an address"), 0)).expect("no such address");
    socket.connect(server.parse().expect("an address")).await.expect("the server takes no connections")
}

/// Reads to the end; what came before a connection was broken off is the answer too.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends these bytes on a connection of its own, and reads until the server closes it.
pub(crate) async fn ask(source: &str, server: &str, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect_from(source, server).await;
    // One that is refused may be closed by now; its answer says so.
    let _ = stream.write_all(request.as_ref()).await;
    read_all(&mut stream).await
}
