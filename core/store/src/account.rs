//! User accounts: their credentials, and reading them. A change of a password or of the right to log in ends logins in the same
//! commit.
//!
//! The columns of `user_account` are the first membership of the account and are written there. The table `membership` has all
//! memberships. Rows are locked in one order: accounts by id, then memberships, then logins.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgExecutor, PgTransaction, query, query_scalar};

use crate::error::{Error, Result};
use cuponera_domain::id::{AccountId, BusinessId, LoginId};
use cuponera_domain::page::Page;
use cuponera_domain::principal::{Principal, Role, RoleName};
use cuponera_domain::rejection::Rejection;

use super::Store;

/// A user account as a member of one business.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its id, the same in all businesses.
    pub id: AccountId,
    /// The tenant.
    pub business: BusinessId,
    /// In lower case; unique in the installation.
    pub email: String,
    /// `ADMIN` or `USER` in this business.
    pub role: RoleName,
    /// The holder id in coupons of this business.
    pub user_id: String,
    /// Whether it is excluded from logins to this business.
    pub is_disabled: bool,
    /// When it became a member.
    pub created_at: DateTime<Utc>,
}

impl Account {
    /// The caller with the credentials of this account.
    pub fn principal(&self) -> Result<Principal> {
        let role = match self.role {
            RoleName::Admin => Role::Admin,
            RoleName::User => Role::User { user_id: self.user_id.clone() },
            RoleName::Service => return Err(Error::internal("an account cannot be a SERVICE")),
        };
        Ok(Principal { business: self.business, id: self.id.0, role })
    }
}

/// The password hash of an account.
#[derive(Debug, Clone)]
pub struct AccountCredential {
    /// The account.
    pub account: AccountId,
    /// Its email.
    pub email: String,
    /// argon2id, in PHC form.
    pub password_hash: String,
}

/// A business that an account may log in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The business.
    pub business: BusinessId,
    /// Its name.
    pub name: String,
    /// `ADMIN` or `USER` there.
    pub role: RoleName,
}

/// Changes of an account by an admin of its business. Absent fields stay as they are.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    /// argon2id, in PHC form.
    pub password_hash: Option<String>,
    /// Whether the account is excluded from logins to the business.
    pub disabled: Option<bool>,
    /// `ADMIN` or `USER`.
    pub role: Option<RoleName>,
}

impl AccountChange {
    /// Whether the change ends the rights of an admin.
    pub(super) fn removes_admin(&self) -> bool {
        self.disabled == Some(true) || self.role.is_some_and(|role| role != RoleName::Admin)
    }
}

/// An account to create.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The tenant.
    pub business: BusinessId,
    /// In upper or lower case.
    pub email: String,
    /// argon2id, in PHC form.
    pub password_hash: String,
    /// `ADMIN` or `USER`.
    pub role: RoleName,
    /// The holder id in coupons; the account's own id if absent.
    pub user_id: Option<String>,
}

macro_rules! account {
    ($row:expr) => {{
        let row = $row;
        Account {
            id: AccountId(row.id),
            business: BusinessId(row.business_id),
            email: row.email,
            role: RoleName::parse(&row.role).ok_or_else(|| Error::internal("an unknown role"))?,
            user_id: row.user_id,
            is_disabled: row.disabled_at.is_some(),
            created_at: row.created_at,
        }
    }};
}
pub(super) use account;

macro_rules! credential {
    ($row:expr) => {{
        let row = $row;
        AccountCredential { account: AccountId(row.id), email: row.email, password_hash: row.password_hash }
    }};
}

impl Store {
    /// A business's accounts, newest first.
    pub async fn list_accounts(
        &self,
        business: BusinessId,
        after: Option<AccountId>,
        limit: u32,
    ) -> Result<Page<Account>> {
        let rows = query!(
            "select a.id, m.business_id, a.email, m.role, m.user_id, m.created_at, m.disabled_at
             from (select * from membership where business_id = $1 and ($2::uuid is null or account_id < $2)
                   order by account_id desc limit $3) m
             join user_account a on a.id = m.account_id order by m.account_id desc",
            business.0,
            after.map(|id| id.0),
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let accounts = rows.into_iter().map(|row| Ok(account!(row))).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(accounts, limit, |account| account.id.to_string()))
    }

