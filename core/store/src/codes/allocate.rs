//! Selects the rows of an import whose codes are assigned: in the order of the lines, up to the limit of each user.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgTransaction, query, query_file};

use crate::GenerateId;
use crate::error::Result;
use crate::job::claim::Claim;
use cuponera_domain::id::AssignmentId;

use super::part::{ImportRow, RowRejection};
use super::rejection::RejectedRow;

/// A row and the assignment of its code.
pub(super) struct AllocatedRow<'a> {
    pub(super) row: &'a ImportRow,
    pub(super) assignment: Option<Assignment>,
}

/// The assignment of a code to a user.
pub(super) struct Assignment {
    pub(super) id: uuid::Uuid,
    /// The stored spelling of the user id.
    pub(super) user: String,
}

/// Rows with their assignments, in the order of the input.
pub(super) struct Allocated<'a> {
    pub(super) rows: Vec<AllocatedRow<'a>>,
    /// The rows whose users have reached their limit.
    pub(super) limited: Vec<RejectedRow>,
}

/// Counts the codes of the rows for the users that they name, and selects the rows within the limits.
///
/// **Invariant.** The limits hold in all concurrent transactions: the statement that increases a count in `user_quota` checks
/// the limit on the locked row, and the row stays locked until the transaction ends.
pub(super) async fn allocate<'a>(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rows: &[&'a ImportRow],
) -> Result<Allocated<'a>> {
    let mut allocated: Vec<_> = rows.iter().map(|row| AllocatedRow { row, assignment: None }).collect();
    let mut limited = Vec::new();
    let mut left = remaining_quotas(transaction, claim, rows).await?;
    let mut in_order: Vec<&mut AllocatedRow<'_>> =
        allocated.iter_mut().filter(|allocated| allocated.row.user.is_some()).collect();
    in_order.sort_unstable_by_key(|allocated| allocated.row.line);
    for AllocatedRow { row, assignment } in in_order {
        match row.user.as_ref().and_then(|user| left.get_mut(user)) {
            Some(remaining_quotas) if remaining_quotas.codes > 0 => {
                remaining_quotas.codes -= 1;
                *assignment =
                    Some(Assignment { id: AssignmentId::generate().0, user: remaining_quotas.user.clone() });
            }
            _ => limited.push(RowRejection::UserLimitReached.of(row)),
        }
    }
    Ok(Allocated { rows: allocated, limited })
}

/// The number of codes that a user gets.
struct RemainingQuota {
    /// The stored spelling of the user id.
    user: String,
    codes: i32,
}

/// The number of codes that each user named by the rows gets of the requested ones.
async fn remaining_quotas(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rows: &[&ImportRow],
) -> Result<HashMap<String, RemainingQuota>> {
    let mut requested: BTreeMap<&str, i32> = BTreeMap::new();
    for user in rows.iter().filter_map(|row| row.user.as_deref()) {
        *requested.entry(user).or_default() += 1;
    }
    if requested.is_empty() {
        return Ok(HashMap::new());
    }
    let named: Vec<String> = requested.keys().map(|user| (*user).to_owned()).collect();
    let others = query!(
        r#"select user_id as "named!", stored as "stored!" from stored_user_id where business_id = $1 and user_id = any($2)"#,
        claim.business.0,
        &named
    )
    .fetch_all(&mut **transaction)
    .await?;
    // An id matches at most one stored id, and no two ids match the same stored id.
    let named_by: HashMap<String, String> =
        others.into_iter().map(|other| (other.stored, other.named)).collect();
    for (stored, named) in &named_by {
        if let Some(codes) = requested.remove(named.as_str()) {
            requested.insert(stored, codes);
        }
    }
    let granted = query_file!(
        "src/sql/grant_codes.sql",
        claim.book()?.0,
        &requested.keys().map(|user| (*user).to_owned()).collect::<Vec<_>>(),
        &requested.values().copied().collect::<Vec<_>>()
    )
    .fetch_all(&mut **transaction)
    .await?;
    let grants = granted.into_iter().map(|row| {
        let named = named_by.get(&row.user_id).unwrap_or(&row.user_id).clone();
        (named, RemainingQuota { user: row.user_id, codes: row.granted })
    });
    Ok(grants.collect())
}
