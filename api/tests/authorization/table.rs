//! The table of permissions: each operation with a request and the expected status for each caller in `WHO`.

/// A row of the table. Words in braces are replaced by new objects; see `World::fill_in`.
pub(super) struct Row {
    pub(super) operation: &'static str,
    /// The value of the path parameter.
    pub(super) object: &'static str,
    pub(super) query: &'static str,
    /// JSON; for uploads, the file.
    pub(super) body: &'static str,
    pub(super) statuses: [u16; 6],
}

/// All callers, also those without credentials.
const OPEN: [u16; 6] = [200; 6];
/// All callers with credentials; each sees its own data.
const KNOWN: [u16; 6] = [401, 200, 200, 200, 200, 200];
/// Admins, each in its own business.
const ADMINS: [u16; 6] = [401, 403, 403, 403, 200, 200];
/// The admin of the business that the object belongs to.
const ITS_ADMIN: [u16; 6] = [401, 403, 403, 403, 200, 404];
/// Trusted callers of the business that the object belongs to.
const TRUSTED: [u16; 6] = [401, 403, 403, 200, 200, 404];
/// Trusted callers, and the user that the request names; other users may not name it.
const HOLDER: [u16; 6] = [401, 200, 403, 200, 200, 404];

/// The same with another status for success.
const fn with_success(mut statuses: [u16; 6], success: u16) -> [u16; 6] {
    let mut place = 0;
    while place < statuses.len() {
        if statuses[place] == 200 {
            statuses[place] = success;
        }
        place += 1;
    }
    statuses
}

const fn row(operation: &'static str, object: &'static str, body: &'static str, statuses: [u16; 6]) -> Row {
    Row { operation, object, query: "", body, statuses }
}

