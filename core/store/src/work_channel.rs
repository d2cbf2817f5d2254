//! Wakes sleeping workers of one machine with `NOTIFY`, and hears it with `LISTEN`.

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{PgPool, PgTransaction, query};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::address::connect_options;
use crate::error::{Error, Result};

/// The channel of the notifications.
const WORK_CHANNEL: &str = "cuponera_work";

/// Wakes the workers when the transaction commits.
pub(crate) async fn notify_workers(transaction: &mut PgTransaction<'_>) -> Result<()> {
    query!("select pg_notify($1, '') as _notified", WORK_CHANNEL).fetch_one(&mut **transaction).await?;
    Ok(())
}

/// Calls `heard` for each notification, and once after connecting, because earlier notifications are lost. Returns when
/// `stop` is cancelled or the connection is lost.
pub async fn listen_for_work(database_url: &str, stop: &CancellationToken, heard: impl Fn()) -> Result<()> {
    let options = connect_options(database_url).map_err(Error::internal)?.application_name("cuponera");
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let done = listen_on(&pool, stop, heard).await;
    // Otherwise the connection is returned in the background, to a server that may be shutting down.
    pool.close().await;
    Ok(done?)
}

async fn listen_on(pool: &PgPool, stop: &CancellationToken, heard: impl Fn()) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(WORK_CHANNEL).await?;
    debug!("listening for work");
    heard();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            notification = listener.try_recv() => match notification? {
                Some(_) => heard(),
                None => return Ok(()),
            }
        }
    }
}
