//! The response with the server-sent events of a job: `event: job` with the JSON of `GET /jobs/{id}`, and comments as a
//! heartbeat.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use poem::http::{HeaderValue, header};
use poem::web::sse::{Event, SSE};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::ToJSON;

use crate::jobs::watch::Watched;
use crate::routes::JobView;

/// The interval of heartbeats: shorter than the idle time-outs of proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client waits before it reconnects.
const RETRY: Duration = Duration::from_secs(2);

/// The events of one watcher, until its credentials end.
pub(crate) struct JobEvents {
    pub(crate) job: Watched,
    pub(crate) ended: BoxFuture<'static, ()>,
}

impl Payload for JobEvents {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    /// One event of the stream, by its fields.
    fn schema_ref() -> MetaSchemaRef {
        let text = |description| {
            MetaSchemaRef::Inline(Box::new(MetaSchema {
                description: Some(description),
                ..MetaSchema::new("string")
            }))
        };
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some("An event of the stream."),
            properties: vec![("event", text("`job`.")), ("data", text("The JSON of `GET /jobs/{id}`."))],
            required: vec!["event", "data"],
            ..MetaSchema::new("object")
        }))
    }

    fn register(_: &mut Registry) {}
}

impl IntoResponse for JobEvents {
    fn into_response(self) -> Response {
        respond(self, HEARTBEAT)
    }
}

fn respond(JobEvents { job, ended }: JobEvents, heartbeat: Duration) -> Response {
    let retry = Event::retry(u64::try_from(RETRY.as_millis()).unwrap_or(u64::MAX));
    let jobs = job.events().map(|job| Event::message(JobView::from(job).to_json_string()).event_type("job"));
    let mut response =
        SSE::new(stream::iter([retry]).chain(jobs).take_until(ended)).keep_alive(heartbeat).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_without_events_sends_heartbeats() {
        let (_sender, job) = Watched::of_queued_job();
        let events = JobEvents { job, ended: Box::pin(std::future::pending()) };
        let mut body = respond(events, Duration::from_millis(1)).into_body().into_bytes_stream();
        let mut next = async || String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert_eq!(next().await, "retry: 2000\n\n");
        assert!(next().await.starts_with("event: job\ndata: {"));
        assert_eq!([next().await, next().await], [":\n\n"; 2]);
    }
}
