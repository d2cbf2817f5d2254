//! The database of Cuponera on a private Postgres: its URL and its creation.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, query, query_scalar};
use tokio::time::sleep;
use tracing::info;

use crate::address::{AddressError, connect_options};
use crate::error::{Error, Result};

/// The name of the database that is created on a private Postgres.
pub const PRIVATE_DATABASE: &str = "cuponera";
/// SQLSTATE `cannot_connect_now`: the server starts, recovers or stops.
const CANNOT_CONNECT_NOW: &str = "57P03";
const RECOVERY_POLL: Duration = Duration::from_millis(50);

/// The URL of [`PRIVATE_DATABASE`] on the server with this URL.
pub fn private_database_url(server: &str) -> Result<String, AddressError> {
    Ok(connect_options(server)?.database(PRIVATE_DATABASE).to_url_lossy().to_string())
}

/// Creates [`PRIVATE_DATABASE`] on the server with this URL, if it does not exist.
pub async fn create_private_database(server: &str) -> Result<()> {
    let options = connect_options(server).map_err(Error::internal)?;
    let mut connection = connect_when_recovered(&options).await?;
    let exists: bool = query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(PRIVATE_DATABASE)
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        query(AssertSqlSafe(format!("create database {PRIVATE_DATABASE}"))).execute(&mut connection).await?;
    }
    Ok(())
}

/// Connects, and waits while the server recovers. An adopted server reports ready even while it recovers from the crash
/// of one of its processes, and refuses connections until then. Recovery has no time limit.
async fn connect_when_recovered(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let mut is_announced = false;
    loop {
        match options.connect().await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CANNOT_CONNECT_NOW) => {
                if !is_announced {
                    info!(error = %error, "waiting for Postgres to recover");
                    is_announced = true;
                }
                sleep(RECOVERY_POLL).await;
            }
            connected => return connected,
        }
    }
}
