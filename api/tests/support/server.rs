//! An installation for one test: API servers and a worker in this process, with a separate database and folder.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cuponera_api::{App, AppBuilder};
use cuponera_domain::id::{AccountId, BusinessId, LoginId};
use cuponera_domain::principal::{Principal, Role, RoleName};
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_platform::cache::Cache;
use cuponera_platform::config::Origin;
use cuponera_platform::credential::{Argon2Hasher, Tokens, random_secret, secret_hash};
use cuponera_platform::files::Files;
use cuponera_platform::queue::{Queue, Sqs, Wakeups};
use cuponera_platform::telemetry::{Exposition, MetricsAccess};
use cuponera_store::{NewAccount, NewApiKey, Pools, RefreshGrant, Store};
use cuponera_testkit::{Dump, TestDatabase};
use cuponera_worker::Worker;
use cuponera_worker::deliver::Sender;
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::Client;

pub(crate) const JWT_SECRET: &str = "a secret that signs the access tokens of tests";
/// The key of the seals.
const AUDIT_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub(crate) const ADMIN_EMAIL: &str = "admin@shop.test";
pub(crate) const ADMIN_PASSWORD: &str = "correct horse battery";

/// Settings that a test can change.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) upload_bytes: u64,
    /// The storage quota of a business.
    pub(crate) storage_bytes: u64,
    /// Whether a worker runs.
    pub(crate) worker: bool,
    /// The rate limits.
    pub(crate) callers: cuponera_api::Limits,
    /// The web origins that may call the API.
    pub(crate) cors_origins: Vec<Origin>,
    /// The private networks to which webhooks may be sent.
    pub(crate) webhook_networks: Vec<&'static str>,
    /// The file store; a folder by default.
    pub(crate) bucket: Option<Files>,
    /// The queue; the database by default.
    pub(crate) queue: Option<Arc<Sqs>>,
    /// The shared Redis, if any.
    pub(crate) redis: Option<String>,
    /// Who can read the metrics.
    pub(crate) metrics_access: MetricsAccess,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 256 * 1024 * 1024,
            storage_bytes: u64::MAX,
            worker: true,
            callers: cuponera_api::Limits::default(),
            cors_origins: Vec::new(),
            webhook_networks: Vec::new(),
            bucket: None,
            queue: None,
            redis: None,
            metrics_access: MetricsAccess::Loopback,
        }
    }
}

