//! API keys in responses.

use cuponera_store::ApiKey;
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
    /// The beginning of the key, to identify it.
    hint: String,
    /// The permissions to which the key is limited; absent if it has all of its role.
    permissions: Option<Vec<String>>,
    /// The books to which the key is limited; absent if it may use all books.
    coupon_book_ids: Option<Vec<Uuid>>,
    /// The account that created it; absent for keys from earlier versions.
    created_by: Option<Uuid>,
    created_at: Time,
    /// The time of expiry; absent if there is none.
    expires_at: Option<Time>,
    /// The time of the last use, to the minute; absent if it was never used.
    last_used_at: Option<Time>,
    /// The key itself. Only the response that creates it contains it.
    key: Option<String>,
}

impl ApiKeyView {
    /// Adds the key itself.
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
