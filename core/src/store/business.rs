//! Businesses, and the admin that each begins with.

use chrono::{DateTime, Utc};
use sqlx::{PgTransaction, query, query_as, query_scalar};
use uuid::Uuid;

use crate::error::{Refusal, Result};
use crate::id::{AccountId, BusinessId};

use super::Store;
use super::account::{find_id, taken};

/// A business, and who may run it.
#[derive(Debug, Clone, PartialEq)]
pub struct Business {
    /// Its id.
    pub id: Uuid,
    /// For people; not unique.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The emails of its admins that are enabled.
    pub admins: Vec<String>,
}

impl Store {
    /// Makes a business with its first admin, if the installation has no business yet. Safe from several processes.
    pub async fn create_first_business_if_none(
        &self,
        name: &str,
        admin: &str,
        password_hash: &str,
    ) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        query!("select pg_advisory_xact_lock(hashtext('cuponera_first_business')) as _held")
            .fetch_one(&mut *transaction)
            .await?;
        if query_scalar!(r#"select exists (select from business) as "any!""#)
            .fetch_one(&mut *transaction)
            .await?
        {
            return Ok(false);
        }
        insert_with_admin(&mut transaction, name, admin, password_hash).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Makes a business with its first admin.
    pub async fn create_business_with_admin(
        &self,
        name: &str,
        admin: &str,
        password_hash: &str,
    ) -> Result<BusinessId> {
        let mut transaction = self.pool.begin().await?;
        let id = insert_with_admin(&mut transaction, name, admin, password_hash).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Whether anybody has been set up yet.
    pub async fn has_business(&self) -> Result<bool> {
        Ok(query_scalar!(r#"select exists (select from business) as "any!""#).fetch_one(&self.pool).await?)
    }

    /// Makes a business.
    pub async fn create_business(&self, name: &str) -> Result<BusinessId> {
        let id = BusinessId::new();
        query!("insert into business (id, name) values ($1, $2)", id.0, name).execute(&self.pool).await?;
        Ok(id)
    }

    /// All businesses, oldest first; only those of an id or a name, in any case, if one is given.
    pub async fn list_businesses(&self, id_or_name: Option<&str>) -> Result<Vec<Business>> {
        let businesses = query_as!(
            Business,
            r#"select b.id, b.name, b.created_at, array(
                 select a.email from user_account a
                 where a.business_id = b.id and a.role = 'ADMIN' and a.disabled_at is null order by a.id
               ) as "admins!"
               from business b
               where $1::text is null or b.id::text = lower($1) or lower(b.name) = lower($1)
               order by b.id"#,
            id_or_name
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(businesses)
    }
}

async fn insert_with_admin(
    transaction: &mut PgTransaction<'static>,
    name: &str,
    admin: &str,
    password_hash: &str,
) -> Result<BusinessId> {
    if find_id(transaction, admin).await?.is_some() {
        return Err(Refusal::EmailTaken.into());
    }
    let business = BusinessId::new();
    query!("insert into business (id, name) values ($1, $2)", business.0, name)
        .execute(&mut **transaction)
        .await?;
    let id = AccountId::new();
    query!(
        "insert into user_account (id, business_id, email, password_hash, role, user_id)
         values ($1, $2, lower($3), $4, 'ADMIN', $5)",
        id.0,
        business.0,
        admin,
        password_hash,
        id.to_string()
    )
    .execute(&mut **transaction)
    .await
    .map_err(taken)?;
    Ok(business)
}
