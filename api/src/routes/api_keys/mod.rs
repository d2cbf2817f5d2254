//! Keys for trusted backends.

mod doc;
mod request;
mod view;

use cuponera_core::credential::{random_secret, secret_hash};
use cuponera_core::error::Result;
use cuponera_core::id::ApiKeyId;
use cuponera_core::principal::RoleName;
use cuponera_core::store::NewApiKey;
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
/// What keys begin with, so that scanners for leaked secrets can know them.
const KEY_PREFIX: &str = "cup_";
/// How much of a key is kept to tell keys apart: the prefix and eight of its 64 characters.
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
    /// Make a key
    ///
    /// The answer has the key itself; nothing else ever will. A key can be limited to permissions and books, and expire. It is revoked
    /// when the account that made it is disabled or is no ADMIN any more.
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
        let made = caller.app.store.create_api_key(&new).await?;
        Ok(Made::Key(Json(ApiKeyView::from(made).showing(key))))
    }

    /// List keys that are valid, newest first
    ///
    /// A page may be short or empty before the end of the list: `nextCursor` alone says whether there is more.
    #[oai(path = "/", method = "get", operation_id = "listApiKeys")]
    async fn list(
        &self,
        caller: Caller,
        /// `nextCursor` of the page before.
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
    /// It stops at once in the process that answers, and within 5 seconds in others. Revoking it again is 404.
    #[oai(path = "/:id", method = "delete", operation_id = "revokeApiKey")]
    async fn revoke(
        &self,
        caller: Caller,
        /// The key.
        id: Path<Uuid>,
    ) -> Result<Gone, Problem> {
        let (app, business) = (caller.app.clone(), caller.business());
        let revoke = async move {
            let revoked = app.store.revoke_api_key(business, ApiKeyId(id.0)).await;
            app.api_keys.invalidate_all();
            revoked
        };
        caller.app.run(revoke).await?;
        Ok(Gone::Gone)
    }
}
