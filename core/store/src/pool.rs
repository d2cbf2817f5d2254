//! User pools and their members.
//!
//! **Invariant.** A pool's `member_count` is the number of its members after each commit. Rows are locked in one order: members by
//! id, then the pool. Adding members holds the pool's row against deletion from the start (`for key share`).

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgTransaction, query, query_scalar};
use uuid::Uuid;

use crate::GenerateId;
use crate::error::{Error, Result, breaches};
use cuponera_domain::id::{BusinessId, PoolId};
use cuponera_domain::page::Page;
use cuponera_domain::pool::{AddedUsers, MAX_USERS_PER_CALL, Pool, PoolMember, PoolPatch, check};
use cuponera_domain::principal::parse_user_id;
use cuponera_domain::rejection::Rejection;

use super::Store;
use super::request_key::{CallResult, IdempotencyKey, KeyedChange};

/// Members of deleted pools that one statement deletes.
const DELETED_AT_ONCE: i64 = 5_000;

/// A row of `user_pool`.
struct PoolRow {
    id: Uuid,
    business_id: Uuid,
    name: String,
    description: Option<String>,
    member_count: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<PoolRow> for Pool {
    fn from(row: PoolRow) -> Self {
        Self {
            id: PoolId(row.id),
            business: BusinessId(row.business_id),
            name: row.name,
            description: row.description,
            member_count: row.member_count,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Store {
    /// Creates an empty pool.
    pub async fn create_pool(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        name: &str,
        description: Option<&str>,
    ) -> Result<CallResult<Pool>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let (name, description) = check(name, description)?;
            let id = PoolId::generate();
            let made = query!(
                "insert into user_pool (id, business_id, name, description) values ($1, $2, $3, $4)",
                id.0,
                business.0,
                name,
                description
            );
            made.execute(&mut *open.transaction).await.map_err(name_taken)?;
            get(&mut *open.transaction, business, id).await
        }
        .await;
        open.commit(outcome).await
    }

    /// The pool, if it belongs to the business.
    pub async fn get_pool(&self, business: BusinessId, id: PoolId) -> Result<Pool> {
        get(&self.reads, business, id).await
    }

    /// A business's pools, newest first.
    pub async fn list_pools(
        &self,
        business: BusinessId,
        after: Option<PoolId>,
        limit: u32,
    ) -> Result<Page<Pool>> {
        let rows = sqlx::query_as!(
            PoolRow,
            "select id, business_id, name, description, member_count, created_at, updated_at from user_pool
             where business_id = $1 and deleted_at is null and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
             order by id desc limit $3",
            business.0,
            after.map(|id| id.0),
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let mut page =
            Page::cut(rows.into_iter().map(Pool::from).collect(), limit, |pool| pool.id.to_string());
        if after.is_none() && page.next_cursor.is_none() {
            page.total = i64::try_from(page.items.len()).ok();
        }
        Ok(page)
    }

    /// Changes the name or the description.
    pub async fn update_pool(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: PoolId,
        patch: PoolPatch,
    ) -> Result<CallResult<Pool>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let transaction = &mut open.transaction;
            query_scalar!(
                "select id from user_pool where id = $1 and business_id = $2 and deleted_at is null for no key update",
                id.0,
                business.0
            )
            .fetch_optional(&mut **transaction)
            .await?
            .ok_or_else(no_such_pool)?;
            let pool = get(&mut **transaction, business, id).await?;
            let name = patch.name.unwrap_or(pool.name);
            let (name, description) = check(&name, patch.description.unwrap_or(pool.description).as_deref())?;
            let changed = query!(
                "update user_pool set name = $2, description = $3, updated_at = now() where id = $1",
                id.0,
                name,
                description
            );
            changed.execute(&mut **transaction).await.map_err(name_taken)?;
            get(&mut **transaction, business, id).await
        }
        .await;
        open.commit(outcome).await
    }

    /// Deletes a pool: it is gone at once, and housekeeping deletes its members. Waits for calls that add members.
    pub async fn delete_pool(&self, business: BusinessId, id: PoolId) -> Result<()> {
        let mut transaction = self.begin().await?;
        // `for update` waits for the transactions that hold the pool against deletion.
        query_scalar!(
            "select id from user_pool where id = $1 and business_id = $2 and deleted_at is null for update",
            id.0,
            business.0
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(no_such_pool)?;
        query!("update user_pool set deleted_at = now() where id = $1", id.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Adds users to a pool, at most 10,000.
    pub async fn add_pool_users(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: PoolId,
        users: &[String],
    ) -> Result<CallResult<AddedUsers>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            check_count(users)?;
            hold(&mut open.transaction, business, id).await?;
            let valid: Vec<&str> = users.iter().filter_map(|user| parse_user_id(user).ok()).collect();
            let distinct: BTreeSet<&str> = valid.iter().copied().collect();
            let distinct: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
            let added = add(&mut open.transaction, id, &distinct).await?.len();
            Ok(AddedUsers {
                added: added as u64,
                already_members: (valid.len() - added) as u64,
                invalid: (users.len() - valid.len()) as u64,
            })
        }
        .await;
        open.commit(outcome).await
    }

    /// Removes users from a pool, at most 10,000; answers how many were members.
    pub async fn remove_pool_users(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: PoolId,
        users: &[String],
    ) -> Result<CallResult<u64>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            check_count(users)?;
            hold(&mut open.transaction, business, id).await?;
            let users: BTreeSet<&str> = users.iter().filter_map(|user| parse_user_id(user).ok()).collect();
            let users: Vec<String> = users.into_iter().map(str::to_owned).collect();
            remove(&mut open.transaction, id, &users).await
        }
        .await;
        open.commit(outcome).await
    }

