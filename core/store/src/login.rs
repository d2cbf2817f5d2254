//! Logins. A login is a row with refresh tokens, each of which is valid once. It lasts until its row is marked as ended.
//!
//! **Invariant.** The statement that starts a login locks the account and the membership; disabling and a new password change
//! these rows. The statement that continues a login locks its row, which disabling and a new password mark as ended. Rows are
//! locked in one order: account, membership, login, token.

use std::net::IpAddr;
use std::time::Duration;

use sqlx::{PgTransaction, query, query_file, query_scalar};
use uuid::Uuid;

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::id::{AccountId, BusinessId, LoginId};
use cuponera_domain::principal::{Principal, Role, RoleName};

use super::Store;
use super::account::{Account, account};

/// A refresh token to store. Only its hash is stored.
#[derive(Debug, Clone)]
pub struct RefreshGrant {
    /// SHA-256 of the token.
    pub secret_hash: Vec<u8>,
    /// Its lifetime.
    pub ttl: Duration,
}

/// The result of using a refresh token.
#[derive(Debug, Clone, PartialEq)]
pub enum Rotated {
    /// The token is now used and its successor is stored. With the account and the login.
    Fresh(Account, LoginId),
    /// The token was used before, so it was copied. Its login is ended.
    Reused(LoginId),
    /// The token is unknown, expired, of an ended login, or deleted after its use.
    Unknown,
}

/// The caller of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginHolder {
    /// The account in the business of the login, with its current role there.
    pub principal: Principal,
    /// Whether the business is that of the account's first membership.
    pub is_first: bool,
}

impl Store {
    /// Starts a login to a business if the account is an enabled member of it and still has the verified password. Both may
    /// change while the password is hashed.
    pub async fn start_login_if_verified(
        &self,
        account: AccountId,
        business: BusinessId,
        verified_hash: &str,
        grant: &RefreshGrant,
        address: Option<IpAddr>,
    ) -> Result<Option<(LoginId, Account)>> {
        let login = LoginId::generate();
        let mut transaction = self.begin().await?;
        let started = query_file!(
            "src/sql/start_login.sql",
            account.0,
            business.0,
            verified_hash,
            login.0,
            address.map(|address| address.to_string()),
            Uuid::now_v7(),
            grant.secret_hash,
            grant.ttl.as_secs_f64()
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        started.map(|row| Ok((login, account!(row)))).transpose()
    }

    /// Ends a login and starts another login of its account, to another business. `None` if the login has ended or the account
    /// is not an enabled member of that business.
    pub async fn switch_login(
        &self,
        from: LoginId,
        business: BusinessId,
        grant: &RefreshGrant,
        address: Option<IpAddr>,
    ) -> Result<Option<(LoginId, Account)>> {
        let mut transaction = self.begin().await?;
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
        let login = LoginId::generate();
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

    /// Replaces a refresh token by its successor. Only one caller succeeds; a second use means a copied token and ends the
    /// login.
    pub async fn rotate_refresh_if_fresh(
        &self,
        secret_hash: &[u8],
        successor: &RefreshGrant,
    ) -> Result<Rotated> {
        let used = query_file!(
            "src/sql/rotate_refresh.sql",
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

    /// Ends the login of a token that was used before; returns it if it had not ended.
    async fn end_login_if_reused(&self, secret_hash: &[u8]) -> Result<Option<LoginId>> {
        let mut transaction = self.begin().await?;
        let ended = query_scalar!(
            r#"select end_logins(array(
                 select family_id from refresh_token where secret_hash = $1 and used_at is not null)) as "id!""#,
            secret_hash
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ended.map(LoginId))
    }

    /// Ends a login of the account.
    pub async fn end_login(&self, account: AccountId, login: LoginId) -> Result<()> {
        let mut transaction = self.begin().await?;
        query!(
            "select end_logins(array(select id from login where id = $2 and account_id = $1))",
            account.0,
            login.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends the login of the account that a refresh token belongs to; returns it if it had not ended.
    pub async fn end_login_of(&self, account: AccountId, secret_hash: &[u8]) -> Result<Option<LoginId>> {
        let mut transaction = self.begin().await?;
        let ended = query_scalar!(
            r#"select end_logins(array(
                 select family_id from refresh_token where secret_hash = $2 and account_id = $1)) as "id!""#,
            account.0,
            secret_hash
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ended.map(LoginId))
    }

    /// Ends all logins of an account, to all businesses; returns those that had not ended.
    pub async fn end_all_logins(&self, account: AccountId) -> Result<Vec<LoginId>> {
        let mut transaction = self.begin().await?;
        let ended = query_scalar!(
            r#"select end_logins(array(select id from login where account_id = $1 and ended_at is null)) as "id!""#,
            account.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ended.into_iter().map(LoginId).collect())
    }

    /// The caller of a login. `None` if the login has ended or the membership is disabled or deleted. It does not wait for the
    /// connections that a flood of wrong passwords uses.
    pub async fn find_login_holder(&self, login: LoginId) -> Result<Option<LoginHolder>> {
        let row = query!(
            r#"select l.account_id, l.business_id, m.role, m.user_id, a.business_id = l.business_id as "is_first!"
               from login l
               join membership m on m.account_id = l.account_id and m.business_id = l.business_id
               join user_account a on a.id = l.account_id
               where l.id = $1 and l.ended_at is null and m.disabled_at is null"#,
            login.0
        )
        .fetch_optional(&self.reads)
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
