//! What an operator has to know of a database before anything runs on it. It is only read.

use chrono::{DateTime, Utc};
use sqlx::{query_as, query_scalar};

use crate::error::Result;

use super::Store;
use super::connect::MIGRATIONS;

/// A server, and what we may do in the database.
#[derive(Debug, Clone)]
pub struct Examination {
    /// As `server_version_num`: 150_004 is 15.4.
    pub version: i32,
    /// Whether it is a copy that cannot be written to.
    pub is_replica: bool,
    /// The setting `fsync`.
    pub fsync: String,
    /// The setting `synchronous_commit`.
    pub synchronous_commit: String,
    /// How many connections it takes that are not set aside for its administrators.
    pub connections: i32,
    /// Its clock, at a moment between question and answer.
    pub now: DateTime<Utc>,
    /// Whether we may make tables.
    pub may_create: bool,
    /// Whether we may make temporary tables, which imports need.
    pub may_use_temporary: bool,
}

/// How far a schema is, against what this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersions {
    /// The newest step that was taken; none before the first.
    pub found: Option<i64>,
    /// The newest step that this program knows.
    pub known: i64,
    /// A step that was begun and not finished.
    pub broken: Option<i64>,
}

impl Store {
    /// Looks at the server and at our rights in the database.
    pub async fn examine(&self) -> Result<Examination> {
        let found = query_as!(
            Examination,
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
        .fetch_one(&self.pool)
        .await?;
        Ok(found)
    }

    /// Which steps the schema has taken.
    pub async fn schema_versions(&self) -> Result<SchemaVersions> {
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        let steps = query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#);
        if !steps.fetch_one(&self.pool).await? {
            return Ok(SchemaVersions { found: None, known, broken: None });
        }
        // Not checked when it is built: the table is made by the first migration that runs.
        let found = query_scalar("select max(version) from _sqlx_migrations where success");
        let broken = query_scalar("select min(version) from _sqlx_migrations where not success");
        let (found, broken) = (found.fetch_one(&self.pool).await?, broken.fetch_one(&self.pool).await?);
        Ok(SchemaVersions { found, known, broken })
    }
}
