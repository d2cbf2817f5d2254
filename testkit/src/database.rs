//! A database for one test: a copy of the migrated template. Dropping the value drops the database.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use cuponera_store::{Pools, Store};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, query, query_scalar};

use crate::address::{PREFIX, admin_url, unix_seconds, url_of};
use crate::server::OwnServer;
use crate::{eventually, template};

/// Enough connections for a race, few enough for several concurrent tests on one server.
const POOLS: Pools = Pools { hot: 24, solo: 8, reads: 8, reports: 2, rest: 12, ..Pools::MIN };

/// The limit of the wait for a dropped database.
const DROP_WAIT: Duration = Duration::from_secs(1);

static MADE: AtomicU32 = AtomicU32::new(0);

/// A database with the schema and no rows.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    store: Store,
    // Declared last: stopped after the store is dropped.
    own_server: Option<OwnServer>,
}

impl TestDatabase {
    /// Creates a database, with a store whose pools suffice for most races.
    pub async fn create() -> Self {
        Self::create_with(POOLS).await
    }

    /// Creates a database without a schema.
    pub async fn create_empty() -> Self {
        let (name, server) = (new_name(), admin_url());
        create_empty(&server, &name).await;
        Self::open(name, &server, POOLS).await
    }

    /// Creates a database without a schema, on a Postgres that belongs to this test.
    ///
    /// For tests that stop a process with SIGSTOP. A connection that waits for the rows of a `COPY … FROM STDIN`
    /// answers no signal between processes of the server. `DROP DATABASE` waits for an answer of all connections of
    /// the server, so on a shared server all other tests would wait until the process continues or its
    /// connection is ended.
    pub async fn create_empty_on_own_server() -> Self {
        let server = OwnServer::start().await;
        let name = new_name();
        create_empty(server.url(), &name).await;
        let mut database = Self::open(name, server.url(), POOLS).await;
        database.own_server = Some(server);
        database
    }

    /// Creates a database, with a store that has these pools.
    pub async fn create_with(pools: Pools) -> Self {
        let name = new_name();
        template::copy_to(&name).await;
        Self::open(name, &admin_url(), pools).await
    }

    async fn open(name: String, server: &str, pools: Pools) -> Self {
        let url = url_of(server, &name);
        let store = Store::connect(&url, pools).await.expect("the new database does not answer");
        Self { name, url, store, own_server: None }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The store on it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Another store for the database, like that of another process: it shares only the database.
    pub async fn another_store(&self, pools: Pools) -> Store {
        Store::connect(&self.url, pools).await.expect("the test database does not answer")
    }

    /// Creates a copy of the database, as if restored from a dump. The connections of the store are closed and reopened.
    pub async fn copy(&mut self) -> Self {
        let alone = self.close().await;
        alone.close().await.expect("closing the connection failed");
        let (name, server) = (new_name(), admin_url());
        let mut admin = PgConnection::connect(&server).await.expect("the test server does not answer");
        let copied = query(AssertSqlSafe(format!(r#"create database "{name}" template "{}""#, self.name)));
        copied.execute(&mut admin).await.expect("copying the database failed");
        admin.close().await.expect("closing the connection failed");
        self.store = self.another_store(POOLS).await;
        Self::open(name, &server, POOLS).await
    }

    /// Closes the store's connections, so that they report their statistics, and queries the statistics.
    pub async fn close_and_ask(&self, sql: &'static str) -> i64 {
        let mut alone = self.close().await;
        query_scalar(sql).fetch_one(&mut alone).await.expect("reading the statistics failed")
    }

    /// Closes the store's connections, resets the statistics, and reopens the store.
    pub async fn count_anew(&mut self) {
        let mut alone = self.close().await;
        query("select pg_stat_reset()").execute(&mut alone).await.expect("resetting the statistics failed");
        self.store = self.another_store(POOLS).await;
    }

    /// Closes the store's connections; returns the only remaining connection.
    async fn close(&self) -> PgConnection {
        self.store.close().await;
        let mut alone = PgConnection::connect(&self.url).await.expect("the test database does not answer");
        let others = "select count(*) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
        eventually("the connections to end", async || {
            let open: i64 = query_scalar(others).fetch_one(&mut alone).await.expect("counting failed");
            (open == 0).then_some(())
        })
        .await;
        alone
    }

    /// Closes the store's connections and returns the number of deadlocks, which retries hide from all
    /// other checks.
    pub async fn close_and_count_deadlocks(&self) -> i64 {
        self.close_and_ask("select deadlocks from pg_stat_database where datname = current_database()").await
    }

    /// Direct connections, without the code under test.
    pub fn pool(&self) -> &PgPool {
        self.store.pool()
    }
}

impl Drop for TestDatabase {
    /// Drops the database and ends its connections, on another thread, because this thread may belong to a
    /// runtime. The wait for it is limited: the drop waits for all connections that are being opened, and one
    /// that this thread was opening goes on only after it. A later test run drops what is left.
    fn drop(&mut self) {
        if self.own_server.is_some() {
            return; // The database ends with its server.
        }
        let name = self.name.clone();
        let (done, dropped) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = done.send(runtime.map(|runtime| runtime.block_on(drop_database(&name))));
        });
        let _ = dropped.recv_timeout(DROP_WAIT);
    }
}

async fn create_empty(server: &str, name: &str) {
    let mut admin = PgConnection::connect(server).await.expect("the test server does not answer");
    let made = query(AssertSqlSafe(format!(r#"create database "{name}" template template0"#)));
    made.execute(&mut admin).await.expect("creating a database failed");
    admin.close().await.expect("closing the connection failed");
}

async fn drop_database(name: &str) -> sqlx::Result<()> {
    let mut admin = PgConnection::connect(&admin_url()).await?;
    query(AssertSqlSafe(format!(r#"drop database if exists "{name}" with (force)"#)))
        .execute(&mut admin)
        .await?;
    admin.close().await
}

fn new_name() -> String {
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}_{}_{number}", unix_seconds(), std::process::id())
}
