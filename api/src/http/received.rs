//! Reads JSON bodies, with limits of size, time and the memory for bodies.

use std::time::Duration;

use bytes::Bytes;
use cuponera_domain::rejection::Rejection;
use cuponera_platform::config::MAX_JSON_BYTES;
use futures::StreamExt;
use poem::http::StatusCode;
use poem::{Body, Request};
use tokio::time::timeout;

use crate::http::problem::Problem;
use crate::http::request_permit::overloaded;
use crate::shares::{BODY_UNIT_BYTES, Claimant, Permit, Shares};

/// Maximum size of a JSON body, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "it is a million")]
const MAX_BODY_BYTES: usize = MAX_JSON_BYTES as usize;
/// Time limit of reading a JSON body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The bytes of a JSON body.
#[derive(Debug, Clone, Default)]
struct Received(Bytes);

/// Reads a JSON body before its request takes a permit to run, so a client that sends slowly does not block others. The body
/// is charged to the caller's share of the memory for bodies until the request is answered.
pub(crate) async fn receive(
    request: &mut Request,
    bodies: &Shares,
    claimant: &Claimant,
) -> Result<Permit, Problem> {
    let mut held = bodies.take_or_displace(claimant).map_err(overloaded)?;
    let (body, displaced) = (request.take_body(), held.displaced());
    let received = tokio::select! {
        biased;
        received = timeout(BODY_TIMEOUT, read_all(body, &mut held)) => {
            received.unwrap_or_else(|_| Err(Problem::request_timeout()))?
        }
        () = displaced => return Err(Problem::overloaded()),
    };
    request.set_data(Received(received.into()));
    Ok(held)
}

async fn read_all(body: Body, held: &mut Permit) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut pieces) = (Vec::new(), body.into_bytes_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the body ended early"))?;
        let length = bytes.len() + piece.len();
        if length > MAX_BODY_BYTES {
            return Err(Rejection::TooLarge { limit_bytes: MAX_JSON_BYTES }.into());
        }
        let units = |bytes: usize| bytes.div_ceil(BODY_UNIT_BYTES).max(1);
        let more = units(length) - units(bytes.len());
        if more > 0 {
            held.grow(more).map_err(overloaded)?;
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The bytes of the request's body.
pub(crate) fn received(request: &Request) -> Bytes {
    request.data::<Received>().cloned().unwrap_or_default().0
}
