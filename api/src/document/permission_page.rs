//! The page of permissions, docs/permissions.md, generated from the tables that the API checks.

use std::fmt::Write;

use cuponera_domain::principal::{Permission, RoleName};

use crate::auth::policy::{self, Access};

const HEAD: &str = "# Permissions

`cuponera openapi --format permissions` writes this page from the tables that the API checks.

Each operation needs one permission, and some requests another one in addition. A role has the permissions that are marked; a USER has them only for itself: its own coupons,
free codes of `BEARER` books, codes of `SHARED` books, and books that are `ACTIVE`. An API key has all permissions of its role, or those it was limited to when it was created
(`permissions`). A key can also be limited to books (`couponBookIds`): it may then call only operations on one of them, and on the codes
and jobs of one of them. No API key, whatever its role, has `users:manage` and `api-keys:manage`: these need the access token of an ADMIN.

| permission | allows to | ADMIN | SERVICE | USER | operations |
|---|---|---|---|---|---|
";

/// The page.
pub(crate) fn permission_page() -> String {
    let mut page = HEAD.to_owned();
    for permission in Permission::all() {
        let mark = |role: RoleName| if role.may(permission) { "yes" } else { "" };
        let operations: Vec<String> = policy::operations()
            .filter(|(_, access)| *access == Access::Needs(permission))
            .map(|(operation, _)| format!("`{operation}`"))
            .collect();
        let operations = match permission {
            Permission::ForceUnlock => "`unlockCoupon` with `force`".to_owned(),
            Permission::ReadAdminEvents => {
                format!("{}, `listEvents` with `kind=ADMIN`", operations.join(" "))
            }
            _ => operations.join(" "),
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {operations} |",
            permission.as_str(),
            permission.meaning(),
            mark(RoleName::Admin),
            mark(RoleName::Service),
            mark(RoleName::User),
        );
    }
    let named = |wanted: Access| {
        let operations = policy::operations().filter(|(_, access)| *access == wanted);
        operations.map(|(operation, _)| format!("`{operation}`")).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(
        page,
        "\nWithout a permission: {} (no credentials), {} (every caller), {} (every account, by access token).",
        named(Access::Open),
        named(Access::Authenticated),
        named(Access::Account),
    );
    page
}
