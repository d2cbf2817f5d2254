//! The accounts of people. Whatever takes an account's password or its right to log in ends its logins in the same commit.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgTransaction, query, query_scalar};

use crate::error::{Error, Refusal, Result, breaches};
use crate::id::{AccountId, BusinessId, LoginId};
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

impl Store {
    /// Makes an account.
    pub async fn create_account(&self, key: Option<RequestKey>, new: &NewAccount) -> Result<Answer<Account>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let id = AccountId::new();
            let user_id = new.user_id.clone().unwrap_or_else(|| id.to_string());
            if find_id(&mut open.transaction, &new.email).await?.is_some() {
                return Err(Refusal::EmailTaken.into());
            }
            // The holder of codes who was stored under another spelling is the one that the id finds everywhere else.
            let row = query!(
                "insert into user_account (id, business_id, email, password_hash, role, user_id)
                 values ($1, $2, lower($3), $4, $5, coalesce(
                   (select stored from stored_user_id where business_id = $2 and user_id = $6), $6))
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
        .fetch_all(&self.reads)
        .await?;
        let accounts = rows.into_iter().map(|row| Ok(account!(row))).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(accounts, limit, |account| account.id.to_string()))
    }

    /// Changes what is given; a new password or disabling ends all logins of the account. The last enabled admin of a
    /// business stays enabled.
    pub async fn update_account(
        &self,
        business: BusinessId,
        id: AccountId,
        password_hash: Option<&str>,
        disabled: Option<bool>,
    ) -> Result<Account> {
        let mut transaction = self.pool.begin().await?;
        if disabled == Some(true) {
            keep_an_admin(&mut transaction, business, id).await?;
        }
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
            end_logins(&mut transaction, id, None).await?;
        }
        transaction.commit().await?;
        Ok(account)
    }

    /// Gives an enabled account a new password if it still has the one that was verified, and ends its other logins; says
    /// whether it did.
    pub async fn change_password_if_unchanged(
        &self,
        id: AccountId,
        verified_hash: &str,
        new_hash: &str,
        kept: LoginId,
    ) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let changed = query!(
            "update user_account set password_hash = $3, updated_at = now()
             where id = $1 and password_hash = $2 and disabled_at is null",
            id.0,
            verified_hash,
            new_hash
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

    /// Gives the account of an email a new password, whatever its business, and ends all its logins.
    pub async fn reset_password(&self, email: &str, password_hash: &str) -> Result<Account> {
        let mut transaction = self.pool.begin().await?;
        let id = find_id(&mut transaction, email).await?.ok_or_else(|| Refusal::not_found("account"))?;
        let row = query!(
            "update user_account set password_hash = $2, updated_at = now() where id = $1
             returning id, business_id, email, role, user_id, created_at, disabled_at",
            id.0,
            password_hash
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| Refusal::not_found("account"))?;
        let account = account!(row);
        end_logins(&mut transaction, account.id, None).await?;
        transaction.commit().await?;
        Ok(account)
    }

    /// The account of an email, with what its password is checked against. An email is compared in lower case; one that is
    /// trimmed finds an account that was stored with format characters at its ends if it finds no other.
    pub async fn find_credential(&self, email: &str) -> Result<Option<AccountCredential>> {
        let row = query!(
            "select id, business_id, email, role, user_id, created_at, disabled_at, password_hash from user_account
             where id = account_of_email($1)",
            email
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let password_hash = row.password_hash.clone();
        Ok(Some(AccountCredential { account: account!(row), password_hash }))
    }

    /// An account that may log in, with what its password is checked against.
    pub async fn find_enabled_credential(&self, id: AccountId) -> Result<Option<AccountCredential>> {
        let row = query!(
            "select id, business_id, email, role, user_id, created_at, disabled_at, password_hash from user_account
             where id = $1 and disabled_at is null",
            id.0
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
        .fetch_optional(&self.reads)
        .await?
        .ok_or_else(|| Refusal::not_found("user"))?;
        Ok(account!(row))
    }
}

/// The account of an email; see [`Store::find_credential`].
pub(super) async fn find_id(
    transaction: &mut PgTransaction<'static>,
    email: &str,
) -> Result<Option<AccountId>> {
    let id = query_scalar!("select account_of_email($1)", email).fetch_one(&mut **transaction).await?;
    Ok(id.map(AccountId))
}

/// Refuses if the account is the only enabled admin. The others are locked until the commit, always in one order: of two
/// who disable each other, one is the last.
async fn keep_an_admin(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: AccountId,
) -> Result<()> {
    let admins = query_scalar!(
        "select id from user_account where business_id = $1 and role = 'ADMIN' and disabled_at is null
         order by id for no key update",
        business.0
    )
    .fetch_all(&mut **transaction)
    .await?;
    if admins == [id.0] { Err(Refusal::LastAdmin.into()) } else { Ok(()) }
}

/// Ends the logins of an account, but for one. Its row is held by now, so no login is being given meanwhile.
async fn end_logins(
    transaction: &mut PgTransaction<'static>,
    account: AccountId,
    but: Option<LoginId>,
) -> Result<()> {
    query!(
        "update refresh_token set revoked_at = now()
         where account_id = $1 and revoked_at is null and family_id is distinct from $2",
        account.0,
        but.map(|login| login.0)
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) fn taken(error: sqlx::Error) -> Error {
    if breaches(&error, "user_account_email") {
        Refusal::EmailTaken.into()
    } else if breaches(&error, "user_account_user_id") {
        Refusal::UserIdTaken.into()
    } else {
        error.into()
    }
}
