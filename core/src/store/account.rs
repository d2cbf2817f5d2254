//! Businesses, the accounts of people, and their refresh tokens.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{query, query_scalar};
use uuid::Uuid;

use crate::error::{Error, Refusal, Result, breaches};
use crate::id::{AccountId, BusinessId};
use crate::page::Page;
use crate::principal::{Principal, Role, RoleName};

use super::Store;
use super::batch::{Answer, RequestKey};
use super::request_key::Attempt;

/// A person who can log in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The tenant.
    pub business: BusinessId,
    /// In lower case; unique in the whole installation.
    pub email: String,
    /// `ADMIN` or `USER`.
    pub role: RoleName,
    /// The holder id in coupons.
    pub user_id: String,
    /// Whether it may log in.
    pub is_disabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Account {
    /// The caller that this account is once it has shown its credentials.
    pub fn principal(&self) -> Result<Principal> {
        let role = match self.role {
            RoleName::Admin => Role::Admin,
            RoleName::User => Role::User { user_id: self.user_id.clone() },
            RoleName::Service => return Err(Error::internal("an account cannot be a SERVICE")),
        };
        Ok(Principal { business: self.business, id: self.id.0, role })
    }
}

/// An account and the hash its password is checked against.
#[derive(Debug, Clone)]
pub struct AccountCredential {
    /// The account.
    pub account: Account,
    /// argon2id, in PHC form.
    pub password_hash: String,
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The tenant.
    pub business: BusinessId,
    /// In any case.
    pub email: String,
    /// argon2id, in PHC form.
    pub password_hash: String,
    /// `ADMIN` or `USER`.
    pub role: RoleName,
    /// The holder id in coupons; the account's own id if absent.
    pub user_id: Option<String>,
}

/// A refresh token to be written: only its hash is.
#[derive(Debug, Clone)]
pub struct RefreshGrant {
    /// The login it goes back to.
    pub family: Uuid,
    /// Whose.
    pub account: AccountId,
    /// SHA-256 of the token.
    pub secret_hash: Vec<u8>,
    /// How long it may be used.
    pub ttl: Duration,
}

/// What a refresh token was good for.
#[derive(Debug, Clone, PartialEq)]
pub enum Rotated {
    /// It is used up now; here is whose it is, and its family.
    Fresh(Account, Uuid),
    /// It had been used before: somebody has a copy, so its whole family has ended.
    Reused,
    /// Unknown, run out or revoked.
    Unknown,
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
        let business = BusinessId::new();
        query!("insert into business (id, name) values ($1, $2)", business.0, name)
            .execute(&mut *transaction)
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
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
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

