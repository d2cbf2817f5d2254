//! Talking to a server: credentials, retries that never double an effect, and what its answers mean.

use std::time::Duration;

use reqwest::header::{HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::address::{Address, innermost, is_tls_fault};
use super::attempts::{Attempts, Trouble};
use super::exchange::{Answer, Ask};
use super::fault::{Fault, Refused};
use super::login::{Login, Logins, Session};

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A call other than an upload takes far less: a login, hashed on a busy machine, is the slowest.
const CALL_PATIENCE: Duration = Duration::from_secs(30);

/// A server, and who we are to it.
#[derive(Debug)]
pub(crate) struct Server {
    http: reqwest::Client,
    address: Address,
    credential: Credential,
    patience: Duration,
    /// Held while a refresh token is traded: whoever ends this command then waits until the new one is kept.
    renewing: tokio::sync::Mutex<()>,
}

/// How long an end may wait for a renewal.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(5);

/// How we say who we are.
#[derive(Debug)]
enum Credential {
    ApiKey(HeaderValue),
    Login(Logins),
}

impl Server {
    /// Nothing is sent yet.
    pub(crate) fn new(url: &str, api_key: Option<&str>, patience: Duration) -> Result<Self, Fault> {
        let address = Address::parse(url)?;
        let credential = match api_key {
            Some(key) => {
                let mut key = HeaderValue::from_str(key).map_err(|_| {
                    Fault::Here("CUPONERA_API_KEY: has characters that no key has".to_owned())
                })?;
                key.set_sensitive(true);
                Credential::ApiKey(key)
            }
            None => Credential::Login(Logins::find()?),
        };
        let http = reqwest::Client::builder()
            .user_agent(concat!("cuponera/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_PATIENCE)
            // A redirect would carry the key to wherever it points.
            .redirect(reqwest::redirect::Policy::none());
        let http = if address.is_loopback() { http.no_proxy() } else { http };
        let http = http.build().map_err(|error| Fault::Here(innermost(&error)))?;
        Ok(Self { http, address, credential, patience, renewing: tokio::sync::Mutex::default() })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The logins, if that is how we say who we are.
    pub(crate) fn logins(&self) -> Option<&Logins> {
        match &self.credential {
            Credential::ApiKey(_) => None,
            Credential::Login(logins) => Some(logins),
        }
    }

    /// Asks until there is an answer, or no more patience.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Answer, Fault> {
        let key = ask.key();
        let (mut attempts, mut renewed, mut arrived_before) = (self.attempts(), false, false);
        loop {
            let token = if ask.is_open() { None } else { self.token().await? };
            match self.once(&ask, key, token.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Lasting(Fault::Refused(refused)))
                    if refused.status == 401 && !renewed && token.is_some() =>
                {
                    renewed = true;
                    self.renew(token.as_ref()).await?;
                }
                // What an attempt whose answer was lost has deleted is gone: that was wanted.
                Err(Trouble::Lasting(fault))
                    if arrived_before && ask.method == Method::DELETE && fault.is_refusal("not_found") =>
                {
                    return Ok(Answer { text: String::new(), value: Value::Null });
                }
                Err(Trouble::Lasting(fault)) => return Err(fault),
                Err(Trouble::Passing { fault, after, arrived }) => {
                    arrived_before |= arrived;
                    attempts.pause(fault, after).await?;
                }
            }
        }
    }

    async fn once(&self, ask: &Ask<'_>, key: Option<Uuid>, login: Option<&Login>) -> Result<Answer, Trouble> {
        let mut request =
            self.request(ask.method.clone(), ask.path, &ask.query, login).timeout(CALL_PATIENCE);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key.to_string());
        }
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        self.answer(request.send().await).await
    }

    /// The document that was sent, if it is one of success; else what it means.
    pub(crate) async fn answer(&self, sent: reqwest::Result<Response>) -> Result<Answer, Trouble> {
        let text = self.judge(sent).await?.text().await.map_err(|error| self.trouble(&error))?;
        Answer::read(text, self.address.as_str()).map_err(Trouble::Lasting)
    }

    /// A request that says who we are.
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

    /// The answer if it is a success; else what it means.
    pub(crate) async fn judge(&self, sent: reqwest::Result<Response>) -> Result<Response, Trouble> {
        let response = sent.map_err(|error| self.trouble(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            return Err(Trouble::Lasting(self.redirected(response.headers().get(LOCATION))));
        }
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let after = header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let id = header("X-Request-Id").unwrap_or_default();
        let text = response.text().await.map_err(|error| self.trouble(&error))?;
        let refused = Refused::read(status.as_u16(), text, self.address.as_str());
        Err(self.refusal(status, refused, after, &id))
    }

    fn refusal(&self, status: StatusCode, refused: Refused, after: Option<Duration>, id: &str) -> Trouble {
        let url = self.address.as_str();
        let away = |what: &str| Fault::Away(format!("{url} {what} ({status})"));
        match status.as_u16() {
            429 => {
                let when = after.map(|after| format!("; it asks to come back in {} s", after.as_secs()));
                let what = format!("takes no more requests for now{}", when.unwrap_or_default());
                Trouble::Passing { fault: away(&what), after, arrived: false }
            }
            408 => Trouble::Passing { fault: away("did not get the request in time"), after, arrived: false },
            502..=504 => {
                // Who was told so was not let in.
                let arrived = refused.code != "overloaded";
                Trouble::Passing { fault: away("cannot answer now"), after, arrived }
            }
            500.. => Trouble::Lasting(away(&format!(
                "has a fault; its log has it under {}",
                super::show::plain(id)
            ))),
            // Our own first attempt, whose answer was lost, still runs.
            409 if refused.code == "key_in_progress" => {
                Trouble::Passing { fault: Fault::Refused(refused.into()), after, arrived: true }
            }
            _ => Trouble::Lasting(Fault::Refused(refused.into())),
        }
    }

    fn redirected(&self, location: Option<&HeaderValue>) -> Fault {
        let to = location.and_then(|to| to.to_str().ok()).unwrap_or("somewhere else");
        Fault::Here(format!(
            "{} sends us to {}: name that server with --url or CUPONERA_URL",
            self.address.as_str(),
            super::show::plain(to)
        ))
    }

    /// What it means that no answer came.
    pub(crate) fn trouble(&self, error: &reqwest::Error) -> Trouble {
        let reason = innermost(error);
        if error.is_builder() {
            return Trouble::Lasting(Fault::Here(reason));
        }
        let url = self.address.as_str();
        if is_tls_fault(error) {
            return Trouble::Lasting(Fault::Away(format!(
                "{url} gives no secure connection: {reason}. Is it https:// there? SSL_CERT_FILE can name certificates to trust"
            )));
        }
        let message = if error.is_connect() {
            format!("{url} cannot be reached: {reason}. Is it running, and is --url or CUPONERA_URL right?")
        } else {
            format!("{url} does not answer: {reason}")
        };
        Trouble::Passing { fault: Fault::Away(message), after: None, arrived: !error.is_connect() }
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(self.patience)
    }

    /// The login to use, renewed if it is about to run out; none if there is an API key.
    pub(crate) async fn token(&self) -> Result<Option<Login>, Fault> {
        let Some(logins) = self.logins() else { return Ok(None) };
        let login = logins.login(self.address.as_str())?.ok_or_else(|| self.not_logged_in())?;
        if login.is_stale() { self.renew(Some(&login)).await.map(Some) } else { Ok(Some(login)) }
    }

    /// Trades the refresh token for new tokens, unless another command has done so meanwhile: one that is used twice ends
    /// the login.
    async fn renew(&self, stale: Option<&Login>) -> Result<Login, Fault> {
        let logins = self.logins().ok_or_else(|| self.not_logged_in())?;
        let locked = logins.lock().await?;
        let login = locked.login(self.address.as_str())?.ok_or_else(|| self.not_logged_in())?;
        if stale.is_some_and(|stale| stale.access_token != login.access_token) && !login.is_stale() {
            return Ok(login);
        }
        let _renewing = self.renewing.lock().await;
        let ask = Ask::post(&["auth", "refresh"], json!({"refreshToken": login.refresh_token}));
        // Boxed: `send` renews, and renewing sends.
        let session: Session = Box::pin(self.send(ask)).await?.read_as()?;
        let login = session.of(&login.email);
        locked.keep(self.address.as_str(), Some(login.clone()))?;
        Ok(login)
    }

    /// Until no refresh token is being traded, or that has taken too long: one that is used up and not replaced is a login
    /// lost.
    pub(crate) async fn has_renewed(&self) {
        let _ = tokio::time::timeout(RENEWAL_PATIENCE, self.renewing.lock()).await;
    }

    fn not_logged_in(&self) -> Fault {
        Fault::Here(format!(
            "not logged in at {}: run `cuponera login`, or set CUPONERA_API_KEY",
            self.address.as_str()
        ))
    }
}
