//! The document of the operation on events: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{EVENT, logged_event, page};
use crate::follow::stream;

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let followed =
        json!({"id": format!("1.4711.{EVENT}"), "event": "event", "data": logged_event().to_string()});
    vec![
        Operation::of("listEvents")
            .answers(200, "A page of events, or with `follow=true` the stream.", page(&logged_event()))
            .or_as(stream::CONTENT_TYPE, followed)
            .refuses(&["events_archived", "forbidden", "not_found", "too_many_streams"]),
    ]
}
