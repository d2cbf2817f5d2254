//! The HTTP client of a server: sends credentials, retries without repeating an effect, and classifies answers.

use std::time::Duration;

use reqwest::header::{HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::address::{Address, innermost, is_tls_fault};
use super::attempts::{AttemptError, Attempts};
use super::exchange::{JsonDocument, Request};
use super::fault::{ClientError, Rejected};
use super::login::{Login, Logins, Session};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a call other than an upload. The slowest is a login, which hashes the password, on a busy server.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A server, and the credential for it.
#[derive(Debug)]
pub(crate) struct Server {
    http: reqwest::Client,
    address: Address,
    credential: Credential,
    patience: Duration,
    /// Held while a refresh token is exchanged. An interrupted command waits for it, so that the new token is stored.
    renewing: tokio::sync::Mutex<()>,
}

/// How long an interrupted command waits for a refresh.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The credential of requests.
#[derive(Debug)]
enum Credential {
    ApiKey(HeaderValue),
    Login(Logins),
}

impl Server {
    /// Creates a client; sends nothing.
    pub(crate) fn new(url: &str, api_key: Option<&str>, patience: Duration) -> Result<Self, ClientError> {
        let address = Address::parse(url)?;
        let credential = match api_key {
            Some(key) => {
                let mut key = HeaderValue::from_str(key).map_err(|_| {
                    ClientError::Local("CUPONERA_API_KEY: contains invalid characters".to_owned())
                })?;
                key.set_sensitive(true);
                Credential::ApiKey(key)
            }
            None => Credential::Login(Logins::find()?),
        };
        let http = reqwest::Client::builder()
            .user_agent(concat!("cuponera/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Following a redirect would send the API key to its target.
            .redirect(reqwest::redirect::Policy::none());
        let http = if address.is_loopback() { http.no_proxy() } else { http };
        let http = http.build().map_err(|error| ClientError::Local(innermost(&error)))?;
        Ok(Self { http, address, credential, patience, renewing: tokio::sync::Mutex::default() })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The stored logins, unless an API key is used.
    pub(crate) fn logins(&self) -> Option<&Logins> {
        match &self.credential {
            Credential::ApiKey(_) => None,
            Credential::Login(logins) => Some(logins),
        }
    }

    /// Sends a call, with retries until `patience` has passed.
    pub(crate) async fn send(&self, ask: Request<'_>) -> Result<JsonDocument, ClientError> {
        let key = ask.key();
        let (mut attempts, mut renewed, mut arrived_before) = (self.attempts(), false, false);
        loop {
            let token = if ask.is_open() { None } else { self.token().await? };
            match self.once(&ask, key, token.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(AttemptError::Permanent(ClientError::Rejected(rejected)))
                    if rejected.status == 401 && !renewed && token.is_some() =>
                {
                    renewed = true;
                    self.renew(token.as_ref()).await?;
                }
                // An earlier attempt, whose answer was lost, has deleted it.
                Err(AttemptError::Permanent(fault))
                    if arrived_before && ask.method == Method::DELETE && fault.is_refusal("not_found") =>
                {
                    return Ok(JsonDocument { text: String::new(), value: Value::Null });
                }
                Err(AttemptError::Permanent(fault)) => return Err(fault),
                Err(AttemptError::Transient { fault, after, arrived }) => {
                    arrived_before |= arrived;
                    attempts.pause(fault, after).await?;
                }
            }
        }
    }

    async fn once(
        &self,
        ask: &Request<'_>,
        key: Option<Uuid>,
        login: Option<&Login>,
    ) -> Result<JsonDocument, AttemptError> {
        let mut request = self.request(ask.method.clone(), ask.path, &ask.query, login).timeout(CALL_TIMEOUT);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key.to_string());
        }
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        self.answer(request.send().await).await
    }

    /// The document of a successful answer; otherwise the classified error.
    pub(crate) async fn answer(&self, sent: reqwest::Result<Response>) -> Result<JsonDocument, AttemptError> {
        let text = self.judge(sent).await?.text().await.map_err(|error| self.trouble(&error))?;
        JsonDocument::read(text, self.address.as_str()).map_err(AttemptError::Permanent)
    }

    /// A request with the credential.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&'static str, String)],
        login: Option<&Login>,
    ) -> RequestBuilder {
        let request = self.http.request(method, self.address.at(path, query));
        match (&self.credential, login) {
            (Credential::ApiKey(key), _) => request.header("X-API-Key", key.clone()),
            (Credential::Login(_), Some(login)) => request.bearer_auth(&login.access_token),
            (Credential::Login(_), None) => request,
        }
    }

    /// A successful answer; otherwise the classified error.
    pub(crate) async fn judge(&self, sent: reqwest::Result<Response>) -> Result<Response, AttemptError> {
        let response = sent.map_err(|error| self.trouble(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            return Err(AttemptError::Permanent(self.redirected(response.headers().get(LOCATION))));
        }
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let after = header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let id = header("X-Request-Id").unwrap_or_default();
        let text = response.text().await.map_err(|error| self.trouble(&error))?;
        let rejected = Rejected::read(status.as_u16(), text, self.address.as_str());
        Err(self.rejection(status, rejected, after, &id))
    }

    fn rejection(
        &self,
        status: StatusCode,
        rejected: Rejected,
        after: Option<Duration>,
        id: &str,
    ) -> AttemptError {
        let url = self.address.as_str();
        let away = |what: &str| ClientError::Unavailable(format!("{url} {what} ({status})"));
        match status.as_u16() {
            429 => {
                let when = after.map(|after| format!("; retry after {} s", after.as_secs()));
                let what = format!("accepts no more requests now{}", when.unwrap_or_default());
                AttemptError::Transient { fault: away(&what), after, arrived: false }
            }
            408 => AttemptError::Transient {
                fault: away("did not receive the request in time"),
                after,
                arrived: false,
            },
            502..=504 => {
                // An `overloaded` request was not processed.
                let arrived = rejected.code != "overloaded";
                AttemptError::Transient { fault: away("cannot answer now"), after, arrived }
            }
            500.. => AttemptError::Permanent(away(&format!(
                "has an internal error; the request id in its log is {}",
                super::show::plain(id)
            ))),
            // Our first attempt, whose answer was lost, still runs.
            409 if rejected.code == "key_in_progress" => AttemptError::Transient {
                fault: ClientError::Rejected(rejected.into()),
                after,
                arrived: true,
            },
            _ => AttemptError::Permanent(ClientError::Rejected(rejected.into())),
        }
    }

    fn redirected(&self, location: Option<&HeaderValue>) -> ClientError {
        let to = location.and_then(|to| to.to_str().ok()).unwrap_or("an unknown address");
        ClientError::Local(format!(
            "{} redirects to {}: set --url or CUPONERA_URL to that server",
            self.address.as_str(),
            super::show::plain(to)
        ))
    }

    /// Classifies an error without an answer.
    pub(crate) fn trouble(&self, error: &reqwest::Error) -> AttemptError {
        let reason = innermost(error);
        if error.is_builder() {
            return AttemptError::Permanent(ClientError::Local(reason));
        }
        let url = self.address.as_str();
        if is_tls_fault(error) {
            return AttemptError::Permanent(ClientError::Unavailable(format!(
                "no secure connection to {url}: {reason}. Does the server use https://? SSL_CERT_FILE can name trusted certificates"
            )));
        }
        let message = if error.is_connect() {
            format!(
                "{url} cannot be reached: {reason}. Is the server running, and is --url or CUPONERA_URL right?"
            )
        } else {
            format!("{url} does not answer: {reason}")
        };
        AttemptError::Transient {
            fault: ClientError::Unavailable(message),
            after: None,
            arrived: !error.is_connect(),
        }
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(self.patience)
    }

    /// The login, refreshed if its access token is about to expire; `None` if an API key is used.
    pub(crate) async fn token(&self) -> Result<Option<Login>, ClientError> {
        let Some(logins) = self.logins() else { return Ok(None) };
        let login = logins.login(self.address.as_str())?.ok_or_else(|| self.not_logged_in())?;
        if login.is_stale() { self.renew(Some(&login)).await.map(Some) } else { Ok(Some(login)) }
    }

    /// Exchanges the refresh token for new tokens, unless another command has done so meanwhile: a refresh token that
    /// is used twice ends the login.
    async fn renew(&self, stale: Option<&Login>) -> Result<Login, ClientError> {
        let logins = self.logins().ok_or_else(|| self.not_logged_in())?;
        let locked = logins.lock().await?;
        let login = locked.login(self.address.as_str())?.ok_or_else(|| self.not_logged_in())?;
        if stale.is_some_and(|stale| stale.access_token != login.access_token) && !login.is_stale() {
            return Ok(login);
        }
        let _renewing = self.renewing.lock().await;
        let ask = Request::post(&["auth", "refresh"], json!({"refreshToken": login.refresh_token}));
        // Boxed, because `send` and `renew` call each other.
        let session: Session = Box::pin(self.send(ask)).await?.read_as()?;
        let login = session.of(&login.email);
        locked.keep(self.address.as_str(), Some(login.clone()))?;
        Ok(login)
    }

    /// Waits for a running exchange of a refresh token, at most [`RENEWAL_TIMEOUT`]: a used token without its
    /// replacement is a lost login.
    pub(crate) async fn has_renewed(&self) {
        let _ = tokio::time::timeout(RENEWAL_TIMEOUT, self.renewing.lock()).await;
    }

    fn not_logged_in(&self) -> ClientError {
        ClientError::Local(format!(
            "not logged in at {}: run `cuponera login`, or set CUPONERA_API_KEY",
            self.address.as_str()
        ))
    }
}
