//! Members of a business: adding and changing them.
//!
//! The first membership of an account is written to `user_account`, where programs of the previous version read it; a trigger
//! copies it to `membership`. Rows are locked in one order: accounts by id, then memberships.

use sqlx::{PgTransaction, query, query_scalar};

use crate::GenerateId;
use crate::error::{Error, Result, breaches};
use cuponera_domain::id::{AccountId, BusinessId};
use cuponera_domain::principal::RoleName;
use cuponera_domain::rejection::Rejection;

use super::Store;
use super::account::{Account, AccountChange, NewAccount, account, end_logins, find_id, get_member};
use super::request_key::{CallResult, IdempotencyKey, KeyedChange};

impl Store {
    /// Creates an account. If the email has an account in another business, adds a membership to it and keeps its password.
    pub async fn create_account(
        &self,
        key: Option<IdempotencyKey>,
        new: &NewAccount,
    ) -> Result<CallResult<Account>> {
        let mut begun = match self.attempt(key).await? {
            KeyedChange::Begun(begun) => begun,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = add_member(&mut begun.transaction, new).await;
        begun.commit(outcome).await
    }

    /// Changes the given fields. A new password ends all logins of the account; disabling and a new role end its logins to this
    /// business. Rejected for the last enabled admin of a business, and for the password of an account with several
    /// memberships.
    pub async fn update_account(
        &self,
        business: BusinessId,
        id: AccountId,
        change: &AccountChange,
    ) -> Result<Account> {
        let mut transaction = self.begin().await?;
        if change.removes_admin() {
            require_an_admin(&mut transaction, business, id).await?;
        }
        let member = lock_member(&mut transaction, business, id).await?;
        if change.password_hash.is_some() && member.is_shared {
            return Err(Rejection::AccountShared.into());
        }
        if member.is_first {
            update_first_membership(&mut transaction, id, change).await?;
        } else {
            update_further_membership(&mut transaction, business, id, change).await?;
        }
        if change.password_hash.is_some() {
            end_logins(&mut transaction, id, None).await?;
        }
        let account = get_member(&mut *transaction, business, id).await?;
        transaction.commit().await?;
        Ok(account)
    }
}

/// Makes the account of an email a member of a business. Creates the account if it does not exist.
pub(super) async fn add_member(
    transaction: &mut PgTransaction<'static>,
    new: &NewAccount,
) -> Result<Account> {
    match find_id(transaction, &new.email).await? {
        Some(id) => add_membership(transaction, id, new).await,
        None => insert_account(transaction, new).await,
    }
}

async fn insert_account(transaction: &mut PgTransaction<'static>, new: &NewAccount) -> Result<Account> {
    let id = AccountId::generate();
    // A holder of codes may be stored under another spelling of the id, which all other statements find.
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
        new.user_id.clone().unwrap_or_else(|| id.to_string())
    )
    .fetch_one(&mut **transaction)
    .await
    .map_err(taken)?;
    Ok(account!(row))
}

/// Locks the row of the account, as changes of its password do, which check for other memberships.
async fn add_membership(
    transaction: &mut PgTransaction<'static>,
    id: AccountId,
    new: &NewAccount,
) -> Result<Account> {
    query!("select from user_account where id = $1 for no key update", id.0)
        .execute(&mut **transaction)
        .await?;
    let added = query!(
        "insert into membership (account_id, business_id, role, user_id)
         values ($1, $2, $3, coalesce((select stored from stored_user_id where business_id = $2 and user_id = $4), $4))
         on conflict (account_id, business_id) do nothing",
        id.0,
        new.business.0,
        new.role.as_str(),
        new.user_id.clone().unwrap_or_else(|| id.to_string())
    )
    .execute(&mut **transaction)
    .await
    .map_err(taken)?;
    if added.rows_affected() == 0 {
        return Err(Rejection::EmailTaken.into());
    }
    get_member(&mut **transaction, new.business, id).await
}

/// A member whose account is locked.
pub(super) struct LockedMember {
    /// Whether the columns of `user_account` are this membership.
    pub(super) is_first: bool,
    /// Whether the account has another membership, enabled or disabled.
    pub(super) is_shared: bool,
}

/// Locks the account of a member. A second statement reads its memberships, so that it sees the commits for which the first
/// one waited.
pub(super) async fn lock_member(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: AccountId,
) -> Result<LockedMember> {
    query!("select from user_account where id = $1 for no key update", id.0)
        .execute(&mut **transaction)
        .await?;
    let row = query!(
        r#"select a.business_id = $2 as "is_first!",
             exists (select from membership o where o.account_id = $1 and o.business_id <> $2) as "is_shared!"
           from user_account a join membership m on m.account_id = a.id and m.business_id = $2 where a.id = $1"#,
        id.0,
        business.0
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Rejection::not_found("user"))?;
    Ok(LockedMember { is_first: row.is_first, is_shared: row.is_shared })
}

/// A trigger copies the change to `membership`, and another one ends the logins that depend on it.
pub(super) async fn update_first_membership(
    transaction: &mut PgTransaction<'static>,
    id: AccountId,
    change: &AccountChange,
) -> Result<()> {
    query!(
        "update user_account
         set password_hash = coalesce($2, password_hash), role = coalesce($4, role),
             disabled_at = case when $3::bool is null then disabled_at when $3 then coalesce(disabled_at, now()) end,
             updated_at = now()
         where id = $1",
        id.0,
        change.password_hash,
        change.disabled,
        change.role.map(RoleName::as_str)
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn update_further_membership(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: AccountId,
    change: &AccountChange,
) -> Result<()> {
    query!(
        "update membership
         set role = coalesce($4, role),
             disabled_at = case when $3::bool is null then disabled_at when $3 then coalesce(disabled_at, now()) end
         where account_id = $1 and business_id = $2",
        id.0,
        business.0,
        change.disabled,
        change.role.map(RoleName::as_str)
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Rejects if the account is the only enabled admin. Locks the accounts of all enabled admins until the commit, in one order:
/// if two admins disable each other, the second change is rejected.
pub(super) async fn require_an_admin(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: AccountId,
) -> Result<()> {
    query!(
        "select from user_account where id = any(array(
           select account_id from membership where business_id = $1 and role = 'ADMIN' and disabled_at is null))
         order by id for no key update",
        business.0
    )
    .execute(&mut **transaction)
    .await?;
    let admins = query_scalar!(
        "select account_id from membership where business_id = $1 and role = 'ADMIN' and disabled_at is null",
        business.0
    )
    .fetch_all(&mut **transaction)
    .await?;
    if admins == [id.0] { Err(Rejection::LastAdmin.into()) } else { Ok(()) }
}

fn taken(error: sqlx::Error) -> Error {
    if breaches(&error, "user_account_email") {
        Rejection::EmailTaken.into()
    } else if breaches(&error, "user_account_user_id") || breaches(&error, "membership_user_id") {
        Rejection::UserIdTaken.into()
    } else {
        error.into()
    }
}
