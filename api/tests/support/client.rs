//! A caller of the API: its credentials and connections.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::contract::assert_documented;

/// The header with the credentials.
#[derive(Debug, Clone)]
enum Credential {
    None,
    Token(String),
    Key(String),
}

/// A caller. Clones share their connections; see [`Client::apart`].
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    credential: Credential,
}

/// The server's answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// An answer that is checked against the OpenAPI document later, because the check takes longer than a request.
#[derive(Debug)]
pub(crate) struct Unchecked {
    method: String,
    path: String,
    reply: Reply,
}

impl Client {
    /// A caller without credentials.
    pub(crate) fn anonymous(base: &str) -> Self {
        Self { http: connections(), base: base.to_owned(), credential: Credential::None }
    }

    /// A caller with an access token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { credential: Credential::Token(token.to_owned()), ..self.clone() }
    }

    /// A caller with an API key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { credential: Credential::Key(key.to_owned()), ..self.clone() }
    }

    /// The same caller at another server.
    pub(crate) fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same caller with separate connections, one of which is open.
    pub(crate) async fn apart(&self) -> Self {
        let client = self.on_new_connections();
        client.get("/health/live").await.expect(200);
        client
    }

    /// The server, as host and port.
    pub(crate) fn address(&self) -> String {
        self.base.trim_start_matches("http://").to_owned()
    }

    /// The access token, if it has one.
    pub(crate) fn token(&self) -> Option<&str> {
        match &self.credential {
            Credential::Token(token) => Some(token),
            Credential::None | Credential::Key(_) => None,
        }
    }

    /// The API key, if it has one.
    pub(crate) fn key(&self) -> Option<&str> {
        match &self.credential {
            Credential::Key(key) => Some(key),
            Credential::None | Credential::Token(_) => None,
        }
    }

    /// The same caller without an open connection.
    pub(crate) fn on_new_connections(&self) -> Self {
        Self { http: connections(), ..self.clone() }
    }

    /// The same caller at another address of this machine, with separate connections.
    pub(crate) fn on_address(&self, address: std::net::IpAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().local_address(address).build();
        Self { http: http.expect("an HTTP client without options can be built"), ..self.clone() }
    }

    /// The same with other connections.
    pub(crate) fn over(&self, http: reqwest::Client) -> Self {
        Self { http, ..self.clone() }
    }

    /// A request builder; paths without a leading slash are under `/api/v1`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/v1/{path}") };
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.credential {
            Credential::None => request,
            Credential::Token(token) => request.bearer_auth(token),
            Credential::Key(key) => request.header("X-API-Key", key),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::to(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        Reply::to(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> Reply {
        Reply::to(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        Reply::to(self.request(Method::PATCH, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        Reply::to(self.request(Method::DELETE, path)).await
    }
}

/// Without the proxies of the environment.
fn connections() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client without options can be built")
}

impl Unchecked {
    /// Sends a request and reads the whole answer.
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let response = client.execute(request).await.expect("the server does not answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("the answer ended early");
        Self { method, path, reply: Reply { status, headers, text } }
    }

    /// Checks the answer against the OpenAPI document.
    pub(crate) fn check(self) -> Reply {
        let Self { method, path, reply } = self;
        assert_documented(&method, &path, reply.status, &reply.headers, &reply.text);
        reply
    }
}

impl Reply {
    /// Sends a request, reads the whole answer and checks it against the OpenAPI document.
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        Unchecked::to(request).await.check()
    }

    /// The body; fails if the status differs.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The problem's code; fails if the status differs.
    #[track_caller]
    pub(crate) fn rejected(self, status: u16) -> String {
        let media = self.header("content-type").to_owned();
        let problem = self.expect(status);
        assert_eq!(media, "application/problem+json", "{problem}");
        problem["code"].as_str().unwrap_or_else(|| panic!("a problem without a code: {problem}")).to_owned()
    }

    /// The body; null if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The status and the problem's code, if any: the outcome in a race.
    pub(crate) fn outcome(&self) -> String {
        match self.json()["code"].as_str() {
            Some(code) if self.status >= 400 => format!("{} {code}", self.status),
            _ => self.status.to_string(),
        }
    }

    /// A header; empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
