//! Responses in the document: descriptions of successful ones, rejections from the catalog, and the headers of both.

use serde_json::{Map, Value, json};

use super::catalog::{self, Kind};
use super::examples;
use super::operation::Answer;
use crate::http::problem::CONTENT_TYPE;
use crate::http::problem::REPLAYED;

/// The headers of every response.
const OF_ALL: [&str; 3] = ["X-Request-Id", "RateLimit", "RateLimit-Policy"];

pub(super) fn describe(response: &mut Value, answer: &Answer) {
    response["description"] = json!(answer.description);
    let example = answer.example.as_ref();
    if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) {
        // JSON has no charset parameter, although poem-openapi adds one.
        if let Some(media) = content.remove("application/json; charset=utf-8") {
            content.insert("application/json".to_owned(), media);
        }
        for (name, media) in content.iter_mut() {
            let other = answer.other.as_ref().filter(|(other, _)| name == other).map(|(_, example)| example);
            media["example"] = other.or(example).cloned().unwrap_or_default();
        }
    }
    if response.get("headers").is_none() {
        response["headers"] = json!({});
    }
    for name in OF_ALL {
        response["headers"][name] = header(name);
    }
    if response["headers"].get(REPLAYED).is_some() {
        response["headers"][REPLAYED] = header(REPLAYED);
    }
    if answer.located {
        // A type that declares the header writes its name in upper case.
        if let Some(headers) = response["headers"].as_object_mut() {
            headers.retain(|name, _| !name.eq_ignore_ascii_case("Location"));
        }
        response["headers"]["Location"] = header("Location");
    }
}

/// The response of a status: the meaning and the example of each of its problems.
pub(super) fn rejection(status: u16, kinds: &[&Kind]) -> Value {
    let meanings: Vec<_> = kinds.iter().map(|kind| format!("- `{}`: {}", kind.code, kind.meaning)).collect();
    let headers: Map<String, Value> =
        OF_ALL.iter().chain(headers_of(status)).map(|name| ((*name).to_owned(), header(name))).collect();
    json!({
        "description": meanings.join("\n"),
        "headers": headers,
        "content": {CONTENT_TYPE: problem(status, kinds)},
    })
}

pub(super) fn problem(status: u16, kinds: &[&Kind]) -> Value {
    let codes: Vec<_> = kinds.iter().map(|kind| kind.code).collect();
    let examples: Map<String, Value> = kinds
        .iter()
        .map(|kind| (kind.code.to_owned(), json!({"$ref": format!("#/components/examples/{}", kind.code)})))
        .collect();
    let schema = json!({"allOf": [
        {"$ref": "#/components/schemas/Problem"},
        {"properties": {"status": {"const": status}, "code": {"enum": codes}}},
    ]});
    json!({"schema": schema, "examples": examples})
}

/// The additional headers of a rejection with this status.
fn headers_of(status: u16) -> &'static [&'static str] {
    match status {
        401 => &["WWW-Authenticate"],
        404 | 410 => &[REPLAYED],
        416 => &["Content-Range"],
        409 => &["Retry-After", REPLAYED],
        429 | 503 => &["Retry-After"],
        _ => &[],
    }
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

pub(super) fn headers() -> Value {
    let header = |required, description: &str, schema: Value, example: &str| json!({"description": description, "required": required, "schema": schema, "example": example});
    let text = || json!({"type": "string"});
    json!({
        "X-Request-Id": header(
            true,
            "The id of the request: the client's own if it is short and plain, otherwise a new one. It is also in the log and the history.",
            text(), examples::REQUEST,
        ),
        "Location": header(
            true, "The path of the created resource or job.", json!({"type": "string", "format": "uri-reference"}),
            &format!("/api/v1/jobs/{}", examples::JOB),
        ),
        REPLAYED: header(
            false, "`true` if this is the stored response to an earlier request with the same key.",
            json!({"type": "string", "enum": ["true"]}), "true",
        ),
        "Content-Range": header(
            true, "`bytes */` and the length of the file.", json!({"type": "string", "pattern": r"^bytes \*/[0-9]+$"}), "bytes */1000",
        ),
        "WWW-Authenticate": header(true, "The accepted authentication scheme.", text(), "Bearer"),
        "Retry-After": header(
            false, "Seconds to wait before repeating the request. With 409, only for `key_in_progress`.",
            json!({"type": "string", "pattern": "^[0-9]+$"}), "1",
        ),
        "RateLimit": header(false, "If the caller is limited: the remaining requests, and the seconds until the limit is restored.", text(),
            "\"default\";r=0;t=12"),
        "RateLimit-Policy": header(false, "If the caller is limited: the number of allowed requests, and the window in seconds.", text(),
            "\"default\";q=600;w=60"),
    })
}

pub(super) fn problem_examples() -> Value {
    let of_kind =
        |kind: &Kind| (kind.code.to_owned(), json!({"summary": kind.meaning, "value": kind.example()}));
    catalog::KINDS.iter().map(of_kind).collect::<Map<_, _>>().into()
}
