//! Which rows of an import get their codes assigned: in the order of the lines, up to the limit of each user.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgTransaction, query, query_file};

use crate::error::Result;
use crate::id::AssignmentId;
use crate::store::job::claim::Claim;

use super::part::{ImportRow, Rejected};
use super::rejection::Rejection;

/// A row, and the assignment of its code.
pub(super) struct DealtRow<'a> {
    pub(super) row: &'a ImportRow,
    pub(super) assignment: Option<Assignment>,
}

/// A code for a user.
pub(super) struct Assignment {
    pub(super) id: uuid::Uuid,
    /// The user's id as it is stored.
    pub(super) user: String,
}

/// Rows with their assignments, in the order in which they came.
pub(super) struct Dealt<'a> {
    pub(super) rows: Vec<DealtRow<'a>>,
    /// The rows whose users may hold no more codes.
    pub(super) limited: Vec<Rejection>,
}

/// Counts the codes of the rows towards the users they name, and decides which rows stay within the limits.
///
/// **Invariant.** The limits hold whatever else runs: the rows of `user_quota` are counted up by a statement that checks the limit
/// on the locked row, and stay locked until the transaction ends.
pub(super) async fn deal<'a>(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rows: &[&'a ImportRow],
) -> Result<Dealt<'a>> {
    let mut dealt: Vec<_> = rows.iter().map(|row| DealtRow { row, assignment: None }).collect();
    let mut limited = Vec::new();
    let mut left = grant(transaction, claim, rows).await?;
    let mut in_order: Vec<&mut DealtRow<'_>> =
        dealt.iter_mut().filter(|dealt| dealt.row.user.is_some()).collect();
    in_order.sort_unstable_by_key(|dealt| dealt.row.line);
    for DealtRow { row, assignment } in in_order {
        match row.user.as_ref().and_then(|user| left.get_mut(user)) {
            Some(grant) if grant.codes > 0 => {
                grant.codes -= 1;
                *assignment = Some(Assignment { id: AssignmentId::new().0, user: grant.user.clone() });
            }
            _ => limited.push(Rejected::UserLimitReached.of(row)),
        }
    }
    Ok(Dealt { rows: dealt, limited })
}

/// Codes that a user may still get.
struct Grant {
    /// The user's id as it is stored.
    user: String,
    codes: i32,
}

/// What each user that the rows name may get of the codes that they ask for.
async fn grant(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rows: &[&ImportRow],
) -> Result<HashMap<String, Grant>> {
    let mut wished: BTreeMap<&str, i32> = BTreeMap::new();
    for user in rows.iter().filter_map(|row| row.user.as_deref()) {
        *wished.entry(user).or_default() += 1;
    }
    if wished.is_empty() {
        return Ok(HashMap::new());
    }
    let named: Vec<String> = wished.keys().map(|user| (*user).to_owned()).collect();
    let others = query!(
        r#"select user_id as "named!", stored as "stored!" from stored_user_id where business_id = $1 and user_id = any($2)"#,
        claim.business.0,
        &named
    )
    .fetch_all(&mut **transaction)
    .await?;
    // An id finds one stored id at most, and no two ids find the same one.
    let named_by: HashMap<String, String> =
        others.into_iter().map(|other| (other.stored, other.named)).collect();
    for (stored, named) in &named_by {
        if let Some(codes) = wished.remove(named.as_str()) {
            wished.insert(stored, codes);
        }
    }
    let granted = query_file!(
        "src/store/sql/grant_codes.sql",
        claim.book()?.0,
        &wished.keys().map(|user| (*user).to_owned()).collect::<Vec<_>>(),
        &wished.values().copied().collect::<Vec<_>>()
    )
    .fetch_all(&mut **transaction)
    .await?;
    let grants = granted.into_iter().map(|row| {
        let named = named_by.get(&row.user_id).unwrap_or(&row.user_id).clone();
        (named, Grant { user: row.user_id, codes: row.granted })
    });
    Ok(grants.collect())
}
