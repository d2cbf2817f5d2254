//! Keys for trusted backends.

use chrono::{DateTime, Utc};
use cuponera_core::credential::{random_secret, secret_hash};
use cuponera_core::error::Result;
use cuponera_core::id::{ApiKeyId, BookId};
use cuponera_core::principal::{KeyScope, Permission, RoleName};
use cuponera_core::store::NewApiKey;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use uuid::Uuid;

use super::{Tag, cursor, limit};
use crate::auth::caller::Caller;
use crate::http::body::{Body, Fields, FromFields};
use crate::http::problem::Problem;
use crate::http::time::Time;
use crate::routes::view::{ApiKeyView, List};

/// Bytes of randomness in a key.
const KEY_BYTES: usize = 32;
/// What keys begin with, so that scanners for leaked secrets can know them.
const KEY_PREFIX: &str = "cup_";
/// How much of a key is kept to tell keys apart: the prefix and eight of its 64 characters.
const HINT_CHARS: usize = 12;

/// The most books that a key is limited to.
const MAX_BOOKS: usize = 100;
/// The longest name.
const MAX_NAME_CHARS: usize = 100;

pub(crate) struct ApiKeys;

/// A key to be made.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct NewKey {
    /// For people, 1 to 100 characters on one line; blanks around them are left out.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// `SERVICE` (the default) or `ADMIN`.
    role: Option<String>,
    /// The permissions that the key has of its role's, as docs/permissions.md names them; all of them if absent. No key may manage
    /// users or API keys.
    #[oai(validator(min_items = 1))]
    permissions: Option<Vec<String>>,
    /// The books that the key may touch, 100 at most; all of them if absent.
    #[oai(validator(min_items = 1, max_items = 100))]
    coupon_book_ids: Option<Vec<Uuid>>,
    /// When the key expires; never if absent.
    expires_at: Option<Time>,
    #[oai(skip)]
    role_name: Option<RoleName>,
    #[oai(skip)]
    limits: Limits,
}

/// The limits of a key, read.
#[derive(Debug, Default, Clone)]
struct Limits {
    scope: KeyScope,
    expires_at: Option<DateTime<Utc>>,
}

impl FromFields for NewKey {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required::<String>("name").map(|name| name.trim().to_owned());
        if let Some(Err(fault)) = name.as_deref().map(check_name) {
            fields.fault("name", fault);
        }
        let role = fields.optional::<String>("role");
        let role_name = role.as_ref().and_then(|role| fields.word("role", role, key_role, "SERVICE, ADMIN"));
        let permissions = fields.optional::<Vec<String>>("permissions");
        let allowed = permissions.as_deref().and_then(|names| {
            let read = permissions_of(names, role_name.unwrap_or(RoleName::Service));
            read.map_err(|fault| fields.fault("permissions", fault)).ok()
        });
        let coupon_book_ids = fields.optional::<Vec<Uuid>>("couponBookIds");
        if coupon_book_ids.as_ref().is_some_and(|ids| !(1..=MAX_BOOKS).contains(&ids.len())) {
            fields.fault("couponBookIds", "must have 1 to 100 ids");
        }
        let expires_at = fields.optional::<DateTime<Utc>>("expiresAt");
        if expires_at.is_some_and(|time| time <= Utc::now()) {
            fields.fault("expiresAt", "must be in the future");
        }
        let books = coupon_book_ids.as_ref().map(|ids| ids.iter().copied().map(BookId).collect());
        let limits = Limits { scope: KeyScope { permissions: allowed, books }, expires_at };
        let expires_at = expires_at.map(Time::from);
        Some(Self { name: name?, role, permissions, coupon_book_ids, expires_at, role_name, limits })
    }
}

/// The permissions of these names, if a key of the role may be limited to them.
fn permissions_of(names: &[String], role: RoleName) -> Result<Vec<Permission>, String> {
    let is_allowed = |permission: &Permission| role.may(*permission) && permission.is_for_keys();
    let mut permissions = Vec::new();
    for name in names {
        let known = Permission::parse(name).filter(is_allowed);
        let Some(permission) = known else {
            let allowed: Vec<&str> = Permission::all().filter(is_allowed).map(Permission::as_str).collect();
            return Err(format!(
                "`{name}` is not among the permissions of the role that a key can be limited to: {}",
                allowed.join(", ")
            ));
        };
        if !permissions.contains(&permission) {
            permissions.push(permission);
        }
    }
    if permissions.is_empty() { Err("must have one permission or more".to_owned()) } else { Ok(permissions) }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) {
        Err("must have 1 to 100 characters besides the blanks around them")
    } else if name.chars().any(char::is_control) {
        Err("must be on one line, without control characters")
    } else {
        Ok(())
    }
}

fn key_role(name: &str) -> Option<RoleName> {
    match name {
        "ADMIN" => Some(RoleName::Admin),
        "SERVICE" => Some(RoleName::Service),
        _ => None,
    }
}

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
            app.api_keys.forget_all();
            revoked
        };
        caller.app.run(revoke).await?;
        Ok(Gone::Gone)
    }
}