    /// Removes one user from a pool; refused if it is no member.
    pub async fn remove_pool_user(&self, business: BusinessId, id: PoolId, user: &str) -> Result<()> {
        let user = parse_user_id(user).map_err(|_| Rejection::not_found("member of the pool"))?;
        let mut transaction = self.begin().await?;
        hold(&mut transaction, business, id).await?;
        if remove(&mut transaction, id, &[user.to_owned()]).await? == 0 {
            return Err(Rejection::not_found("member of the pool").into());
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The members of a pool in the order of their ids, from one index whatever the size of the pool.
    pub async fn list_pool_members(
        &self,
        business: BusinessId,
        id: PoolId,
        prefix: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<PoolMember>> {
        let pool = get(&self.reads, business, id).await?;
        let rows = query!(
            "select user_id, added_at from pool_member
             where pool_id = $1 and user_id >= coalesce($2, '') and user_id > coalesce($3, '')
               and ($2::text is null or user_id < $2 || chr(1114111))
             order by user_id limit $4",
            id.0,
            prefix,
            after,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let members = rows.into_iter().map(|row| PoolMember { user_id: row.user_id, added_at: row.added_at });
        let mut page = Page::cut(members.collect(), limit, |member: &PoolMember| member.user_id.clone());
        page.total = prefix.is_none().then_some(pool.member_count);
        Ok(page)
    }

    /// Deletes members of deleted pools, and the pools that have none left; answers how many rows were deleted.
    pub async fn forget_deleted_pools(&self) -> Result<u64> {
        let mut deleted = 0;
        let pools =
            query_scalar!("select id from user_pool where deleted_at is not null order by id limit 100")
                .fetch_all(&self.pool)
                .await?;
        for pool in pools {
            loop {
                let slice = query!(
                    "delete from pool_member where pool_id = $1
                       and user_id in (select user_id from pool_member where pool_id = $1 order by user_id limit $2)",
                    pool,
                    DELETED_AT_ONCE
                )
                .execute(&self.pool)
                .await?
                .rows_affected();
                deleted += slice;
                if slice == 0 {
                    break;
                }
            }
            deleted += query!("delete from user_pool where id = $1 and deleted_at is not null", pool)
                .execute(&self.pool)
                .await?
                .rows_affected();
        }
        Ok(deleted)
    }
}

fn no_such_pool() -> Rejection {
    Rejection::not_found("user pool")
}

fn name_taken(error: sqlx::Error) -> Error {
    if breaches(&error, "user_pool_name") { Rejection::NameTaken.into() } else { error.into() }
}

fn check_count(users: &[String]) -> Result<()> {
    if (1..=MAX_USERS_PER_CALL).contains(&users.len()) {
        return Ok(());
    }
    Err(Rejection::invalid("userIds", format!("must have 1 to {MAX_USERS_PER_CALL} ids: upload more as CSV"))
        .into())
}

/// The pool, read with the given connection or transaction.
pub(super) async fn get(executor: impl PgExecutor<'_>, business: BusinessId, id: PoolId) -> Result<Pool> {
    let row = sqlx::query_as!(
        PoolRow,
        "select id, business_id, name, description, member_count, created_at, updated_at from user_pool
         where id = $1 and business_id = $2 and deleted_at is null",
        id.0,
        business.0
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.ok_or_else(no_such_pool)?.into())
}

/// Holds a pool against deletion until the transaction ends.
pub(super) async fn hold(
    transaction: &mut PgTransaction<'_>,
    business: BusinessId,
    id: PoolId,
) -> Result<()> {
    query_scalar!(
        "select id from user_pool where id = $1 and business_id = $2 and deleted_at is null for key share",
        id.0,
        business.0
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(no_such_pool)?;
    Ok(())
}

/// Adds users, each of which is given once, in order; answers those that were no members.
pub(super) async fn add(
    transaction: &mut PgTransaction<'_>,
    id: PoolId,
    users: &[String],
) -> Result<Vec<String>> {
    let added = query_scalar!(
        r#"insert into pool_member (pool_id, user_id)
           select $1, u.id from unnest($2::text[]) u (id) order by u.id collate "C"
           on conflict do nothing returning user_id"#,
        id.0,
        users
    )
    .fetch_all(&mut **transaction)
    .await?;
    count(transaction, id, i64::try_from(added.len()).map_err(Error::internal)?).await?;
    Ok(added)
}

/// Removes users, each of which is given once; answers how many were members.
async fn remove(transaction: &mut PgTransaction<'_>, id: PoolId, users: &[String]) -> Result<u64> {
    let removed = query!(
        "with held as materialized (
           select user_id from pool_member where pool_id = $1 and user_id = any($2) order by user_id for update)
         delete from pool_member m using held h where m.pool_id = $1 and m.user_id = h.user_id",
        id.0,
        users
    )
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    count(transaction, id, -i64::try_from(removed).map_err(Error::internal)?).await?;
    Ok(removed)
}

/// The last lock of a transaction that changes members.
async fn count(transaction: &mut PgTransaction<'_>, id: PoolId, change: i64) -> Result<()> {
    if change != 0 {
        query!("update user_pool set member_count = member_count + $2 where id = $1", id.0, change)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
