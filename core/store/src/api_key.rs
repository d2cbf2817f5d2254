//! API keys: shown once, kept as hashes.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::{query, query_file};
use uuid::Uuid;

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::id::{AccountId, ApiKeyId, BookId, BusinessId};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::principal::{KeyScope, Permission, Principal, Role, RoleName};
use cuponera_domain::rejection::Rejection;

use super::Store;

/// How many keys a page examines: revoked ones are kept. A row has some 200 bytes.
const MAX_KEYS_EXAMINED: i64 = 1_000;

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// For people.
    pub name: String,
    /// `ADMIN` or `SERVICE`.
    pub role: RoleName,
    /// The first characters of the key, to tell keys apart.
    pub hint: String,
    /// What it is limited to.
    pub scope: KeyScope,
    /// The account that made it; keys of versions before 0.2 have none.
    pub created_by: Option<AccountId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it expires, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The caller that a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    /// Its business and role.
    pub principal: Principal,
    /// What the key is limited to.
    pub scope: KeyScope,
}

/// A key to be kept: only its hash is.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The tenant.
    pub business: BusinessId,
    /// For people.
    pub name: String,
    /// `ADMIN` or `SERVICE`.
    pub role: RoleName,
    /// SHA-256 of the key.
    pub secret_hash: Vec<u8>,
    /// The first characters of the key.
    pub hint: String,
    /// What it is limited to.
    pub scope: KeyScope,
    /// The account that makes it. The key ends when that may no longer make keys; one without depends on no account.
    pub created_by: Option<AccountId>,
    /// When it expires, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

impl NewApiKey {
    /// The hash that the key is found by. One with a limit has another, by which programs that know no limits do not find it.
    fn stored_hash(&self) -> Vec<u8> {
        if self.scope.is_limited() || self.expires_at.is_some() {
            limited_hash(&self.secret_hash)
        } else {
            self.secret_hash.clone()
        }
    }
}

/// The hash of a key with a limit.
fn limited_hash(secret_hash: &[u8]) -> Vec<u8> {
    Sha256::digest(secret_hash).to_vec()
}

impl Store {
    /// Keeps a key. Its books must be books of the business, and the account that makes it must still be allowed to.
    pub async fn create_api_key(&self, new: &NewApiKey) -> Result<ApiKey> {
        let id = ApiKeyId::generate();
        let books: Option<Vec<Uuid>> =
            new.scope.books.as_ref().map(|books| books.iter().map(|book| book.0).collect());
        let permissions: Option<Vec<String>> =
            new.scope.permissions.as_ref().map(|permissions| {
                permissions.iter().map(|permission| permission.as_str().to_owned()).collect()
            });
        let row = query_file!(
            "src/sql/create_api_key.sql",
            id.0,
            new.business.0,
            new.name,
            new.role.as_str(),
            new.stored_hash(),
            new.hint,
            permissions.as_deref(),
            books.as_deref(),
            new.expires_at,
            new.created_by.map(|account| account.0),
            &roles_that_create_keys()
        )
        .fetch_one(&self.pool)
        .await?;
        let created_at = match (row.may_create, row.created_at) {
            (true, Some(created_at)) => created_at,
            (true, None) => return Err(Rejection::not_found("coupon book").into()),
            (false, _) => {
                let reason = "the account may no longer make API keys".to_owned();
                return Err(Rejection::Forbidden { reason }.into());
            }
        };
        Ok(ApiKey {
            id,
            name: new.name.clone(),
            role: new.role,
            hint: new.hint.clone(),
            scope: new.scope.clone(),
            created_by: new.created_by,
            created_at,
            expires_at: new.expires_at,
            last_used_at: None,
        })
    }

    /// The caller that a key stands for, unless it is unknown, has expired or was revoked, or the account that made it may no longer
    /// make keys. Notes the use, once a minute at most.
    pub async fn find_key_holder(&self, secret_hash: &[u8]) -> Result<Option<KeyHolder>> {
        let row = query_file!(
            "src/sql/find_key_holder.sql",
            secret_hash,
            limited_hash(secret_hash),
            &roles_that_create_keys()
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let role = match RoleName::parse(&row.role) {
                Some(RoleName::Admin) => Role::Admin,
                Some(RoleName::Service) => Role::Service,
                Some(RoleName::User) | None => return Err(Error::internal("an unknown role of an API key")),
            };
            let principal = Principal { business: BusinessId(row.business_id), id: row.id, role };
            Ok(KeyHolder { principal, scope: scope_of(row.permissions, row.book_ids) })
        })
        .transpose()
    }

    /// A business's live keys, newest first. A page may be short.
    pub async fn list_api_keys(
        &self,
        business: BusinessId,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Page<ApiKey>> {
        let rows = query_file!(
            "src/sql/api_keys.sql",
            business.0,
            after.map(|id| id.0),
            MAX_KEYS_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let rows = rows.into_iter().map(|row| {
            let examined = if row.is_found { ExaminedRow::Found } else { ExaminedRow::Stopped };
            Ok(examined(ApiKey {
                id: ApiKeyId(row.id),
                name: row.name,
                role: RoleName::parse(&row.role).ok_or_else(|| Error::internal("an unknown role"))?,
                hint: row.hint,
                scope: scope_of(row.permissions, row.book_ids),
                created_by: row.created_by.map(AccountId),
                created_at: row.created_at,
                expires_at: row.expires_at,
                last_used_at: row.last_used_at,
            }))
        });
        Ok(Page::of_examined(rows.collect::<Result<_>>()?, limit, |key: &ApiKey| key.id.to_string()))
    }

    /// Ends a key for good.
    pub async fn revoke_api_key(&self, business: BusinessId, id: ApiKeyId) -> Result<()> {
        let done = query!(
            "update api_key set revoked_at = now() where id = $1 and business_id = $2 and revoked_at is null",
            id.0,
            business.0
        )
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 { Err(Rejection::not_found("API key").into()) } else { Ok(()) }
    }
}

/// The roles of accounts that may make keys.
fn roles_that_create_keys() -> Vec<String> {
    Permission::ManageApiKeys.roles().iter().map(|role| role.as_str().to_owned()).collect()
}

/// A key's limits as they are stored. Permissions that only newer programs know allow nothing here.
fn scope_of(permissions: Option<Vec<String>>, books: Option<Vec<Uuid>>) -> KeyScope {
    let known = |names: Vec<String>| names.iter().filter_map(|name| Permission::parse(name)).collect();
    KeyScope {
        permissions: permissions.map(known),
        books: books.map(|ids| ids.into_iter().map(BookId).collect()),
    }
}
