//! Code spaces: the used indexes of each pattern of a business, and the reservation of more.

use rand::TryRng;
use sqlx::{PgTransaction, query};

use crate::error::{Error, Result};
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::id::BusinessId;
use cuponera_domain::rejection::Rejection;

use crate::Store;

/// The key of a permutation, and the number of its used indexes.
#[derive(Clone)]
pub struct Space {
    /// AES-256 key of the permutation.
    pub key: [u8; 32],
    /// Indexes below this are used.
    pub used: u64,
}

impl Store {
    /// The space of a pattern, if codes were ever generated from it.
    pub async fn find_space(&self, business: BusinessId, pattern: &str) -> Result<Option<Space>> {
        let row = query!(
            "select key, next_index from code_space where business_id = $1 and pattern = $2",
            business.0,
            pattern
        )
        .fetch_optional(&self.reads)
        .await?;
        row.map(|row| Ok(Space { key: as_key(row.key)?, used: u64::try_from(row.next_index).unwrap_or(0) }))
            .transpose()
    }
}

/// Reserves the next `count` indexes and returns the first. If fewer remain, returns a rejection and reserves none.
pub(crate) async fn reserve(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    pattern: &Pattern,
    count: u64,
) -> Result<u64> {
    let name = pattern.canonical();
    let capacity = i64::try_from(pattern.capacity()).unwrap_or(i64::MAX);
    create_if_absent(transaction, business, &name).await?;
    let reserved = query!(
        "update code_space set next_index = next_index + $3
         where business_id = $1 and pattern = $2 and next_index <= $4::bigint - $3
         returning next_index",
        business.0,
        name,
        as_i64(count),
        capacity
    )
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(row) = reserved {
        return Ok(u64::try_from(row.next_index).unwrap_or(0) - count);
    }
    let row =
        query!("select next_index from code_space where business_id = $1 and pattern = $2", business.0, name)
            .fetch_one(&mut **transaction)
            .await?;
    Err(Rejection::PatternExhausted { remaining: u64::try_from(capacity - row.next_index).unwrap_or(0) }
        .into())
}

async fn create_if_absent(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    pattern: &str,
) -> Result<()> {
    let mut key = [0_u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut key).map_err(Error::internal)?;
    query!(
        "insert into code_space (business_id, pattern, key) values ($1, $2, $3) on conflict do nothing",
        business.0,
        pattern,
        &key
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn as_key(bytes: Vec<u8>) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| Error::internal("a code space's key has the wrong length"))
}

/// Numbers of codes are far below `i64::MAX`, because requests are bounded.
pub(crate) fn as_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
