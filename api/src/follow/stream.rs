//! The response with the server-sent events of a follower: `event: event` with the position as `id` and the JSON of the list, and ids
//! without data as a heartbeat, which update the position of the client.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use poem::http::{HeaderValue, header};
use poem::web::sse::{Event, SSE};
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::ToJSON;

use super::{Followed, Follower};
use crate::routes::LoggedEventView;

pub(crate) const CONTENT_TYPE: &str = "text/event-stream";
/// How long a client waits before it reconnects.
const RETRY: Duration = Duration::from_secs(2);

/// The events of one follower, until its credentials end.
pub(crate) struct EventStream {
    pub(crate) follower: Follower,
    pub(crate) ended: BoxFuture<'static, ()>,
}

/// One event of the stream, by its fields.
pub(crate) fn schema() -> MetaSchemaRef {
    let text = |description| {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some(description),
            ..MetaSchema::new("string")
        }))
    };
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        description: Some("An event of the stream."),
        properties: vec![
            ("id", text("The position of the event. Send it as `Last-Event-ID` to resume after it.")),
            ("event", text("`event`.")),
            ("data", text("The JSON of an event of the list.")),
        ],
        required: vec!["id", "event", "data"],
        ..MetaSchema::new("object")
    }))
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let retry = Event::retry(u64::try_from(RETRY.as_millis()).unwrap_or(u64::MAX));
        let events = stream::unfold(self.follower, |mut follower| async move {
            let followed = follower.next().await?;
            Some((text_of(followed), follower))
        });
        let mut response =
            SSE::new(stream::iter([retry]).chain(events).take_until(self.ended)).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn text_of(followed: Followed) -> Event {
    match followed {
        Followed::Event(event) => {
            let position = event.cursor.to_string();
            let data = LoggedEventView::from(*event).to_json_string();
            Event::message(data).event_type("event").id(position)
        }
        // An id without data is no event for the client, which only stores the id.
        Followed::Position(position) => Event::message("").id(position.to_string()),
    }
}