    /// Makes an account.
    pub async fn create_account(&self, key: Option<RequestKey>, new: &NewAccount) -> Result<Answer<Account>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let id = AccountId::new();
            let user_id = new.user_id.clone().unwrap_or_else(|| id.to_string());
            let row = query!(
                "insert into user_account (id, business_id, email, password_hash, role, user_id)
                 values ($1, $2, lower($3), $4, $5, $6)
                 returning id, business_id, email, role, user_id, created_at, disabled_at",
                id.0,
                new.business.0,
                new.email,
                new.password_hash,
                new.role.as_str(),
                user_id
            )
            .fetch_one(&mut *open.transaction)
            .await
            .map_err(taken)?;
            Ok(account!(row))
        }
        .await;
        open.settle(outcome).await
    }

    /// A business's accounts, newest first.
    pub async fn list_accounts(
        &self,
        business: BusinessId,
        after: Option<AccountId>,
        limit: u32,
    ) -> Result<Page<Account>> {
        let rows = query!(
            "select id, business_id, email, role, user_id, created_at, disabled_at from user_account
             where business_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3",
            business.0,
            after.map(|id| id.0),
            i64::from(limit) + 1
        )
        .fetch_all(&self.pool)
        .await?;
        let accounts = rows.into_iter().map(|row| Ok(account!(row))).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(accounts, limit, |account| account.id.to_string()))
    }

    /// Changes what is given; a new password or disabling ends all logins of the account.
    pub async fn update_account(
        &self,
        business: BusinessId,
        id: AccountId,
        password_hash: Option<&str>,
        disabled: Option<bool>,
    ) -> Result<Account> {
        let mut transaction = self.pool.begin().await?;
        let row = query!(
            "update user_account
             set password_hash = coalesce($3, password_hash),
                 disabled_at = case when $4::bool is null then disabled_at when $4 then coalesce(disabled_at, now()) end,
                 updated_at = now()
             where id = $1 and business_id = $2
             returning id, business_id, email, role, user_id, created_at, disabled_at",
            id.0,
            business.0,
            password_hash,
            disabled
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| Refusal::not_found("user"))?;
        let account = account!(row);
        if password_hash.is_some() || disabled == Some(true) {
            query!(
                "update refresh_token set revoked_at = now() where account_id = $1 and revoked_at is null",
                id.0
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(account)
    }

    /// The account of an email, with what its password is checked against.
    pub async fn find_credential(&self, email: &str) -> Result<Option<AccountCredential>> {
        let row = query!(
            "select id, business_id, email, role, user_id, created_at, disabled_at, password_hash from user_account
             where email = lower($1)",
            email
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let password_hash = row.password_hash.clone();
        Ok(Some(AccountCredential { account: account!(row), password_hash }))
    }

    /// The account, if it is the business's.
    pub async fn get_account(&self, business: BusinessId, id: AccountId) -> Result<Account> {
        let row = query!(
            "select id, business_id, email, role, user_id, created_at, disabled_at from user_account
             where id = $1 and business_id = $2",
            id.0,
            business.0
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Refusal::not_found("user"))?;
        Ok(account!(row))
    }

    /// Keeps a refresh token.
    pub async fn grant_refresh(&self, grant: &RefreshGrant) -> Result<()> {
        query!(
            "insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
             values ($1, $2, $3, $4, now() + make_interval(secs => $5))",
            Uuid::now_v7(),
            grant.family,
            grant.account.0,
            grant.secret_hash,
            grant.ttl.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Uses a refresh token up. The statement lets one caller win; any other has a copy, and the family ends. One revoked
    /// token ends its family for good: a successor may be written after the others were revoked, and is worth nothing.
    pub async fn use_refresh_if_fresh(&self, secret_hash: &[u8]) -> Result<Rotated> {
        let used = query!(
            "update refresh_token t set used_at = now()
             from user_account a
             where t.secret_hash = $1 and t.used_at is null and t.expires_at > now()
               and not exists (select from refresh_token f where f.family_id = t.family_id and f.revoked_at is not null)
               and a.id = t.account_id and a.disabled_at is null
             returning t.family_id, a.id, a.business_id, a.email, a.role, a.user_id, a.created_at, a.disabled_at",
            secret_hash
        )
        .fetch_optional(&self.pool)
        .await?;
        if let Some(row) = used {
            let family = row.family_id;
            return Ok(Rotated::Fresh(account!(row), family));
        }
        let ended = query!(
            "update refresh_token set revoked_at = now()
             where revoked_at is null
               and family_id = (select family_id from refresh_token where secret_hash = $1 and used_at is not null)",
            secret_hash
        )
        .execute(&self.pool)
        .await?;
        Ok(if ended.rows_affected() > 0 { Rotated::Reused } else { Rotated::Unknown })
    }

    /// Ends the login that a refresh token belongs to.
    pub async fn revoke_family(&self, account: AccountId, secret_hash: &[u8]) -> Result<()> {
        query!(
            "update refresh_token set revoked_at = now()
             where revoked_at is null and account_id = $1
               and family_id = (select family_id from refresh_token where secret_hash = $2)",
            account.0,
            secret_hash
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends all logins of an account.
    pub async fn revoke_all_refreshes(&self, account: AccountId) -> Result<()> {
        query!(
            "update refresh_token set revoked_at = now() where revoked_at is null and account_id = $1",
            account.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn taken(error: sqlx::Error) -> Error {
    if breaches(&error, "user_account_email") {
        Refusal::EmailTaken.into()
    } else if breaches(&error, "user_account_user_id") {
        Refusal::UserIdTaken.into()
    } else {
        error.into()
    }
}
