//! Who may call each operation: one table, which [`crate::guard`] applies before an operation reads its request.
//!
//! What depends on the request itself is checked by the operation: whose `userId` it names, and `force` of an unlock.

use cuponera_core::error::Refusal;
use cuponera_core::id::LoginId;
use cuponera_core::principal::Role;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody; no credentials are looked at.
    Open,
    /// Every role.
    Authenticated,
    /// Every role, by access token: an API key has no login and no password.
    Account,
    /// `ADMIN` and `SERVICE`.
    Trusted,
    /// `ADMIN`.
    Admin,
}

use Access::{Account, Admin, Authenticated, Open, Trusted};

/// Who may call the operation of this id; an operation without a row may not be called.
pub(crate) fn of(operation: &str) -> Option<Access> {
    TABLE.iter().find(|(id, _)| *id == operation).map(|(_, access)| *access)
}

/// Every operation under `/api/v1`.
const TABLE: [(&str, Access); 37] = [
    ("login", Open),
    ("refresh", Open),
    ("logout", Account),
    ("changePassword", Account),
    ("getMe", Authenticated),
    ("createUser", Admin),
    ("listUsers", Admin),
    ("updateUser", Admin),
    ("createApiKey", Admin),
    ("listApiKeys", Admin),
    ("revokeApiKey", Admin),
    ("createCouponBook", Trusted),
    ("listCouponBooks", Authenticated),
    ("getCouponBook", Authenticated),
    ("updateCouponBook", Trusted),
    ("replaceCouponBook", Trusted),
    ("deleteCouponBook", Trusted),
    ("getCapacity", Trusted),
    ("generateCodes", Trusted),
    ("uploadCodes", Trusted),
    ("listCodes", Trusted),
    ("assignRandom", Authenticated),
    ("assignCode", Trusted),
    ("listUserCoupons", Authenticated),
    ("lockCoupon", Authenticated),
    ("unlockCoupon", Authenticated),
    ("redeemCoupon", Authenticated),
    ("validateCoupon", Authenticated),
    ("getCoupon", Authenticated),
    ("getCouponHistory", Trusted),
    ("listJobs", Trusted),
    ("getJob", Trusted),
    ("followJob", Trusted),
    ("cancelJob", Trusted),
    ("retryJob", Trusted),
    ("redriveJobs", Trusted),
    ("getJobErrors", Trusted),
];

impl Access {
    /// Refuses a caller whose role or credential does not allow it.
    pub(crate) fn check(self, role: &Role, login: Option<LoginId>) -> Result<(), Refusal> {
        match (self, role) {
            (Account, _) if login.is_none() => Err(forbidden(
                "an API key has no login and no password: revoke it with DELETE /api-keys/{id}",
            )),
            (Trusted, Role::User { .. }) => Err(forbidden("only an ADMIN or a SERVICE may do this")),
            (Admin, Role::Service | Role::User { .. }) => Err(forbidden("only an ADMIN may do this")),
            (Open | Authenticated | Account, _)
            | (Trusted, Role::Admin | Role::Service)
            | (Admin, Role::Admin) => Ok(()),
        }
    }
}

/// The role or credential does not allow it.
pub(crate) fn forbidden(reason: &str) -> Refusal {
    Refusal::Forbidden { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use poem_openapi::OpenApi;

    use super::*;
    use crate::routes::Operations;

    #[test]
    fn the_table_has_each_operation_of_the_api_once_and_is_open_where_no_credentials_are_taken() {
        let paths = Operations::meta().into_iter().flat_map(|api| api.paths);
        let documented: BTreeMap<_, _> = paths
            .filter(|path| path.path.starts_with("/api/v1/"))
            .flat_map(|path| path.operations)
            .map(|operation| (operation.operation_id.unwrap_or_default(), operation.security.is_empty()))
            .collect();
        let listed: BTreeMap<_, _> = TABLE.iter().map(|(id, access)| (*id, *access == Open)).collect();
        assert_eq!(listed, documented, "left: the table; right: the OpenAPI document; true: no credentials");
        assert_eq!(listed.len(), TABLE.len(), "an operation has two rows");
    }
}
