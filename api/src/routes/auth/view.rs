//! Logins in responses. Types with tokens implement no `Debug`.

use cuponera_store::Membership;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object};
use uuid::Uuid;

/// The tokens of a login.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct Session {
    /// Send it as `Authorization: Bearer …`.
    pub(super) access_token: String,
    /// Valid for one refresh. Absent for a browser, which gets it as a cookie.
    pub(super) refresh_token: Option<String>,
    /// `Bearer`.
    pub(super) token_type: String,
    /// Seconds until the access token expires.
    pub(super) expires_in: u64,
    /// The businesses that the account belongs to; absent after a refresh.
    pub(super) businesses: Option<Vec<MembershipView>>,
}

/// A business that an account belongs to.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Membership")]
pub(crate) struct MembershipView {
    id: Uuid,
    name: String,
    /// `ADMIN` or `USER` in this business.
    role: String,
}

impl From<Membership> for MembershipView {
    fn from(membership: Membership) -> Self {
        Self { id: membership.business.0, name: membership.name, role: membership.role.as_str().into() }
    }
}

/// The caller.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct Me {
    /// The id of the account or API key.
    pub(super) id: Uuid,
    pub(super) business_id: Uuid,
    /// `ADMIN`, `SERVICE` or `USER`.
    pub(super) role: String,
    /// The holder id; only for a USER.
    pub(super) user_id: Option<String>,
    /// Only for accounts.
    pub(super) email: Option<String>,
}

#[derive(ApiResponse)]
pub(super) enum LoginResponse {
    /// The tokens.
    #[oai(status = 200)]
    Session(
        Json<Session>,
        /// For a browser: `cuponera_refresh`, HttpOnly and SameSite=Strict, only for `/api/v1/auth`.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
pub(super) enum LogoutResponse {
    /// The login has ended.
    #[oai(status = 200)]
    Ended(
        /// For a browser: deletes the cookie.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
pub(super) enum PasswordResponse {
    /// The password is changed.
    #[oai(status = 204)]
    Changed,
}
