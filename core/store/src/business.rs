//! Businesses, and their first admins.

use chrono::{DateTime, Utc};
use sqlx::{PgTransaction, query, query_as, query_scalar};
use uuid::Uuid;

use crate::GenerateId;
use crate::error::Result;
use cuponera_domain::id::BusinessId;
use cuponera_domain::principal::RoleName;

use super::Store;
use super::account::NewAccount;
use super::membership::add_member;

/// A business and its admins.
#[derive(Debug, Clone, PartialEq)]
pub struct Business {
    /// Its id.
    pub id: Uuid,
    /// A display name; not unique.
    pub name: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// The emails of its enabled admins.
    pub admins: Vec<String>,
}

impl Store {
    /// Creates a business with its first admin if the installation has no business yet. Several processes may call it at once.
    pub async fn create_first_business_if_none(
        &self,
        name: &str,
        admin: &str,
        password_hash: &str,
    ) -> Result<bool> {
        let mut transaction = self.begin().await?;
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

    /// Creates a business with its first admin. An existing account of the email becomes a member and keeps its password.
    pub async fn create_business_with_admin(
        &self,
        name: &str,
        admin: &str,
        password_hash: &str,
    ) -> Result<BusinessId> {
        let mut transaction = self.begin().await?;
        let id = insert_with_admin(&mut transaction, name, admin, password_hash).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Whether a business exists.
    pub async fn has_business(&self) -> Result<bool> {
        Ok(query_scalar!(r#"select exists (select from business) as "any!""#).fetch_one(&self.pool).await?)
    }

    /// Creates a business.
    pub async fn create_business(&self, name: &str) -> Result<BusinessId> {
        let id = BusinessId::generate();
        query!("insert into business (id, name) values ($1, $2)", id.0, name).execute(&self.pool).await?;
        Ok(id)
    }

    /// All businesses, or those with this id or name (in upper or lower case), oldest first.
    pub async fn list_businesses(&self, id_or_name: Option<&str>) -> Result<Vec<Business>> {
        let businesses = query_as!(
            Business,
            r#"select b.id, b.name, b.created_at, array(
                 select a.email from membership m join user_account a on a.id = m.account_id
                 where m.business_id = b.id and m.role = 'ADMIN' and m.disabled_at is null order by a.id
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
    let business = BusinessId::generate();
    query!("insert into business (id, name) values ($1, $2)", business.0, name)
        .execute(&mut **transaction)
        .await?;
    let admin = NewAccount {
        business,
        email: admin.to_owned(),
        password_hash: password_hash.to_owned(),
        role: RoleName::Admin,
        user_id: None,
    };
    add_member(transaction, &admin).await?;
    Ok(business)
}
