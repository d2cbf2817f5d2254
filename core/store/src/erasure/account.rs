//! The account of an erased user, and what begins an erasure.
//!
//! The account is deleted, or only its membership if it belongs to other businesses too. Rows are locked in the order of the store: accounts,
//! memberships, logins.

use sqlx::{PgTransaction, query};
use uuid::Uuid;

use cuponera_domain::id::{AccountId, BusinessId};

use crate::account::AccountChange;
use crate::error::Result;
use crate::membership::{lock_member, require_an_admin, update_first_membership, update_further_membership};

/// Records the ids of the user and the pseudonym, and erases the account.
pub(super) async fn begin(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    user: &str,
    pseudonym: &str,
) -> Result<()> {
    let begun = query!(
        r#"with ids as (
             select array_agg(id) as ids from (
               select $2 as id union select stored from stored_user_id where business_id = $1 and user_id = $2) i),
           account as (
             select m.account_id, array_remove(array[a.email, u.email], null) as emails
             from membership m join ids on m.user_id = any (ids.ids) join user_account a on a.id = m.account_id
             left join untrimmed_email u on u.account_id = a.id
             where m.business_id = $1 order by m.user_id = $2 desc limit 1)
           insert into erasure (business_id, user_id, pseudonym, user_ids, account_id, emails)
           select $1, $2, $3, ids.ids, (select account_id from account), coalesce((select emails from account), '{}') from ids
           returning account_id, emails, user_ids"#,
        business.0,
        user,
        pseudonym
    )
    .fetch_one(&mut **transaction)
    .await?;
    query!(
        "delete from untrimmed_user_id where business_id = $1 and stored = any ($2)",
        business.0,
        &begun.user_ids
    )
    .execute(&mut **transaction)
    .await?;
    match begun.account_id {
        Some(account) => erase_account(transaction, business, account, &begun.emails).await,
        None => Ok(()),
    }
}

async fn erase_account(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    account: Uuid,
    emails: &[String],
) -> Result<()> {
    let id = AccountId(account);
    require_an_admin(transaction, business, id).await?;
    let member = lock_member(transaction, business, id).await?;
    // Ends the logins to the business and revokes the API keys that the account created.
    let disable = AccountChange { disabled: Some(true), ..AccountChange::default() };
    if member.is_first {
        update_first_membership(transaction, id, &disable).await?;
    } else {
        update_further_membership(transaction, business, id, &disable).await?;
    }
    query!(
        "update api_key set created_by = null where business_id = $1 and created_by = $2",
        business.0,
        account
    )
    .execute(&mut **transaction)
    .await?;
    if member.is_shared {
        leave_business(transaction, business, account, member.is_first).await
    } else {
        delete_account(transaction, account, emails).await
    }
}

/// The account stays in its other businesses: the columns of `user_account` become those of another membership.
async fn leave_business(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    account: Uuid,
    is_first: bool,
) -> Result<()> {
    if is_first {
        query!(
            "update user_account a
             set business_id = m.business_id, role = m.role, user_id = m.user_id, disabled_at = m.disabled_at, updated_at = now()
             from (select * from membership where account_id = $1 and business_id <> $2
                   order by created_at, business_id limit 1) m
             where a.id = $1",
            account,
            business.0
        )
        .execute(&mut **transaction)
        .await?;
    }
    query!("delete from membership where account_id = $1 and business_id = $2", account, business.0)
        .execute(&mut **transaction)
        .await?;
    query!(
        "with gone as (delete from login where account_id = $1 and business_id = $2 returning id)
         delete from refresh_token where family_id in (select id from gone)",
        account,
        business.0
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn delete_account(
    transaction: &mut PgTransaction<'static>,
    account: Uuid,
    emails: &[String],
) -> Result<()> {
    // The memberships and tokens go with it.
    query!("delete from user_account where id = $1", account).execute(&mut **transaction).await?;
    query!("delete from login where account_id = $1", account).execute(&mut **transaction).await?;
    query!(
        "delete from password_attempt p using unnest($1::text[]) e (email)
         where p.email_hash = sha256(convert_to(lower(e.email), 'UTF8'))",
        emails
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
