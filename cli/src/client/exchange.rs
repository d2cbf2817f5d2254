//! The calls to a server, and its answers.

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::fault::ClientError;

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

/// A JSON document from the server.
#[derive(Clone, Debug)]
pub(crate) struct JsonDocument {
    pub(crate) text: String,
    pub(crate) value: Value,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None }
    }

    /// A null body sends no body.
    pub(crate) fn post(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::POST, body: Some(body).filter(|body| !body.is_null()), ..Self::get(path) }
    }

    pub(crate) fn patch(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::PATCH, body: Some(body), ..Self::get(path) }
    }

    pub(crate) fn delete(path: &'a [&'a str]) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// Adds a query parameter, if there is a value.
    pub(crate) fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// An idempotency key for a change; all attempts at the call share it.
    pub(super) fn key(&self) -> Option<Uuid> {
        (self.method != Method::GET && self.path.first() != Some(&"auth")).then(Uuid::now_v7)
    }

    /// Whether the call needs no credential.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.path, ["auth", "login" | "refresh"])
    }
}

impl JsonDocument {
    pub(super) fn read(text: String, url: &str) -> Result<Self, ClientError> {
        if text.trim().is_empty() {
            return Ok(Self { text: String::new(), value: Value::Null });
        }
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Self { text, value }),
            Err(_) => Err(ClientError::Local(format!(
                "{url} did not answer like a Cuponera server: is the URL right?"
            ))),
        }
    }

    /// The items of a page.
    pub(crate) fn items(&self) -> &[Value] {
        self.value["data"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The cursor of the next page, if there is one.
    pub(crate) fn next_cursor(&self) -> Option<String> {
        self.value["nextCursor"].as_str().map(str::to_owned)
    }

    /// Appends the items of the next page.
    pub(crate) fn append(&mut self, mut next: Self) {
        let mut items = self.value["data"].take();
        if let (Some(items), Some(more)) = (items.as_array_mut(), next.value["data"].as_array_mut()) {
            items.append(more);
        }
        next.value["data"] = items;
        next.text = next.value.to_string();
        *self = next;
    }

    /// Deserializes the document.
    pub(crate) fn read_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_value(self.value.clone()).map_err(|error| {
            ClientError::Local(format!("the server's answer has an unexpected form: {error}"))
        })
    }
}
