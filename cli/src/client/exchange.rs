//! What is asked, and what is answered.

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::fault::Fault;

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

/// A document that the server sent.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) value: Value,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None }
    }

    /// Without a body if it is null.
    pub(crate) fn post(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::POST, body: Some(body).filter(|body| !body.is_null()), ..Self::get(path) }
    }

    pub(crate) fn patch(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::PATCH, body: Some(body), ..Self::get(path) }
    }

    pub(crate) fn delete(path: &'a [&'a str]) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// With a query parameter, if there is a value.
    pub(crate) fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// A key of its own for each change; attempts at one call share it.
    pub(super) fn key(&self) -> Option<Uuid> {
        (self.method != Method::GET && self.path.first() != Some(&"auth")).then(Uuid::now_v7)
    }

    /// Logging in needs no login.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.path, ["auth", "login" | "refresh"])
    }
}

impl Answer {
    pub(super) fn read(text: String, url: &str) -> Result<Self, Fault> {
        if text.trim().is_empty() {
            return Ok(Self { text: String::new(), value: Value::Null });
        }
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Self { text, value }),
            Err(_) => {
                Err(Fault::Here(format!("{url} answers, but not as a Cuponera would: is the URL right?")))
            }
        }
    }

    /// The items of a page.
    pub(crate) fn items(&self) -> &[Value] {
        self.value["data"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Where the next page begins, if there is one.
    pub(crate) fn next_cursor(&self) -> Option<String> {
        self.value["nextCursor"].as_str().map(str::to_owned)
    }

    /// Adds the items of the page after this one.
    pub(crate) fn append(&mut self, mut next: Self) {
        let mut items = self.value["data"].take();
        if let (Some(items), Some(more)) = (items.as_array_mut(), next.value["data"].as_array_mut()) {
            items.append(more);
        }
        next.value["data"] = items;
        next.text = next.value.to_string();
        *self = next;
    }

    /// The document as what it should be.
    pub(crate) fn read_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_value(self.value.clone())
            .map_err(|error| Fault::Here(format!("the server's answer is not as expected: {error}")))
    }
}