    /// Sets a new password and ends the other logins of the account, if it still has the verified password and the login has
    /// not ended. Returns whether it did.
    pub async fn change_password_if_unchanged(
        &self,
        id: AccountId,
        verified_hash: &str,
        new_hash: &str,
        kept: LoginId,
    ) -> Result<bool> {
        let mut transaction = self.begin().await?;
        let changed = query!(
            "update user_account set password_hash = $3, updated_at = now()
             where id = $1 and password_hash = $2
               and exists (select from login where id = $4 and account_id = $1 and ended_at is null)",
            id.0,
            verified_hash,
            new_hash,
            kept.0
        )
        .execute(&mut *transaction)
        .await?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        end_logins(&mut transaction, id, Some(kept)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Sets a new password for the account of an email, in all its businesses, and ends all its logins. Returns the account in
    /// its first business, as disabled if it is disabled in all businesses.
    pub async fn reset_password(&self, email: &str, password_hash: &str) -> Result<Account> {
        let mut transaction = self.begin().await?;
        let id = find_id(&mut transaction, email).await?.ok_or_else(|| Rejection::not_found("account"))?;
        let row = query!(
            r#"update user_account a set password_hash = $2, updated_at = now() where id = $1
               returning id, business_id, email, role, user_id, created_at,
                 case when not exists (select from membership m where m.account_id = a.id and m.disabled_at is null)
                      then now() end as disabled_at"#,
            id.0,
            password_hash
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| Rejection::not_found("account"))?;
        let account = account!(row);
        end_logins(&mut transaction, account.id, None).await?;
        transaction.commit().await?;
        Ok(account)
    }

    /// The password hash of the account of an email. Emails are compared in lower case. If no account matches, the email also
    /// matches an account that was stored with format characters at its ends.
    pub async fn find_credential(&self, email: &str) -> Result<Option<AccountCredential>> {
        let row = query!(
            "select id, email, password_hash from user_account where id = account_of_email($1)",
            email
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| credential!(row)))
    }

    /// The password hash of an account.
    pub async fn find_credential_of(&self, id: AccountId) -> Result<Option<AccountCredential>> {
        let row = query!("select id, email, password_hash from user_account where id = $1", id.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| credential!(row)))
    }

    /// The businesses that an account may log in to, in the order of its memberships.
    pub async fn list_memberships(&self, id: AccountId) -> Result<Vec<Membership>> {
        let rows = query!(
            "select b.id, b.name, m.role from membership m join business b on b.id = m.business_id
             where m.account_id = $1 and m.disabled_at is null order by m.created_at, b.id",
            id.0
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let role = RoleName::parse(&row.role).ok_or_else(|| Error::internal("an unknown role"))?;
                Ok(Membership { business: BusinessId(row.id), name: row.name, role })
            })
            .collect()
    }

    /// The account, if it is a member of the business.
    pub async fn get_account(&self, business: BusinessId, id: AccountId) -> Result<Account> {
        get_member(&self.reads, business, id).await
    }
}

/// The account, if it is a member of the business, read with the given connection or transaction.
pub(super) async fn get_member(
    executor: impl PgExecutor<'_>,
    business: BusinessId,
    id: AccountId,
) -> Result<Account> {
    let row = query!(
        "select a.id, m.business_id, a.email, m.role, m.user_id, m.created_at, m.disabled_at
         from membership m join user_account a on a.id = m.account_id
         where m.account_id = $1 and m.business_id = $2",
        id.0,
        business.0
    )
    .fetch_optional(executor)
    .await?
    .ok_or_else(|| Rejection::not_found("user"))?;
    Ok(account!(row))
}

/// The account of an email; see [`Store::find_credential`].
pub(super) async fn find_id(
    transaction: &mut PgTransaction<'static>,
    email: &str,
) -> Result<Option<AccountId>> {
    let id = query_scalar!("select account_of_email($1)", email).fetch_one(&mut **transaction).await?;
    Ok(id.map(AccountId))
}

/// Ends the logins of an account, except one. The caller has locked its row, so no login starts at the same time.
pub(super) async fn end_logins(
    transaction: &mut PgTransaction<'static>,
    account: AccountId,
    but: Option<LoginId>,
) -> Result<()> {
    query!(
        "select end_logins(array(select id from login where account_id = $1 and ended_at is null and id is distinct from $2))",
        account.0,
        but.map(|login| login.0)
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(())
}
