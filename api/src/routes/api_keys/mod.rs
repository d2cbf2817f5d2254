//! The operations on API keys.

mod doc;
mod request;
mod view;

use cuponera_domain::id::ApiKeyId;
use cuponera_domain::principal::RoleName;
use cuponera_platform::credential::{random_secret, secret_hash};
use cuponera_store::NewApiKey;
use cuponera_store::Result;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::{List, Tag, cursor, limit};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::problem::Problem;
use request::NewKey;
use view::ApiKeyView;

pub(super) use doc::operations;

/// Bytes of randomness in a key.
const KEY_BYTES: usize = 32;
/// The prefix of keys, by which scanners for leaked secrets recognize them.
const KEY_PREFIX: &str = "cup_";
/// The length of the stored beginning of a key: the prefix and eight of its 64 characters.
const HINT_CHARS: usize = 12;

pub(crate) struct ApiKeys;

#[derive(ApiResponse)]
enum Made {
    /// The key, shown once.
    #[oai(status = 201)]
    Key(Json<ApiKeyView>),
}

#[derive(ApiResponse)]
enum Gone {
    /// It is no longer valid.
    #[oai(status = 204)]
    Gone,
}

#[OpenApi(prefix_path = "/api/v1/api-keys", tag = "Tag::ApiKeys")]
impl ApiKeys {
    /// Create a key
    ///
    /// Only this response contains the key itself. A key can be limited to permissions and books, and can expire. It is revoked
    /// when the account that created it is disabled or loses the role ADMIN.
    #[oai(path = "/", method = "post", operation_id = "createApiKey")]
    async fn create(&self, caller: Caller, body: Body<NewKey>) -> Result<Made, Problem> {
        let key = format!("{KEY_PREFIX}{}", random_secret(KEY_BYTES)?);
        let new = NewApiKey {
            business: caller.business(),
            name: body.value.name,
            role: body.value.role_name.unwrap_or(RoleName::Service),
            secret_hash: secret_hash(&key),
            hint: key.chars().take(HINT_CHARS).collect(),
            scope: body.value.limits.scope,
            created_by: Some(caller.account()?.0),
            expires_at: body.value.limits.expires_at,
        };
        let store = caller.store();
        let made = caller.app.run(async move { store.create_api_key(&new).await }).await?;
        Ok(Made::Key(Json(ApiKeyView::from(made).showing(key))))
    }

    /// List valid keys, newest first
    ///
    /// A page may be short or empty before the end of the list: only `nextCursor` shows whether there are more.
    #[oai(path = "/", method = "get", operation_id = "listApiKeys")]
    async fn list(
        &self,
        caller: Caller,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<ApiKeyView>>, Problem> {
        let after = self::cursor(cursor.0, |text| text.parse::<ApiKeyId>().ok())?;
        let page = caller.app.store.list_api_keys(caller.business(), after, self::limit(limit.0)?).await?;
        Ok(Json(List::of(page, ApiKeyView::from)))
    }

    /// Revoke a key
    ///
    /// The key stops working immediately in the process that responds, and within 5 seconds in others. A repeated call is 404.
    #[oai(path = "/:id", method = "delete", operation_id = "revokeApiKey")]
    async fn revoke(
        &self,
        caller: Caller,
        /// The key.
        id: Path<Uuid>,
    ) -> Result<Gone, Problem> {
        let (app, store, business) = (caller.app.clone(), caller.store(), caller.business());
        let revoke = async move {
            let revoked = store.revoke_api_key(business, ApiKeyId(id.0)).await;
            app.api_keys.invalidate_all();
            revoked
        };
        caller.app.run(revoke).await?;
        Ok(Gone::Gone)
    }
}