/// A running installation with one business and its admin. Dropping it stops the installation.
pub(crate) struct Server {
    pub(crate) database: TestDatabase,
    pub(crate) business: BusinessId,
    pub(crate) files: TempDir,
    anonymous: Client,
    admin: Client,
    service: Client,
    pub(super) limits: Limits,
    pub(crate) app: Arc<App>,
    stop: CancellationToken,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let database = TestDatabase::create().await;
        let store = database.store().clone();
        let business = store.create_business("A shop").await.expect("creating a business failed");
        let admin = admin_token(&store, business, ADMIN_EMAIL).await;
        let service = make_key(&store, business).await;
        let mut server = Self::over(database, business, temporary_folder(), limits).await;
        server.admin = server.anonymous.with_token(&admin);
        server.service = server.anonymous.with_key(&service);
        server
    }

    /// An installation of an earlier version after the current migrations, with the current programs. Its admin logs in with
    /// the old password, and its backend uses the old key.
    pub(crate) async fn upgraded(dump: &Dump, limits: Limits) -> Self {
        let text =
            |pointer| dump.facts.pointer(pointer).and_then(Value::as_str).expect("the dump lacks this fact");
        let database = TestDatabase::from_dump(dump).await;
        database.store().migrate().await.expect("the migrations failed");
        let files = temporary_folder();
        dump.write_files(files.path());
        let business = text("/business").parse().expect("a business has an id");
        let mut server = Self::over(database, business, files, limits).await;
        let login = json!({"email": text("/admin/email"), "password": text("/admin/password")});
        let session = server.anonymous.post("auth/login", login).await.expect(200);
        server.admin =
            server.anonymous.with_token(session["accessToken"].as_str().expect("a login has a token"));
        server.service = server.anonymous.with_key(text("/keys/service"));
        server
    }

    /// Starts the programs, without any credentials.
    async fn over(database: TestDatabase, business: BusinessId, files: TempDir, limits: Limits) -> Self {
        let stop = CancellationToken::new();
        if limits.worker {
            start_worker(&database, open_files(&files, &limits), &limits, cache_of(&limits).await, &stop);
        }
        let cache = cache_of(&limits).await;
        let (base, app) = start_api(database.store().clone(), &files, limits.clone(), cache, &stop);
        let anonymous = Client::anonymous(&base);
        let (admin, service) = (anonymous.clone(), anonymous.clone());
        Self { database, business, files, anonymous, admin, service, limits, app, stop }
    }

    /// Starts a worker.
    pub(crate) async fn start_worker(&self) {
        let files = open_files(&self.files, &self.limits);
        start_worker(&self.database, files, &self.limits, cache_of(&self.limits).await, &self.stop);
    }

    /// Starts another API on the same database, which shares nothing else with the first, like another process. Returns its
    /// address.
    pub(crate) async fn another_api(&self) -> String {
        self.another_api_on(
            self.database.another_store(Pools { hot: 8, solo: 2, reads: 8, rest: 8, ..Pools::MIN }).await,
        )
        .await
    }

    /// The same with a store of the test.
    pub(crate) async fn another_api_on(&self, store: Store) -> String {
        let cache = cache_of(&self.limits).await;
        start_api(store, &self.files, self.limits.clone(), cache, &self.stop).0
    }

    /// The same with other rate limits; returns host and port.
    pub(crate) async fn another_api_limited(&self, callers: cuponera_api::Limits) -> String {
        let pools = Pools { hot: 8, solo: 2, reads: 8, rest: 8, ..Pools::MIN };
        self.another_api_limited_on(self.database.another_store(pools).await, callers).await
    }

    /// The same with a store of the test.
    pub(crate) async fn another_api_limited_on(&self, store: Store, callers: cuponera_api::Limits) -> String {
        let cache = cache_of(&self.limits).await;
        let limits = Limits { callers, ..self.limits.clone() };
        let (address, _) = start_api(store, &self.files, limits, cache, &self.stop);
        address.trim_start_matches("http://").to_owned()
    }

    /// The same on another address of this machine.
    pub(crate) async fn another_api_at(&self, ip: IpAddr) -> String {
        let store =
            self.database.another_store(Pools { hot: 8, solo: 2, reads: 8, rest: 8, ..Pools::MIN }).await;
        let cache = cache_of(&self.limits).await;
        start_api_at(ip, store, &self.files, self.limits.clone(), cache, &self.stop).0
    }

    /// Stops all its servers and its worker.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn anonymous(&self) -> Client {
        self.anonymous.clone()
    }

    pub(crate) fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// A trusted backend, by API key.
    pub(crate) fn service(&self) -> Client {
        self.service.clone()
    }

    /// A new login of the end user with this holder id. Creates the account if it is absent, with the admin's password.
    pub(crate) fn user(&self, user_id: &str) -> Client {
        let log_in = user_token(self.database.pool(), self.business, user_id);
        let token = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(log_in));
        self.anonymous.with_token(&token)
    }

    /// The admin of another business; its password is the admin's.
    pub(crate) async fn another_admin(&self) -> Client {
        let store = self.database.store();
        let business = store.create_business("Another shop").await.expect("creating a business failed");
        let email = format!("{business}@shop.test");
        self.anonymous.with_token(&admin_token(store, business, &email).await)
    }

    /// Checks the invariants; see the testkit.
    pub(crate) async fn assert_invariants(&self) {
        cuponera_testkit::assert_invariants(self.database.pool()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn temporary_folder() -> TempDir {
    TempDir::new().expect("creating a temporary folder failed")
}

/// Serves on a free loopback port; returns the address and the app.
fn start_api(
    store: Store,
    files: &TempDir,
    limits: Limits,
    cache: Cache,
    stop: &CancellationToken,
) -> (String, Arc<App>) {
    start_api_at(Ipv4Addr::LOCALHOST.into(), store, files, limits, cache, stop)
}

fn start_api_at(
    ip: IpAddr,
    store: Store,
    files: &TempDir,
    limits: Limits,
    cache: Cache,
    stop: &CancellationToken,
) -> (String, Arc<App>) {
    let queue = limits.queue.clone().map_or_else(|| Queue::Postgres(Arc::default()), Queue::Sqs);
    let builder = AppBuilder {
        store: queue.attach(store).with_storage_quota(limits.storage_bytes),
        files: open_files(files, &limits),
        queue,
        cache,
        tokens: tokens(),
        refresh_ttl: Duration::from_hours(1),
        upload_limit: limits.upload_bytes,
        lanes: 2,
        limits: limits.callers,
        cors_origins: limits.cors_origins,
        webhook_networks: networks(&limits.webhook_networks),
        metrics: Exposition::new(limits.metrics_access),
    };
    let listener = cuponera_api::bind(SocketAddr::new(ip, 0)).expect("there is no free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let app = App::start(builder).expect("the API does not start");
    tokio::spawn(cuponera_api::serve(listener, app.clone(), stop.clone()));
    (format!("http://{address}"), app)
}

fn networks(networks: &[&str]) -> AllowedNetworks {
    AllowedNetworks::new(networks.iter().map(|network| network.parse().expect("a network")).collect())
}

fn start_worker(
    database: &TestDatabase,
    files: Files,
    limits: &Limits,
    cache: Cache,
    stop: &CancellationToken,
) {
    let wakeups = Arc::new(Wakeups::default());
    let worker = Worker {
        store: database.store().clone(),
        files,
        queue: Queue::Postgres(wakeups.clone()),
        cache,
        concurrency: 2,
        name: "worker".to_owned(),
        retention: Duration::from_hours(90 * 24),
        sender: Sender::new(networks(&limits.webhook_networks)),
        audit_key: AUDIT_KEY.parse().ok(),
    };
    tokio::spawn(worker.run(stop.clone()));
    let (url, stop) = (database.url().to_owned(), stop.clone());
    tokio::spawn(async move { wakeups.listen(&url, &stop).await });
}

/// A separate connection to Redis, as each process has.
async fn cache_of(limits: &Limits) -> Cache {
    match &limits.redis {
        None => Cache::none(),
        Some(url) => Cache::open(&url.clone().into()).await.expect("the address of Redis is invalid"),
    }
}

/// The bucket, if the test has one, otherwise the folder.
fn open_files(files: &TempDir, limits: &Limits) -> Files {
    limits.bucket.clone().unwrap_or_else(|| open(files))
}

pub(super) fn open(files: &TempDir) -> Files {
    Files::in_folder(files.path()).expect("the file store cannot be opened")
}

fn tokens() -> Tokens {
    Tokens::new(&JWT_SECRET.to_owned().into(), Duration::from_mins(15))
}

fn token(business: BusinessId, id: Uuid, role: Role, login: LoginId) -> String {
    tokens().issue(&Principal { business, id, role }, login).expect("a token could not be signed")
}

/// The access token of a new admin.
async fn admin_token(store: &Store, business: BusinessId, email: &str) -> String {
    let id = make_admin(store, business, email).await;
    let grant = RefreshGrant { secret_hash: secret_hash(email), ttl: Duration::from_hours(1) };
    let login = store.start_login_if_verified(id, business, password_hash().await, &grant, None).await;
    let (login, _) = login.expect("logging in failed").expect("the login was rejected");
    token(business, id.0, Role::Admin, login)
}

/// The access token of a new login of the user with this holder id.
async fn user_token(pool: &PgPool, business: BusinessId, user_id: &str) -> String {
    let insert = "insert into user_account (id, business_id, email, password_hash, role, user_id)
                  values ($1, $2, $1 || '@users.test', $3, 'USER', $4) on conflict (business_id, user_id) do nothing";
    sqlx::query(insert)
        .bind(Uuid::now_v7())
        .bind(business.0)
        .bind(password_hash().await)
        .bind(user_id)
        .execute(pool)
        .await
        .expect("creating an account failed");
    let (id, login): (Uuid, Uuid) = sqlx::query_as(
        "insert into login (id, account_id, business_id)
         select $3, account_id, business_id from membership where business_id = $1 and user_id = $2
         returning account_id, id",
    )
    .bind(business.0)
    .bind(user_id)
    .bind(Uuid::now_v7())
    .fetch_one(pool)
    .await
    .expect("logging in failed");
    token(business, id, Role::User { user_id: user_id.to_owned() }, LoginId(login))
}

/// The hash of the admin's password, computed once for all tests.
async fn password_hash() -> &'static str {
    static HASH: OnceCell<String> = OnceCell::const_new();
    let hash = async || {
        let passwords = Argon2Hasher::new().expect("no hasher");
        passwords.hash(ADMIN_PASSWORD.to_owned().into()).await.expect("hashing failed")
    };
    HASH.get_or_init(hash).await
}

async fn make_admin(store: &Store, business: BusinessId, email: &str) -> AccountId {
    let admin = NewAccount {
        business,
        email: email.to_owned(),
        password_hash: password_hash().await.to_owned(),
        role: RoleName::Admin,
        user_id: None,
    };
    let made = store.create_account(None, &admin).await.expect("creating an account failed");
    made.outcome.expect("the account was rejected").id
}

async fn make_key(store: &Store, business: BusinessId) -> String {
    let key = random_secret(32).expect("no randomness");
    let new = NewApiKey {
        business,
        name: "A backend".to_owned(),
        role: RoleName::Service,
        secret_hash: secret_hash(&key),
        hint: key[..12].to_owned(),
        scope: cuponera_domain::principal::KeyScope::default(),
        created_by: None,
        expires_at: None,
    };
    store.create_api_key(&new).await.expect("creating a key failed");
    key
}
