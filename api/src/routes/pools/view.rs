//! Pools and their members as the API shows them.

use cuponera_domain::pool::{AddedUsers, Pool, PoolMember};
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::time::Time;

/// A user pool.
#[derive(Debug, Object)]
#[oai(rename = "UserPool", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct PoolView {
    pub(crate) id: Uuid,
    name: String,
    description: Option<String>,
    /// The number of its users.
    member_count: i64,
    created_at: Time,
    updated_at: Time,
}

impl From<Pool> for PoolView {
    fn from(pool: Pool) -> Self {
        Self {
            id: pool.id.0,
            name: pool.name,
            description: pool.description,
            member_count: pool.member_count,
            created_at: pool.created_at.into(),
            updated_at: pool.updated_at.into(),
        }
    }
}

/// A user of a pool.
#[derive(Debug, Object)]
#[oai(rename = "PoolUser", rename_all = "camelCase")]
pub(crate) struct MemberView {
    user_id: String,
    added_at: Time,
}

impl From<PoolMember> for MemberView {
    fn from(member: PoolMember) -> Self {
        Self { user_id: member.user_id, added_at: member.added_at.into() }
    }
}

/// What became of the users of a request.
#[derive(Debug, Object)]
#[oai(rename = "AddedUsers", rename_all = "camelCase")]
pub(crate) struct AddedView {
    /// Users that are new in the pool.
    added: u64,
    /// Users that were in the pool, or occurred before in the request.
    already_members: u64,
    /// Texts that are not user ids.
    invalid: u64,
}

impl From<AddedUsers> for AddedView {
    fn from(users: AddedUsers) -> Self {
        Self { added: users.added, already_members: users.already_members, invalid: users.invalid }
    }
}

/// How many users were removed.
#[derive(Debug, Object)]
#[oai(rename = "RemovedUsers", rename_all = "camelCase")]
pub(crate) struct RemovedView {
    /// Users that were in the pool.
    pub(crate) removed: u64,
}
