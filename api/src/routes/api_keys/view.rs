//! API keys in responses.

use cuponera_core::store::ApiKey;
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::time::Time;

/// An API key, without its secret.
#[derive(Debug, Object)]
#[oai(rename = "ApiKey", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct ApiKeyView {
    pub(crate) id: Uuid,
    name: String,
    /// `ADMIN` or `SERVICE`.
    role: String,
    /// How the key begins, to tell keys apart.
    hint: String,
    /// The permissions that the key is limited to; absent if it has all of its role.
    permissions: Option<Vec<String>>,
    /// The books that the key is limited to; absent if it may touch all of them.
    coupon_book_ids: Option<Vec<Uuid>>,
    /// The account that made it; absent for keys that earlier versions made.
    created_by: Option<Uuid>,
    created_at: Time,
    /// When it expires; absent if never.
    expires_at: Option<Time>,
    /// When it was last used, to the minute; absent if never.
    last_used_at: Option<Time>,
    /// The key itself: shown here once and never again.
    key: Option<String>,
}

impl ApiKeyView {
    /// The same with the key itself.
    pub(crate) fn showing(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name,
            role: key.role.as_str().into(),
            hint: key.hint,
            permissions: key.scope.permissions.map(|permissions| {
                permissions.into_iter().map(|permission| permission.as_str().to_owned()).collect()
            }),
            coupon_book_ids: key.scope.books.map(|books| books.into_iter().map(|book| book.0).collect()),
            created_by: key.created_by.map(|account| account.0),
            created_at: key.created_at.into(),
            expires_at: key.expires_at.map(Time::from),
            last_used_at: key.last_used_at.map(Time::from),
            key: None,
        }
    }
}
