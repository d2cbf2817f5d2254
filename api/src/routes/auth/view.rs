//! Logins in responses. Types with tokens implement no `Debug`.

use cuponera_core::store::Membership;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object};
use uuid::Uuid;

/// What a login gives.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct Session {
    /// Send it as `Authorization: Bearer …`.
    pub(super) access_token: String,
    /// Good for one refresh. Absent for a browser, which gets it as a cookie.
    pub(super) refresh_token: Option<String>,
    /// `Bearer`.
    pub(super) token_type: String,
    /// Seconds until the access token runs out.
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
    /// `ADMIN` or `USER` there.
    role: String,
}

impl From<Membership> for MembershipView {
    fn from(membership: Membership) -> Self {
        Self { id: membership.business.0, name: membership.name, role: membership.role.as_str().into() }
    }
}

/// Who calls.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct Me {
    /// Of the account or API key.
    pub(super) id: Uuid,
    pub(super) business_id: Uuid,
    /// `ADMIN`, `SERVICE` or `USER`.
    pub(super) role: String,
    /// The holder id, for users.
    pub(super) user_id: Option<String>,
    /// For accounts.
    pub(super) email: Option<String>,
}

#[derive(ApiResponse)]
pub(super) enum Given {
    /// The tokens.
    #[oai(status = 200)]
    Session(
        Json<Session>,
        /// For a browser: `cuponera_refresh`, HttpOnly and SameSite=Strict, for `/api/v1/auth` alone.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Ended {
    /// The login has ended.
    #[oai(status = 200)]
    Ended(
        /// For a browser: takes the cookie away.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Changed {
    /// The new password holds.
    #[oai(status = 204)]
    Changed,
}
