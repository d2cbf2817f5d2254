//! The test data: two businesses with the same codes, users and books, so that they differ only in the
//! business, and the ids that clients have learned so far.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use rand::RngExt;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};

use crate::installation::{EMAIL, OTHER_EMAIL, PASSWORD};
use crate::receivers::EVENT_TYPES;
use crate::{Error, Result};

/// Codes with holders. Half of the requests use the first `HOT_CODES`.
const HELD_CODES: u32 = 60;
const HOT_CODES: u32 = 6;
/// Free codes that distributions and uploads assign.
const GIVEN_CODES: u32 = 400;
/// Users that a pool may have, and that it has first.
const MEMBERS: u32 = 40;
const FIRST_MEMBERS: u32 = 24;
/// Codes that can be redeemed once and require a lock.
const ONCE_CODES: u32 = 200;
/// Free codes to assign: fewer than all users may hold together, so that they sell out.
pub(crate) const FREE_CODES: u32 = 400;
/// Codes of the book whose free codes are assigned to the users who present them. Half of the requests use the first `HOT_FLYERS`.
const FLYERS: u32 = 240;
const HOT_FLYERS: u32 = 30;
const USERS: u32 = 8;
/// Users of the book of free codes.
const TAKERS: u32 = 120;
/// Users who present flyers.
const PRESENTERS: u32 = 30;
/// Redemptions per held code, and free codes per user.
const MAX_REDEEMS: u32 = 8;
pub(crate) const MAX_CODES_PER_USER: usize = 4;
/// Flyers that a user may hold.
pub(crate) const MAX_FLYERS_PER_USER: usize = 4;
/// Codes to distribute that a user may hold.
pub(crate) const MAX_GIVEN_PER_USER: usize = 8;
/// Timeout of a job of the setup.
const SET_UP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Both businesses.
pub(crate) struct World {
    pub(crate) tenants: [Tenant; 2],
    known: Mutex<Known>,
}

/// A business.
pub(crate) struct Tenant {
    pub(crate) id: String,
    /// The book of codes whose holders lock and redeem them.
    pub(crate) held: String,
    pub(crate) once: String,
    /// The book of free codes to assign.
    pub(crate) free: String,
    /// The book of free codes to distribute, and the pool of their users.
    pub(crate) given: String,
    pub(crate) pool: String,
    /// The BEARER book. `None` in a fleet of two versions, if the earlier one does not know such books.
    pub(crate) flyers: Option<String>,
    /// The book in which jobs create codes.
    pub(crate) made: String,
    api_key: String,
    /// The access tokens of two end users, `u0` and `u1`.
    tokens: Vec<String>,
}

/// The ids learned from answers.
#[derive(Default)]
pub(crate) struct Known {
    /// The granted locks by tenant and code, newest last.
    pub(crate) locks: HashMap<(usize, String), Vec<String>>,
    /// Jobs, by tenant.
    pub(crate) jobs: [Vec<String>; 2],
    /// Jobs that distribute, by tenant.
    pub(crate) distributions: [Vec<String>; 2],
    /// Codes and ids of redemptions, by tenant, newest last.
    pub(crate) redemptions: [Vec<(String, String)>; 2],
}

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A trusted backend of a tenant.
    Service(usize),
    /// An end user of a tenant, by number.
    User(usize, u32),
}

impl Caller {
    pub(crate) fn tenant(&self) -> usize {
        match self {
            Self::Service(tenant) | Self::User(tenant, _) => *tenant,
        }
    }

    /// The end user's id.
    pub(crate) fn user(&self) -> Option<String> {
        match self {
            Self::Service(_) => None,
            Self::User(_, number) => Some(holder(*number)),
        }
    }
}

