//! Permissions, and the table of the roles that have them. Each operation of the API requires one
//! (`api/src/auth/policy.rs`), and an API key may be limited to some permissions of its role.

use super::RoleName;

/// A permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// See books and their rules.
    ReadBooks,
    /// Create, change and delete books.
    ManageBooks,
    /// List the codes of a book, find codes of all books, and the capacity of a pattern.
    ReadCodes,
    /// Create, generate and import codes.
    CreateCodes,
    /// Change the limits of a code, and suspend it.
    ChangeCodes,
    /// See the coupons of a user, and a coupon.
    ReadCoupons,
    /// See the events of a coupon, and those of all coupons.
    ReadHistory,
    /// Assign any free code of a book to a user.
    AssignRandom,
    /// Assign a named code to a user.
    AssignNamed,
    /// Lock, unlock, redeem and validate a coupon for its holder.
    UseCoupons,
    /// Release a lock of any holder.
    ForceUnlock,
    /// Take a code back from its holder.
    RevokeCoupons,
    /// End codes permanently.
    VoidCoupons,
    /// See redemptions.
    ReadRedemptions,
    /// Give the use of a redemption back.
    RollBackRedemptions,
    /// See statistics.
    ReadStatistics,
    /// See user pools and their users.
    ReadPools,
    /// Create, change and delete user pools, add and remove their users.
    ManagePools,
    /// Distribute codes to the users of a pool.
    Distribute,
    /// Export codes, assignments, redemptions and events.
    Export,
    /// See jobs and their rejected rows.
    ReadJobs,
    /// Cancel, retry and redrive jobs.
    ManageJobs,
    /// See admin events, and the state of the audit chain.
    ReadAdminEvents,
    /// See, create, change and test webhooks.
    ManageWebhooks,
    /// See, create and change users.
    ManageUsers,
    /// See, create and revoke API keys.
    ManageApiKeys,
}

use Permission::{
    AssignNamed, AssignRandom, ChangeCodes, CreateCodes, Distribute, Export, ForceUnlock, ManageApiKeys, ManageBooks,
    ManageJobs, ManagePools, ManageUsers, ManageWebhooks, ReadAdminEvents, ReadBooks, ReadCodes, ReadCoupons,
    ReadHistory, ReadJobs, ReadPools, ReadRedemptions, ReadStatistics, RevokeCoupons, RollBackRedemptions,
    UseCoupons, VoidCoupons,
};
use RoleName::{Admin, Service, User};

/// Each permission: its name in the API, its description, and the roles that have it. A USER has it only for its own
/// coupons and for ACTIVE books.
const TABLE: [(Permission, &str, &str, &[RoleName]); 26] = [
    (ReadBooks, "books:read", "see books and their rules", &[Admin, Service, User]),
    (ManageBooks, "books:manage", "create, change and delete books", &[Admin, Service]),
    (ReadCodes, "codes:read", "list and find codes; the capacity of a pattern", &[Admin, Service]),
    (CreateCodes, "codes:create", "create, generate and import codes", &[Admin, Service]),
    (ChangeCodes, "codes:change", "change the limits of a code, and suspend it", &[Admin, Service]),
    (ReadCoupons, "coupons:read", "see a coupon, and the coupons of a user", &[Admin, Service, User]),
    (ReadHistory, "coupons:history", "see the history of a coupon, and all events", &[Admin, Service]),
    (
        AssignRandom,
        "coupons:assign-random",
        "assign any free code of a book to a user",
        &[Admin, Service, User],
    ),
    (AssignNamed, "coupons:assign", "assign a named code to a user", &[Admin, Service]),
    (
        UseCoupons,
        "coupons:use",
        "lock, unlock, redeem and validate a coupon for its holder",
        &[Admin, Service, User],
    ),
    (ForceUnlock, "coupons:force-unlock", "release the lock of any holder", &[Admin]),
    (RevokeCoupons, "coupons:revoke", "take a code back from its holder", &[Admin, Service]),
    (VoidCoupons, "coupons:void", "end codes permanently", &[Admin, Service]),
    (ReadRedemptions, "redemptions:read", "see redemptions", &[Admin, Service, User]),
    (RollBackRedemptions, "redemptions:rollback", "give the use of a redemption back", &[Admin, Service]),
    (ReadStatistics, "statistics:read", "see statistics of books and of the business", &[Admin, Service]),
    (ReadPools, "pools:read", "see user pools and their users", &[Admin, Service]),
    (
        ManagePools,
        "pools:manage",
        "create, change and delete user pools, add and remove their users",
        &[Admin, Service],
    ),
    (Distribute, "coupons:distribute", "distribute codes to the users of a pool", &[Admin, Service]),
    (Export, "exports:create", "export codes, assignments, redemptions and events", &[Admin, Service]),
    (ReadJobs, "jobs:read", "see jobs and their rejected rows", &[Admin, Service]),
    (ManageJobs, "jobs:manage", "cancel, retry and redrive jobs", &[Admin, Service]),
    (
        ReadAdminEvents,
        "events:admin",
        "see the changes of books, keys, users, logins, pools, jobs and webhooks, and the state of the audit chain",
        &[Admin],
    ),
    (ManageWebhooks, "webhooks:manage", "see, create, change, test and replay webhooks", &[Admin]),
    (ManageUsers, "users:manage", "see, create and change users", &[Admin]),
    (ManageApiKeys, "api-keys:manage", "see, create and revoke API keys", &[Admin]),
];

impl Permission {
    /// All permissions, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The description.
    pub fn meaning(self) -> &'static str {
        self.row().2
    }

    /// The roles that have it.
    pub fn roles(self) -> &'static [RoleName] {
        self.row().3
    }

    /// The permission of this name.
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static [RoleName]) {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

impl Permission {
    /// Whether an API key may have it. Users and keys are managed by accounts only, so that a leaked key cannot create
    /// more keys.
    pub fn is_for_keys(self) -> bool {
        !matches!(self, ManageUsers | ManageApiKeys)
    }
}

impl RoleName {
    /// Whether the role has the permission.
    pub fn may(self, permission: Permission) -> bool {
        permission.roles().contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_permission_has_one_row_and_one_name() {
        let permissions: BTreeSet<Permission> = Permission::all().collect();
        let names: BTreeSet<&str> = Permission::all().map(Permission::as_str).collect();
        assert_eq!((permissions.len(), names.len()), (TABLE.len(), TABLE.len()));
        // The last variant, because a permission without a row would be mistaken for another.
        assert_eq!(permissions.last(), Some(&ManageApiKeys));
        assert_eq!(permissions.len(), ManageApiKeys as usize + 1);
        for permission in Permission::all() {
            assert_eq!(Permission::parse(permission.as_str()), Some(permission));
        }
    }

    #[test]
    fn an_admin_may_do_everything_and_each_role_less_than_the_one_before() {
        for permission in Permission::all() {
            assert!(Admin.may(permission));
            assert!(!User.may(permission) || Service.may(permission));
        }
    }
}
