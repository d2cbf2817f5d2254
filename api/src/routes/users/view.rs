//! Accounts in responses.

use cuponera_store::Account;
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::time::Time;

/// An account.
#[derive(Debug, Object)]
#[oai(rename = "User", rename_all = "camelCase")]
pub(crate) struct UserView {
    pub(crate) id: Uuid,
    email: String,
    /// `ADMIN` or `USER`.
    role: String,
    /// The holder id in coupons.
    user_id: String,
    /// Whether logging in to this business is disabled.
    disabled: bool,
    created_at: Time,
}

impl From<Account> for UserView {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.0,
            email: account.email,
            role: account.role.as_str().into(),
            user_id: account.user_id,
            disabled: account.is_disabled,
            created_at: account.created_at.into(),
        }
    }
}