pub(super) const TABLE: &[Row] = &[
    row("getHealth", "", "", OPEN),
    row("getLiveness", "", "", OPEN),
    row("getReadiness", "", "", OPEN),
    row("login", "", r#"{"email": "admin@shop.test", "password": "correct horse battery"}"#, OPEN),
    row("refresh", "", r#"{"refreshToken": "{refresh}"}"#, OPEN),
    // API keys have no login that could be ended.
    row("logout", "", r#"{"refreshToken": "{refresh}"}"#, [401, 200, 200, 403, 200, 200]),
    row(
        "changePassword",
        "",
        r#"{"currentPassword": "correct horse battery", "newPassword": "correct horse battery"}"#,
        [401, 204, 204, 403, 204, 204],
    ),
    // No caller belongs to that business.
    row("switchBusiness", "", r#"{"businessId": "{new}"}"#, [401, 404, 404, 403, 404, 404]),
    row("getMe", "", "", KNOWN),
    row(
        "createUser",
        "",
        r#"{"email": "{new}@shop.test", "password": "long enough", "role": "USER"}"#,
        with_success(ADMINS, 201),
    ),
    row("listUsers", "", "", ADMINS),
    row("updateUser", "{account}", r#"{"disabled": true}"#, ITS_ADMIN),
    row("createApiKey", "", r#"{"name": "A key"}"#, with_success(ADMINS, 201)),
    row("listApiKeys", "", "", ADMINS),
    row("revokeApiKey", "{key}", "", with_success(ITS_ADMIN, 204)),
    row("createWebhook", "", r#"{"url": "https://receiver.example/hooks"}"#, with_success(ADMINS, 201)),
    row("listWebhooks", "", "", ADMINS),
    row("getWebhook", "{webhook}", "", ITS_ADMIN),
    row("updateWebhook", "{webhook}", r#"{"enabled": false}"#, ITS_ADMIN),
    row("deleteWebhook", "{webhook}", "", with_success(ITS_ADMIN, 204)),
    row("rotateWebhookSecret", "{webhook}", "", ITS_ADMIN),
    row("testWebhook", "{webhook}", "", with_success(ITS_ADMIN, 202)),
    row("replayWebhook", "{webhook}", r#"{"since": "2026-01-01T00:00:00Z"}"#, with_success(ITS_ADMIN, 202)),
    row("replayWebhookDelivery", "{delivery}", "", with_success(ITS_ADMIN, 202)),
    row("listWebhookDeliveries", "{webhook}", "", ITS_ADMIN),
    row("createCouponBook", "", r#"{"name": "A book"}"#, [401, 403, 403, 201, 201, 201]),
    row("listCouponBooks", "", "", KNOWN),
    row("getCouponBook", "{book}", "", [401, 200, 200, 200, 200, 404]),
    row("updateCouponBook", "{book}", r#"{"name": "Another name"}"#, TRUSTED),
    row("replaceCouponBook", "{book}", r#"{"name": "Another name"}"#, TRUSTED),
    row("deleteCouponBook", "{book}", "", with_success(TRUSTED, 204)),
    row("cloneCouponBook", "{book}", "{}", with_success(TRUSTED, 201)),
    row("voidCouponBook", "{book}", r#"{"reason": "a reason"}"#, with_success(TRUSTED, 202)),
    Row { query: "?couponBookId={book}", ..row("getCapacity", "", "", TRUSTED) },
    row("createCode", "", r#"{"couponBookId": "{public}", "code": "{new}"}"#, with_success(TRUSTED, 201)),
    row("generateCodes", "", r#"{"couponBookId": "{book}", "quantity": 1}"#, with_success(TRUSTED, 202)),
    Row { query: "?couponBookId={book}", ..row("uploadCodes", "", "{new}", with_success(TRUSTED, 202)) },
    row("listCodes", "{book}", "", TRUSTED),
    row("assignRandom", "", r#"{"couponBookId": "{stock}", "userId": "ann"}"#, with_success(HOLDER, 201)),
    row("assignCode", "{free}", r#"{"userId": "ann"}"#, with_success(TRUSTED, 201)),
    Row {
        query: "?couponBookId={stock}",
        ..row("uploadAssignments", "", "{free},ann", with_success(TRUSTED, 202))
    },
    row("revokeCode", "{held}", r#"{"reason": "a reason"}"#, TRUSTED),
    row("listUserCoupons", "ann", "", [401, 200, 403, 200, 200, 200]),
    row("getCouponBookStatistics", "{book}", "", TRUSTED),
    row("getStatistics", "", "", [401, 403, 403, 200, 200, 200]),
    row("getAudit", "", "", ADMINS),
    row("createUserPool", "", r#"{"name": "{new}"}"#, [401, 403, 403, 201, 201, 201]),
    row("listUserPools", "", "", [401, 403, 403, 200, 200, 200]),
    row("getUserPool", "{pool}", "", TRUSTED),
    row("updateUserPool", "{pool}", r#"{"name": "{new}"}"#, TRUSTED),
    row("deleteUserPool", "{pool}", "", with_success(TRUSTED, 204)),
    row("addPoolUsers", "{pool}", r#"{"userIds": ["eva"]}"#, TRUSTED),
    row("listPoolUsers", "{pool}", "", TRUSTED),
    row("removePoolUsers", "{pool}", r#"{"userIds": ["ann"]}"#, TRUSTED),
    row("removePoolUser", "{pool}", "", with_success(TRUSTED, 204)),
    row(
        "distributeCodes",
        "{pool}",
        r#"{"couponBookId": "{stock}", "mode": "EQUAL", "codesPerUser": 1}"#,
        with_success(TRUSTED, 202),
    ),
    row("listDistributions", "", "", [401, 403, 403, 200, 200, 200]),
    row("getDistribution", "{distribution}", "", TRUSTED),
    row("getDistributionReport", "{distribution}", "", TRUSTED),
    row("takeBackDistribution", "{given}", r#"{"reason": "a reason"}"#, with_success(TRUSTED, 202)),
    row("createExport", "", r#"{"kind": "CODES", "couponBookId": "{book}"}"#, with_success(TRUSTED, 202)),
    // Allowed, but the job is not an export.
    row("getExportFile", "{job}", "", [401, 403, 403, 404, 404, 404]),
    row("exportCodes", "{book}", "", TRUSTED),
    row("listJobs", "", "", [401, 403, 403, 200, 200, 200]),
    row("getJob", "{job}", "", TRUSTED),
    row("cancelJob", "{job}", "", TRUSTED),
    // Allowed, but a job that has not failed cannot be retried.
    row("retryJob", "{job}", "", with_success(TRUSTED, 409)),
    row("redriveJobs", "", "", [401, 403, 403, 200, 200, 200]),
    row("getJobErrors", "{job}", "", TRUSTED),
    // The job has ended: the stream of an open job would not end.
    row("followJob", "{over}", "", TRUSTED),
    row("lockCoupon", "{held}", r#"{"userId": "ann"}"#, HOLDER),
    row("unlockCoupon", "{held}", r#"{"userId": "ann"}"#, HOLDER),
    row("redeemCoupon", "{held}", r#"{"userId": "ann"}"#, HOLDER),
    row("validateCoupon", "{held}", r#"{"userId": "ann"}"#, HOLDER),
    row("updateCoupon", "{held}", r#"{"suspended": true}"#, TRUSTED),
    row("voidCoupon", "{held}", r#"{"reason": "a reason"}"#, TRUSTED),
    row(
        "voidCoupons",
        "",
        r#"{"reason": "a reason", "filter": {"couponBookId": "{book}"}}"#,
        with_success(TRUSTED, 202),
    ),
    // A USER sees its own; the list of another business is another one.
    row("listRedemptions", "", "", KNOWN),
    row("getRedemption", "{redemption}", "", [401, 200, 404, 200, 200, 404]),
    row("rollBackRedemption", "{redemption}", r#"{"reason": "a reason"}"#, TRUSTED),
    // Those of another business are none.
    Row { query: "?q=NONE", ..row("findCoupons", "", "", [401, 403, 403, 200, 200, 200]) },
    Row { query: "?couponBookId={book}", ..row("listEvents", "", "", TRUSTED) },
    row("getCoupon", "{held}", "", [401, 200, 404, 200, 200, 404]),
    row("getCouponHistory", "{held}", "", TRUSTED),
];

/// The operations on a free code of a BEARER book, which a USER may present. A trusted caller may redeem it without a user.
pub(super) const PRESENTED: &[Row] = &[
    row("getCoupon", "{presented}", "", [401, 200, 200, 200, 200, 404]),
    row("lockCoupon", "{presented}", r#"{"userId": "ann"}"#, HOLDER),
    row("lockCoupon", "{presented}", "{}", [401, 200, 200, 422, 422, 422]),
    row("redeemCoupon", "{presented}", r#"{"userId": "ann"}"#, HOLDER),
    row("redeemCoupon", "{presented}", "{}", [401, 200, 200, 200, 200, 404]),
    row("validateCoupon", "{presented}", r#"{"userId": "ann"}"#, HOLDER),
    row("validateCoupon", "{presented}", "{}", [401, 200, 200, 200, 200, 404]),
    // It has no lock and no holder.
    row("unlockCoupon", "{presented}", r#"{"userId": "ann"}"#, [401, 409, 403, 409, 409, 404]),
    row("getCouponHistory", "{presented}", "", TRUSTED),
];

/// The operations on a code of a SHARED book, which has no holder: each USER may use it for itself.
pub(super) const SHARED: &[Row] = &[
    row("getCoupon", "{shared}", "", [401, 200, 200, 200, 200, 404]),
    Row { query: "?userId=ann", ..row("getCoupon", "{shared}", "", [401, 200, 403, 200, 200, 404]) },
    row("lockCoupon", "{shared}", r#"{"userId": "ann"}"#, HOLDER),
    row("lockCoupon", "{shared}", "{}", [401, 200, 200, 422, 422, 422]),
    row("unlockCoupon", "{shared}", r#"{"userId": "ann"}"#, HOLDER),
    row("redeemCoupon", "{shared}", r#"{"userId": "ann"}"#, HOLDER),
    row("redeemCoupon", "{shared}", "{}", [401, 200, 200, 422, 422, 404]),
    row("validateCoupon", "{shared}", r#"{"userId": "ann"}"#, HOLDER),
    row("validateCoupon", "{shared}", "{}", [401, 200, 200, 422, 422, 404]),
    row("updateCoupon", "{shared}", r#"{"maxRedemptions": 5}"#, TRUSTED),
    row("voidCoupon", "{shared}", r#"{"reason": "a reason"}"#, TRUSTED),
    row("getCouponHistory", "{shared}", "", TRUSTED),
    row("assignCode", "{shared}", r#"{"userId": "ann"}"#, with_success(TRUSTED, 409)),
];
