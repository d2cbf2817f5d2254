//! Diagnostics of a database for `cuponera doctor`. They only read, over one connection.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, PgConnection, query_as, query_file_as, query_scalar};
use tokio::time::timeout;

use super::address::{AddressError, connect_options};
use super::schema::SchemaState;

/// Timeout of the examination.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The result of the examination of a database.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The server and the rights of the connection.
    pub server: ServerState,
    /// The state of the schema.
    pub schema: SchemaState,
    /// User ids and emails that were stored untrimmed; `None` if the schema does not have the view yet or it is not
    /// readable.
    pub untrimmed: Option<Untrimmed>,
    /// Seconds that its clock is ahead of this machine's.
    pub clock_ahead_seconds: i64,
}

/// A server and the rights of the connection in the database.
#[derive(Debug, Clone)]
pub struct ServerState {
    /// As `server_version_num`: 150_004 is 15.4.
    pub version: i32,
    /// Whether it is a read-only replica.
    pub is_replica: bool,
    /// The setting `fsync`.
    pub fsync: String,
    /// The setting `synchronous_commit`.
    pub synchronous_commit: String,
    /// Maximum number of connections, without those reserved for administrators.
    pub connections: i32,
    /// Its clock, between the sending of the query and its result.
    pub now: DateTime<Utc>,
    /// Whether the connection may create tables.
    pub may_create: bool,
    /// Whether the connection may create temporary tables, which imports need.
    pub may_use_temporary: bool,
}

/// Numbers of stored user ids and emails with characters that calls trim or reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Untrimmed {
    /// User ids.
    pub user_ids: i64,
    /// User ids of accounts.
    pub accounts: i64,
    /// User ids that hold codes.
    pub holders: i64,
    /// User ids that no call finds.
    pub lost_user_ids: i64,
    /// Emails.
    pub emails: i64,
    /// Emails that no login finds.
    pub lost_emails: i64,
}

/// Why a database could not be examined. Contains no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// The URL is not a database URL.
    #[error("its URL {0}")]
    BadUrl(#[from] AddressError),
    /// No answer within 5 s.
    #[error("it does not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// The connection or a query failed.
    #[error("{0}")]
    Failed(String),
}

impl From<sqlx::Error> for ExamineError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(match &error {
            sqlx::Error::Database(rejection) => rejection.message().to_owned(),
            sqlx::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        })
    }
}

/// Examines a database.
pub async fn examine(url: &str) -> Result<Examined, ExamineError> {
    let options = connect_options(url)?.application_name("cuponera doctor");
    let look = async {
        let mut connection = options.connect().await?;
        let asked_at = Utc::now();
        let server = server_state(&mut connection).await?;
        let middle = asked_at + (Utc::now() - asked_at) / 2;
        let schema = SchemaState::read(&mut connection).await?;
        let untrimmed = untrimmed(&mut connection).await?;
        let clock_ahead_seconds = (server.now - middle).num_seconds();
        let _ = connection.close().await;
        Ok(Examined { server, schema, untrimmed, clock_ahead_seconds })
    };
    timeout(TIMEOUT, look).await.map_err(|_| ExamineError::TimedOut)?
}

async fn server_state(connection: &mut PgConnection) -> sqlx::Result<ServerState> {
    query_as!(
        ServerState,
        r#"select current_setting('server_version_num')::int as "version!",
                  pg_is_in_recovery() as "is_replica!",
                  current_setting('fsync') as "fsync!",
                  current_setting('synchronous_commit') as "synchronous_commit!",
                  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                    - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) as "connections!",
                  clock_timestamp() as "now!",
                  coalesce(has_schema_privilege(to_regnamespace('public'), 'create'), false) as "may_create!",
                  has_database_privilege(current_database(), 'temporary') as "may_use_temporary!""#
    )
    .fetch_one(connection)
    .await
}

async fn untrimmed(connection: &mut PgConnection) -> sqlx::Result<Option<Untrimmed>> {
    // Null if a table does not exist.
    let may_read = query_scalar!(
        "select has_table_privilege(to_regclass('untrimmed_email'), 'select')
           and has_table_privilege(to_regclass('coupon'), 'select')"
    );
    if may_read.fetch_one(&mut *connection).await? != Some(true) {
        return Ok(None);
    }
    let counted = query_file_as!(Untrimmed, "src/sql/untrimmed.sql").fetch_one(connection).await?;
    Ok(Some(counted))
}
