//! The permission that each operation requires: one table, which [`crate::auth::guard`] applies before an operation reads
//! its request.
//!
//! Operations check what depends on the request itself: its `userId`, and `force` of an unlock.

use cuponera_domain::principal::{Permission, RoleName};
use cuponera_domain::rejection::Rejection;

use crate::auth::credentials::Identity;

/// The callers that may use an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody; credentials are ignored.
    Open,
    /// Every role.
    Authenticated,
    /// Every role, by access token: an API key has no login and no password.
    Account,
    /// Callers whose role, and whose API key, has the permission.
    Needs(Permission),
}

/// The books that an operation uses. It determines the operations that an API key limited to some books may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touches {
    /// None.
    Nothing,
    /// The book, or the book of the code or job, that the request names. The operation checks it: see
    /// [`Caller::must_have_book`](crate::auth::caller::Caller::must_have_book).
    OneBook,
    /// Any book of the business, but the operation shows such a key only rows of its books.
    OwnBooks,
    /// Any book of the business: such a key may not call it.
    AllBooks,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) access: Access,
    pub(crate) touches: Touches,
}

use Access::{Account, Authenticated, Needs, Open};
use Permission::{
    AssignNamed, AssignRandom, ChangeCodes, CreateCodes, Distribute, Export, ManageApiKeys, ManageBooks, ManageJobs,
    ManagePools, ManageUsers, ManageWebhooks, ReadAdminEvents, ReadBooks, ReadCodes, ReadCoupons,
    ReadHistory, ReadJobs, ReadPools, ReadRedemptions, ReadStatistics, RevokeCoupons, RollBackRedemptions,
    UseCoupons, VoidCoupons,
};
use Touches::{AllBooks, Nothing, OneBook, OwnBooks};

/// The rule of an operation. An operation without a row cannot be called.
pub(crate) fn of(operation: &str) -> Option<Rule> {
    TABLE.iter().find(|row| row.0 == operation).map(|&(_, access, touches)| Rule { access, touches })
}

/// All operations, in the order of the table.
pub(crate) fn operations() -> impl Iterator<Item = (&'static str, Access)> {
    TABLE.iter().map(|row| (row.0, row.1))
}

