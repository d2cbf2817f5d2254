//! Follows the stream of events of the server, for `events --follow` and `listen`.

use std::time::Duration;

use reqwest::{Method, Response};
use tokio::time::timeout;

use super::Client;
use super::attempts::AttemptError;
use super::fault::ClientError;

/// Timeout of a stream without data. The server sends a heartbeat every 15 seconds.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// The path of events.
pub(super) const PATH: [&str; 1] = ["events"];

/// Calls `each` with each event until the command is interrupted. A lost connection is resumed after the last event.
pub(super) async fn follow(
    client: &Client,
    query: &[(&'static str, String)],
    mut each: impl AsyncFnMut(&str) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let mut blocks = Blocks::default();
    let mut attempts = client.server.attempts();
    loop {
        let fault = match open(client, query, blocks.last.as_deref()).await {
            Ok(mut response) => {
                attempts = client.server.attempts();
                blocks.rest.clear();
                read(client, &mut response, &mut blocks, &mut each).await?
            }
            Err(fault) => fault,
        };
        match fault {
            AttemptError::Permanent(fault) => return Err(fault),
            AttemptError::Transient { fault, after, .. } => attempts.pause(fault, after).await?,
        }
    }
}

async fn open(
    client: &Client,
    query: &[(&'static str, String)],
    last: Option<&str>,
) -> Result<Response, AttemptError> {
    let login = client.server.token().await.map_err(AttemptError::Permanent)?;
    let mut request = client.server.request(Method::GET, &PATH, query, login.as_ref());
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    let sent = timeout(IDLE_TIMEOUT, request.send()).await.map_err(|_| stopped())?;
    client.server.judge(sent).await
}

/// Reads the events of a response. Returns why it ended.
async fn read(
    client: &Client,
    response: &mut Response,
    blocks: &mut Blocks,
    each: &mut impl AsyncFnMut(&str) -> Result<(), ClientError>,
) -> Result<AttemptError, ClientError> {
    loop {
        match timeout(IDLE_TIMEOUT, response.chunk()).await {
            Ok(Ok(Some(piece))) => {
                for data in blocks.take(&piece) {
                    each(&data).await?;
                }
            }
            Ok(Ok(None)) | Err(_) => return Ok(stopped()),
            Ok(Err(error)) => return Ok(client.server.trouble(&error)),
        }
    }
}

fn stopped() -> AttemptError {
    let fault = ClientError::Unavailable("the server stopped sending events".to_owned());
    AttemptError::Transient { fault, after: None, arrived: false }
}

/// The blocks of a stream of server-sent events.
#[derive(Debug, Default)]
struct Blocks {
    rest: Vec<u8>,
    /// The last id.
    last: Option<String>,
}

impl Blocks {
    /// The data of the blocks that end in this piece.
    fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut found = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            found.extend(field("data: ").map(str::to_owned));
            if let Some(id) = field("id: ") {
                self.last = Some(id.to_owned());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_the_pieces_and_the_last_id_is_kept() {
        let stream = b"retry: 2000\n\nid: 1\n\nid: 2\nevent: event\ndata: {\"a\": \"\xc3\xb1\"}\n\n:\n\nid: 3\n\nid: 4\nda";
        for size in 1..stream.len() {
            let mut blocks = Blocks::default();
            let found: Vec<String> = stream.chunks(size).flat_map(|piece| blocks.take(piece)).collect();
            assert_eq!(found, ["{\"a\": \"ñ\"}"]);
            assert_eq!(blocks.last.as_deref(), Some("3"));
        }
    }
}
