//! The audit context of a transaction: triggers of the changed tables read it from the setting `cuponera.audit` and write it to the
//! admin events of the transaction.
//!
//! **Invariant I-63.** Each change of a book, an API key, an account, a membership, a login, a pool, a job or a webhook writes an admin event in the
//! transaction of the change, with the actor, and without secrets. The tables of coupons have no such trigger.

use std::sync::Arc;

use sqlx::{Connection, PgConnection, PgTransaction, query_scalar};

use super::Store;
use crate::error::{Error, Result};
use cuponera_domain::principal::AuditContext;

impl Store {
    /// The same connections, for changes with this audit context. Without one, the actor of admin events is `system`.
    #[must_use]
    pub fn acting_as(mut self, audit: AuditContext) -> Self {
        self.audit = Some(Arc::new(audit));
        self
    }

    /// Begins the transaction of a change, with the audit context of this store.
    pub(super) async fn begin(&self) -> Result<PgTransaction<'static>> {
        let mut transaction = self.pool.begin().await?;
        self.set_context(&mut transaction).await?;
        Ok(transaction)
    }

    /// The same, on a connection of the caller's.
    pub(super) async fn begin_on<'c>(&self, connection: &'c mut PgConnection) -> Result<PgTransaction<'c>> {
        let mut transaction = connection.begin().await?;
        self.set_context(&mut transaction).await?;
        Ok(transaction)
    }

    async fn set_context(&self, transaction: &mut PgConnection) -> Result<()> {
        if let Some(audit) = &self.audit {
            query_scalar!("select set_config('cuponera.audit', $1, true)", setting(audit)?)
                .fetch_one(transaction)
                .await?;
        }
        Ok(())
    }
}

/// The value of the setting `cuponera.audit`.
pub(super) fn setting(audit: &AuditContext) -> Result<String> {
    serde_json::to_string(audit).map_err(Error::internal)
}
