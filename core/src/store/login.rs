//! Logins: families of refresh tokens, each good once, that live until one of them is revoked.
//!
//! **Invariant.** A login is given, and goes on, only in a statement that has looked at the account: it holds the account's
//! row, or the token's, which disabling and a new password change too.

use std::time::Duration;

use sqlx::{query, query_file};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::{AccountId, BusinessId, LoginId};
use crate::principal::{Principal, Role, RoleName};

use super::Store;
use super::account::{Account, account};

/// A refresh token to be written: only its hash is.
#[derive(Debug, Clone)]
pub struct RefreshGrant {
    /// SHA-256 of the token.
    pub secret_hash: Vec<u8>,
    /// How long it may be used.
    pub ttl: Duration,
}

/// What a refresh token was good for.
#[derive(Debug, Clone, PartialEq)]
pub enum Rotated {
    /// It is used up now and its successor written; here is whose it is, and its login.
    Fresh(Account, LoginId),
    /// It had been used before: somebody has a copy, so its login has ended.
    Reused(LoginId),
    /// Unknown, run out or revoked.
    Unknown,
}

impl Store {
    /// Starts a login, if the account is enabled and its password is still the one that was verified: hashing takes long
    /// enough for either to change.
    pub async fn start_login_if_verified(
        &self,
        account: AccountId,
        verified_hash: &str,
        grant: &RefreshGrant,
    ) -> Result<Option<LoginId>> {
        let login = LoginId::new();
        // The share of the account's row waits for a change of it, and makes a later one wait: it will find this token.
        let written = query!(
            "insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
             select $1, $2, a.id, $4, now() + make_interval(secs => $5) from user_account a
             where a.id = $3 and a.disabled_at is null and a.password_hash = $6
             for share",
            Uuid::now_v7(),
            login.0,
            account.0,
            grant.secret_hash,
            grant.ttl.as_secs_f64(),
            verified_hash
        )
        .execute(&self.pool)
        .await?;
        Ok((written.rows_affected() == 1).then_some(login))
    }

    /// Trades a refresh token for its successor. One caller wins; any other has a copy, and the login ends.
    pub async fn rotate_refresh_if_fresh(
        &self,
        secret_hash: &[u8],
        successor: &RefreshGrant,
    ) -> Result<Rotated> {
        let used = query_file!(
            "src/store/sql/rotate_refresh.sql",
            secret_hash,
            Uuid::now_v7(),
            successor.secret_hash,
            successor.ttl.as_secs_f64()
        )
        .fetch_optional(&self.pool)
        .await?;
        match used {
            Some(row) => {
                let login = LoginId(row.family_id);
                Ok(Rotated::Fresh(account!(row), login))
            }
            None => {
                Ok(self.end_login_if_reused(secret_hash).await?.map_or(Rotated::Unknown, Rotated::Reused))
            }
        }
    }

    /// Ends the login of a token that was used before, unless it has ended; says which.
    async fn end_login_if_reused(&self, secret_hash: &[u8]) -> Result<Option<LoginId>> {
        let ended = query!(
            "update refresh_token set revoked_at = now()
             where revoked_at is null
               and family_id = (select family_id from refresh_token where secret_hash = $1 and used_at is not null)
             returning family_id",
            secret_hash
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ended.first().map(|row| LoginId(row.family_id)))
    }

    /// Ends a login of the account.
    pub async fn end_login(&self, account: AccountId, login: LoginId) -> Result<()> {
        query!(
            "update refresh_token set revoked_at = now()
             where revoked_at is null and account_id = $1 and family_id = $2",
            account.0,
            login.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends the login of the account that a refresh token belongs to.
    pub async fn end_login_of(&self, account: AccountId, secret_hash: &[u8]) -> Result<()> {
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
    pub async fn end_all_logins(&self, account: AccountId) -> Result<()> {
        query!(
            "update refresh_token set revoked_at = now() where revoked_at is null and account_id = $1",
            account.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The admin that a login stands for, unless the login has ended, or the account is gone, disabled or no admin.
    pub async fn find_admin_of_login(&self, login: LoginId) -> Result<Option<Principal>> {
        let row = query!(
            "select a.id, a.business_id from user_account a
             where a.id = (select t.account_id from refresh_token t where t.family_id = $1 limit 1)
               and a.role = 'ADMIN' and a.disabled_at is null
               and not exists (select from refresh_token f where f.family_id = $1 and f.revoked_at is not null)",
            login.0
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| Principal { business: BusinessId(row.business_id), id: row.id, role: Role::Admin }))
    }
}
