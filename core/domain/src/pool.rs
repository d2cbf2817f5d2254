//! User pools: named sets of users, the receivers of distributions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::book::{MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS};
use crate::id::{BusinessId, PoolId};
use crate::rejection::{FieldError, Rejection};

/// The most user ids that one call may add or remove.
pub const MAX_USERS_PER_CALL: usize = 10_000;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// Its owner.
    pub business: BusinessId,
    /// The name, unique within the business.
    pub name: String,
    /// Shown to people.
    pub description: Option<String>,
    /// The number of members.
    pub member_count: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its name or description was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolMember {
    /// The user id, which is the holder of the user's coupons.
    pub user_id: String,
    /// When it was added.
    pub added_at: DateTime<Utc>,
}

/// A change of a pool's name or description. Absent fields stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolPatch {
    /// The new name.
    pub name: Option<String>,
    /// The new description; `Some(None)` removes it.
    pub description: Option<Option<String>>,
}

/// The result of adding users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedUsers {
    /// Users that are new in the pool.
    pub added: u64,
    /// Users that were in the pool, or came twice.
    pub already_members: u64,
    /// Texts that are no user ids.
    pub invalid: u64,
}

/// Checks the name and description of a pool, and returns them trimmed. Reports all faults.
pub fn check(name: &str, description: Option<&str>) -> Result<(String, Option<String>), Rejection> {
    let mut faults = Vec::new();
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        faults.push(FieldError::new("name", "must have 1 to 200 characters"));
    }
    if name.contains('\0') || description.is_some_and(|text| text.contains('\0')) {
        faults.push(FieldError::new("name", "must not have the character U+0000"));
    }
    if description.is_some_and(|text| text.chars().count() > MAX_DESCRIPTION_CHARS) {
        faults.push(FieldError::new("description", "must have at most 5000 characters"));
    }
    if faults.is_empty() {
        Ok((name.to_owned(), description.map(str::to_owned)))
    } else {
        Err(Rejection::Invalid { faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_all_faults_are_reported() {
        assert_eq!(check(" VIP ", Some("the best")).unwrap(), ("VIP".into(), Some("the best".into())));
        let long = "x".repeat(MAX_DESCRIPTION_CHARS + 1);
        let Err(Rejection::Invalid { faults }) = check("  ", Some(&long)) else { panic!("it was accepted") };
        assert_eq!(
            faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            ["name", "description"]
        );
        assert!(check(&"x".repeat(MAX_NAME_CHARS + 1), None).is_err());
    }
}
