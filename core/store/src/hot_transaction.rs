//! Transactions on the hot pools, whose connections are not examined when they are released.

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, PgPool, Postgres};

/// A transaction of several hot statements.
///
/// **Invariant.** A connection goes back to its pool only after the server has answered `commit` or `rollback`. If the future that uses the
/// transaction is dropped, or the answer is lost, the connection is closed, which rolls back.
pub(super) struct HotTransaction {
    connection: PoolConnection<Postgres>,
    is_open: bool,
}

impl HotTransaction {
    /// Begins a transaction with this statement, which may also set parameters of the transaction.
    pub(super) async fn begin(pool: &PgPool, statement: &'static str) -> sqlx::Result<Self> {
        let mut open = Self { connection: pool.acquire().await?, is_open: true };
        open.connection.execute(statement).await?;
        Ok(open)
    }

    /// The connection, for the statements of the transaction.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Commits. After an error it is not known whether the transaction was committed.
    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        self.connection.execute("commit").await?;
        self.is_open = false;
        Ok(())
    }

    /// Rolls back, also after an error of a statement.
    pub(super) async fn roll_back(mut self) -> sqlx::Result<()> {
        self.connection.execute("rollback").await?;
        self.is_open = false;
        Ok(())
    }
}

impl Drop for HotTransaction {
    fn drop(&mut self) {
        if self.is_open {
            self.connection.close_on_drop();
        }
    }
}