impl World {
    /// The authentication header of a caller.
    pub(crate) fn credentials(&self, caller: &Caller) -> (&'static str, String) {
        match caller {
            Caller::Service(tenant) => ("X-API-Key", self.tenants[*tenant].api_key.clone()),
            Caller::User(tenant, user) => {
                ("Authorization", format!("Bearer {}", self.tenants[*tenant].tokens[*user as usize]))
            }
        }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the test data through the APIs. Each business has a webhook to its receiver.
    pub(crate) async fn make(apis: &[String], receivers: &[String; 2]) -> Result<Self> {
        let [first, second] = receivers;
        let tenants =
            try_join_all([Tenant::make(apis, EMAIL, first), Tenant::make(apis, OTHER_EMAIL, second)]).await?;
        let tenants = <[Tenant; 2]>::try_from(tenants).map_err(|_| "expected two businesses")?;
        Ok(Self { tenants, known: Mutex::default() })
    }
}

impl Tenant {
    async fn make(apis: &[String], email: &str, receiver: &str) -> Result<Self> {
        let [api, ..] = apis else { return Err("the installation has no API".into()) };
        let admin = Admin::log_in(api, email).await?;
        let webhook = json!({"url": receiver, "eventTypes": EVENT_TYPES, "perCode": true});
        admin.post("webhooks", &webhook).await?;
        let key = admin.post("api-keys", &json!({"name": "storm"})).await?;
        let me = admin.send(admin.request(Method::GET, "auth/me")).await?;
        let held = admin.book(&json!({"maxRedeemsPerUser": MAX_REDEEMS, "lockTtlSeconds": 2})).await?;
        let once = admin.book(&json!({"requireLock": true, "lockTtlSeconds": 2})).await?;
        let free = admin.book(&json!({"maxCodesPerUser": MAX_CODES_PER_USER})).await?;
        let given = admin.book(&json!({"maxCodesPerUser": MAX_GIVEN_PER_USER})).await?;
        let flyers = flyers(apis, email).await?;
        let pool = text(&admin.post("user-pools", &json!({"name": "Members"})).await?, "/id")?;
        let members: Vec<String> = (0..FIRST_MEMBERS).map(|number| format!("p{number}")).collect();
        admin.post(&format!("user-pools/{pool}/users"), &json!({"userIds": members})).await?;
        let made = admin.book(&json!({})).await?;
        let of_holders = |prefix: &str, codes: u32| {
            let lines = (0..codes).map(|number| format!("{prefix}-{number:04},{}\n", holder(number)));
            format!("code,userId\n{}", lines.collect::<String>())
        };
        let without_holders = |prefix: &str, codes: u32| {
            let lines = (0..codes).map(|number| format!("{prefix}-{number:04}\n"));
            format!("code\n{}", lines.collect::<String>())
        };
        try_join_all([
            admin.import(&held, of_holders("HELD", HELD_CODES)),
            admin.import(&once, of_holders("ONCE", ONCE_CODES)),
            admin.import(&free, without_holders("FREE", FREE_CODES)),
            admin.import(&given, without_holders("GIVE", GIVEN_CODES)),
        ])
        .await?;
        if let Some(flyers) = &flyers {
            admin.import(flyers, without_holders("FLYR", FLYERS)).await?;
        }
        let tokens = try_join_all((0..2).map(|number| admin.user(number))).await?;
        Ok(Self {
            id: text(&me, "/businessId")?,
            held,
            once,
            free,
            given,
            pool,
            flyers,
            made,
            api_key: text(&key, "/key")?,
            tokens,
        })
    }
}

/// Creates the BEARER book through the last API, which runs the earlier version in a fleet of two.
async fn flyers(apis: &[String], email: &str) -> Result<Option<String>> {
    let [.., api] = apis else { return Ok(None) };
    let rules = json!({
        "codeKind": "BEARER", "maxCodesPerUser": MAX_FLYERS_PER_USER, "maxRedeemsPerUser": 2, "lockTtlSeconds": 2,
    });
    match Admin::log_in(api, email).await?.book(&rules).await {
        Ok(book) => Ok(Some(book)),
        Err(error) if error.to_string().contains("\"codeKind\"") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The holder of the code with this number.
pub(crate) fn holder(number: u32) -> String {
    format!("u{}", number % USERS)
}

/// The nearest number whose code this user holds.
pub(crate) fn held_by(user: u32, number: u32) -> u32 {
    number / USERS * USERS + user
}

/// The number of a held code, hot codes more often.
pub(crate) fn held_number(random: &mut StdRng) -> u32 {
    let codes = if random.random_bool(0.5) { HOT_CODES } else { HELD_CODES };
    random.random_range(0..codes)
}

pub(crate) fn held_code(random: &mut StdRng) -> String {
    format!("HELD-{:04}", held_number(random))
}

pub(crate) fn once_number(random: &mut StdRng) -> u32 {
    random.random_range(0..ONCE_CODES)
}

pub(crate) fn free_code(random: &mut StdRng) -> String {
    format!("FREE-{:04}", random.random_range(0..FREE_CODES))
}

/// A held code of which few requests are.
pub(crate) fn rarely_used_code(random: &mut StdRng) -> String {
    format!("HELD-{:04}", random.random_range(HOT_CODES..HELD_CODES))
}

/// A code that distributions may assign.
pub(crate) fn given_code(random: &mut StdRng) -> String {
    format!("GIVE-{:04}", random.random_range(0..GIVEN_CODES))
}

/// A code of the BEARER book, hot codes more often.
pub(crate) fn flyer(random: &mut StdRng) -> String {
    let codes = if random.random_bool(0.5) { HOT_FLYERS } else { FLYERS };
    format!("FLYR-{:04}", random.random_range(0..codes))
}

/// A user who presents flyers.
pub(crate) fn presenter(random: &mut StdRng) -> String {
    format!("f{}", random.random_range(0..PRESENTERS))
}

/// A user that the pool may have.
pub(crate) fn member(random: &mut StdRng) -> String {
    format!("p{}", random.random_range(0..MEMBERS))
}

pub(crate) fn taker(random: &mut StdRng) -> String {
    format!("t{}", random.random_range(0..TAKERS))
}

/// The admin who sets up a business.
struct Admin {
    http: reqwest::Client,
    base: String,
    email: String,
    token: String,
}

impl Admin {
    async fn log_in(api: &str, email: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut admin = Self {
            http,
            base: format!("http://{api}/api/v1"),
            email: email.to_owned(),
            token: String::new(),
        };
        let session = admin.post("auth/login", &json!({"email": email, "password": PASSWORD})).await?;
        admin.token = text(&session, "/accessToken")?;
        Ok(admin)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(&self.token)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let answer = request.send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        if status.is_success() {
            Ok(serde_json::from_str(&body)?)
        } else {
            Err(format!("{status}: {body}").into())
        }
    }

    /// Creates an active book with these rules.
    async fn book(&self, rules: &Value) -> Result<String> {
        let mut book = rules.clone();
        book["name"] = json!("Set up");
        let id = text(&self.post("coupon-books", &book).await?, "/id")?;
        let activate = self.request(Method::PATCH, &format!("coupon-books/{id}"));
        self.send(activate.json(&json!({"status": "ACTIVE"}))).await?;
        Ok(id)
    }

    async fn import(&self, book: &str, file: String) -> Result<()> {
        let upload = self.request(Method::POST, &format!("coupon-codes/upload?couponBookId={book}"));
        let job = self.send(upload.header("Content-Type", "text/csv").body(file)).await?;
        let path = format!("jobs/{}", text(&job, "/id")?);
        let succeeds = async {
            loop {
                let job = self.send(self.request(Method::GET, &path)).await?;
                match job["status"].as_str() {
                    Some("SUCCEEDED") => return Ok::<_, Error>(()),
                    Some("QUEUED" | "RUNNING") => tokio::time::sleep(POLL).await,
                    _ => return Err(format!("an import of the setup failed: {job}").into()),
                }
            }
        };
        tokio::time::timeout(SET_UP, succeeds).await?
    }

    /// Creates an end user and returns its access token.
    async fn user(&self, number: u32) -> Result<String> {
        let email = format!("u{number}-of-{}", self.email);
        let user = json!({"email": email, "password": PASSWORD, "role": "USER", "userId": holder(number)});
        self.post("users", &user).await?;
        let session = self.post("auth/login", &json!({"email": email, "password": PASSWORD})).await?;
        text(&session, "/accessToken")
    }
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    let text = value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| format!("no {pointer} in {value}").into())
}
