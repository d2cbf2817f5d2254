//! Logins: a row each, and under it refresh tokens that are each good once. A login goes on until its row has ended.
//!
//! **Invariant.** A login is given only in a statement that holds the account and the membership, which disabling and a new password
//! change; it goes on only in a statement that holds its row, which they end. Rows are locked in one order: account, membership,
//! login, token.

use std::net::IpAddr;
use std::time::Duration;

use sqlx::{PgTransaction, query, query_file, query_scalar};
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
    /// Unknown, run out, of a login that has ended, or deleted since it was used.
    Unknown,
}

/// The caller that a login stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginHolder {
    /// The account in the login's business, with the role it has there now.
    pub principal: Principal,
    /// Whether the business is the one of the account's first membership.
    pub is_first: bool,
}

impl Store {
    /// Starts a login to a business, if the account is an enabled member of it and its password is still the one that was verified:
    /// hashing takes long enough for either to change.
    pub async fn start_login_if_verified(
        &self,
        account: AccountId,
        business: BusinessId,
        verified_hash: &str,
        grant: &RefreshGrant,
        address: Option<IpAddr>,
    ) -> Result<Option<(LoginId, Account)>> {
        let login = LoginId::new();
        let started = query_file!(
            "src/store/sql/start_login.sql",
            account.0,
            business.0,
            verified_hash,
            login.0,
            address.map(|address| address.to_string()),
            Uuid::now_v7(),
            grant.secret_hash,
            grant.ttl.as_secs_f64()
        )
        .fetch_optional(&self.pool)
        .await?;
        started.map(|row| Ok((login, account!(row)))).transpose()
    }

    /// Ends a login and starts another one of its account, to another business; none if the login has ended or the account is no
    /// enabled member of that business.
    pub async fn switch_login(
        &self,
        from: LoginId,
        business: BusinessId,
        grant: &RefreshGrant,
        address: Option<IpAddr>,
    ) -> Result<Option<(LoginId, Account)>> {
        let mut transaction = self.pool.begin().await?;
        let row = query!(
            "select a.id, m.business_id, a.email, m.role, m.user_id, m.created_at, m.disabled_at
             from user_account a join membership m on m.account_id = a.id
             where a.id = (select account_id from login where id = $1) and m.business_id = $2 and m.disabled_at is null
             for share",
            from.0,
            business.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let account = account!(row);
        if end_logins(&mut transaction, &[from.0]).await?.is_empty() {
            return Ok(None);
        }
        let login = LoginId::new();
        query!(
            "insert into login (id, account_id, business_id, address) values ($1, $2, $3, $4::text::inet)",
            login.0,
            account.id.0,
            business.0,
            address.map(|address| address.to_string())
        )
        .execute(&mut *transaction)
        .await?;
        query!(
            "insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
             values ($1, $2, $3, $4, now() + make_interval(secs => $5))",
            Uuid::now_v7(),
            login.0,
            account.id.0,
            grant.secret_hash,
            grant.ttl.as_secs_f64()
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some((login, account)))
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
                let login = LoginId(row.login_id);
                Ok(Rotated::Fresh(account!(row), login))
            }
            None => {
                Ok(self.end_login_if_reused(secret_hash).await?.map_or(Rotated::Unknown, Rotated::Reused))
            }
        }
    }

    /// Ends the login of a token that was used before, unless it has ended; returns which.
    async fn end_login_if_reused(&self, secret_hash: &[u8]) -> Result<Option<LoginId>> {
        let ended = query_scalar!(
            r#"select end_logins(array(
                 select family_id from refresh_token where secret_hash = $1 and used_at is not null)) as "id!""#,
            secret_hash
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(ended.map(LoginId))
    }

    /// Ends a login of the account.
    pub async fn end_login(&self, account: AccountId, login: LoginId) -> Result<()> {
        query!(
            "select end_logins(array(select id from login where id = $2 and account_id = $1))",
            account.0,
            login.0
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends the login of the account that a refresh token belongs to; returns it if it had not ended.
    pub async fn end_login_of(&self, account: AccountId, secret_hash: &[u8]) -> Result<Option<LoginId>> {
        let ended = query_scalar!(
            r#"select end_logins(array(
                 select family_id from refresh_token where secret_hash = $2 and account_id = $1)) as "id!""#,
            account.0,
            secret_hash
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(ended.map(LoginId))
    }

    /// Ends all logins of an account, to whatever business; returns those that had not ended.
    pub async fn end_all_logins(&self, account: AccountId) -> Result<Vec<LoginId>> {
        let ended = query_scalar!(
            r#"select end_logins(array(select id from login where account_id = $1 and ended_at is null)) as "id!""#,
            account.0
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ended.into_iter().map(LoginId).collect())
    }

    /// The caller that a login stands for, unless the login has ended or the membership is disabled or gone.
    pub async fn find_login_holder(&self, login: LoginId) -> Result<Option<LoginHolder>> {
        let row = query!(
            r#"select l.account_id, l.business_id, m.role, m.user_id, a.business_id = l.business_id as "is_first!"
               from login l
               join membership m on m.account_id = l.account_id and m.business_id = l.business_id
               join user_account a on a.id = l.account_id
               where l.id = $1 and l.ended_at is null and m.disabled_at is null"#,
            login.0
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let role = match RoleName::parse(&row.role) {
                Some(RoleName::Admin) => Role::Admin,
                Some(RoleName::User) => Role::User { user_id: row.user_id },
                Some(RoleName::Service) | None => {
                    return Err(Error::internal("an unknown role of an account"));
                }
            };
            let principal = Principal { business: BusinessId(row.business_id), id: row.account_id, role };
            Ok(LoginHolder { principal, is_first: row.is_first })
        })
        .transpose()
    }
}

async fn end_logins(transaction: &mut PgTransaction<'static>, logins: &[Uuid]) -> Result<Vec<Uuid>> {
    let ended = query_scalar!(r#"select end_logins($1) as "id!""#, logins);
    Ok(ended.fetch_all(&mut **transaction).await?)
}