/// Every operation under `/api/v1`.
const TABLE: [(&str, Access, Touches); 81] = [
    ("login", Open, Nothing),
    ("refresh", Open, Nothing),
    ("logout", Account, Nothing),
    ("changePassword", Account, Nothing),
    ("switchBusiness", Account, Nothing),
    ("getMe", Authenticated, Nothing),
    ("createUser", Needs(ManageUsers), AllBooks),
    ("listUsers", Needs(ManageUsers), AllBooks),
    ("updateUser", Needs(ManageUsers), AllBooks),
    ("createApiKey", Needs(ManageApiKeys), AllBooks),
    ("listApiKeys", Needs(ManageApiKeys), AllBooks),
    ("revokeApiKey", Needs(ManageApiKeys), AllBooks),
    ("createWebhook", Needs(ManageWebhooks), AllBooks),
    ("listWebhooks", Needs(ManageWebhooks), AllBooks),
    ("getWebhook", Needs(ManageWebhooks), AllBooks),
    ("updateWebhook", Needs(ManageWebhooks), AllBooks),
    ("deleteWebhook", Needs(ManageWebhooks), AllBooks),
    ("rotateWebhookSecret", Needs(ManageWebhooks), AllBooks),
    ("testWebhook", Needs(ManageWebhooks), AllBooks),
    ("replayWebhook", Needs(ManageWebhooks), AllBooks),
    ("replayWebhookDelivery", Needs(ManageWebhooks), AllBooks),
    ("listWebhookDeliveries", Needs(ManageWebhooks), AllBooks),
    ("createCouponBook", Needs(ManageBooks), AllBooks),
    ("listCouponBooks", Needs(ReadBooks), AllBooks),
    ("getCouponBook", Needs(ReadBooks), OneBook),
    ("updateCouponBook", Needs(ManageBooks), OneBook),
    ("replaceCouponBook", Needs(ManageBooks), OneBook),
    ("deleteCouponBook", Needs(ManageBooks), OneBook),
    ("cloneCouponBook", Needs(ManageBooks), AllBooks),
    ("voidCouponBook", Needs(VoidCoupons), OneBook),
    ("getCapacity", Needs(ReadCodes), OneBook),
    ("createCode", Needs(CreateCodes), OneBook),
    ("generateCodes", Needs(CreateCodes), OneBook),
    ("uploadCodes", Needs(CreateCodes), OneBook),
    ("listCodes", Needs(ReadCodes), OneBook),
    ("assignRandom", Needs(AssignRandom), OneBook),
    ("assignCode", Needs(AssignNamed), OneBook),
    ("uploadAssignments", Needs(AssignNamed), OneBook),
    ("revokeCode", Needs(RevokeCoupons), OneBook),
    ("listUserCoupons", Needs(ReadCoupons), OneBook),
    ("lockCoupon", Needs(UseCoupons), OneBook),
    ("unlockCoupon", Needs(UseCoupons), OneBook),
    ("redeemCoupon", Needs(UseCoupons), OneBook),
    ("validateCoupon", Needs(UseCoupons), OneBook),
    ("updateCoupon", Needs(ChangeCodes), OneBook),
    ("voidCoupon", Needs(VoidCoupons), OneBook),
    ("voidCoupons", Needs(VoidCoupons), OneBook),
    ("findCoupons", Needs(ReadCodes), OwnBooks),
    ("getCoupon", Needs(ReadCoupons), OneBook),
    ("getCouponHistory", Needs(ReadHistory), OneBook),
    ("listRedemptions", Needs(ReadRedemptions), OneBook),
    ("getRedemption", Needs(ReadRedemptions), OneBook),
    ("rollBackRedemption", Needs(RollBackRedemptions), OneBook),
    ("getCouponBookStatistics", Needs(ReadStatistics), OneBook),
    ("getStatistics", Needs(ReadStatistics), AllBooks),
    ("listEvents", Needs(ReadHistory), OwnBooks),
    ("getAudit", Needs(ReadAdminEvents), AllBooks),
    ("createUserPool", Needs(ManagePools), AllBooks),
    ("listUserPools", Needs(ReadPools), AllBooks),
    ("getUserPool", Needs(ReadPools), AllBooks),
    ("updateUserPool", Needs(ManagePools), AllBooks),
    ("deleteUserPool", Needs(ManagePools), AllBooks),
    ("addPoolUsers", Needs(ManagePools), AllBooks),
    ("listPoolUsers", Needs(ReadPools), AllBooks),
    ("removePoolUsers", Needs(ManagePools), AllBooks),
    ("removePoolUser", Needs(ManagePools), AllBooks),
    ("distributeCodes", Needs(Distribute), OneBook),
    ("listDistributions", Needs(ReadJobs), OneBook),
    ("getDistribution", Needs(ReadJobs), OneBook),
    ("getDistributionReport", Needs(ReadJobs), OneBook),
    ("takeBackDistribution", Needs(RevokeCoupons), OneBook),
    ("createExport", Needs(Export), OneBook),
    ("getExportFile", Needs(Export), OneBook),
    ("exportCodes", Needs(Export), OneBook),
    ("listJobs", Needs(ReadJobs), AllBooks),
    ("getJob", Needs(ReadJobs), OneBook),
    ("followJob", Needs(ReadJobs), OneBook),
    ("cancelJob", Needs(ManageJobs), OneBook),
    ("retryJob", Needs(ManageJobs), OneBook),
    ("redriveJobs", Needs(ManageJobs), AllBooks),
    ("getJobErrors", Needs(ReadJobs), OneBook),
];

impl Rule {
    /// Rejects a caller whose role or credential does not allow the operation.
    pub(crate) fn check(self, caller: &Identity) -> Result<(), Rejection> {
        match self.access {
            Account if caller.login().is_none() => {
                return Err(forbidden(
                    "an API key has no login and no password: revoke it with DELETE /api-keys/{id}",
                ));
            }
            Open | Authenticated | Account => {}
            Needs(permission) => check_permission(permission, caller)?,
        }
        if self.touches == AllBooks && caller.scope.books.is_some() {
            return Err(forbidden(
                "the API key is limited to some coupon books, and this operation concerns all of them",
            ));
        }
        Ok(())
    }
}

/// Rejects a caller whose role or API key lacks the permission.
pub(crate) fn check_permission(permission: Permission, caller: &Identity) -> Result<(), Rejection> {
    if !caller.principal.role.name().may(permission) {
        return Err(forbidden(match permission.roles() {
            [RoleName::Admin] => "only an ADMIN may do this",
            _ => "only an ADMIN or a SERVICE may do this",
        }));
    }
    if caller.login().is_some() {
        return Ok(());
    }
    if !permission.is_for_keys() {
        return Err(forbidden("an API key cannot manage users or API keys: log in as an ADMIN"));
    }
    if caller.scope.may(permission) {
        return Ok(());
    }
    Err(forbidden(&format!("the API key lacks the permission `{}`", permission.as_str())))
}

/// The role or credential does not allow it.
pub(crate) fn forbidden(reason: &str) -> Rejection {
    Rejection::Forbidden { reason: reason.to_owned() }
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
        let listed: BTreeMap<_, _> = TABLE.iter().map(|(id, access, _)| (*id, *access == Open)).collect();
        assert_eq!(listed, documented, "left: the table; right: the OpenAPI document; true: no credentials");
        assert_eq!(listed.len(), TABLE.len(), "an operation has two rows");
    }
}
