//! API keys. A key is shown once; only its hash is stored.

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

/// Maximum number of keys that a page examines, because revoked keys stay in the table. A row has about 200 bytes.
const MAX_KEYS_EXAMINED: i64 = 1_000;

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Shown to people.
    pub name: String,
    /// `ADMIN` or `SERVICE`.
    pub role: RoleName,
    /// The first characters of the key, to tell keys apart.
    pub hint: String,
    /// Its limits.
    pub scope: KeyScope,
    /// The account that created it. Keys of versions before 0.2 have none.
    pub created_by: Option<AccountId>,
    /// Time of creation.
    pub created_at: DateTime<Utc>,
    /// Expiry, if any.
    pub expires_at: Option<DateTime<Utc>>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The caller that an API key identifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    /// Its business and role.
    pub principal: Principal,
    /// The limits of the key.
    pub scope: KeyScope,
}

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The tenant.
    pub business: BusinessId,
    /// Shown to people.
    pub name: String,
    /// `ADMIN` or `SERVICE`.
    pub role: RoleName,
    /// SHA-256 of the key.
    pub secret_hash: Vec<u8>,
    /// The first characters of the key.
    pub hint: String,
    /// Its limits.
    pub scope: KeyScope,
    /// The account that creates it. The key is revoked when this account may no longer create keys; `None`: it depends
    /// on no account.
    pub created_by: Option<AccountId>,
    /// Expiry, if any.
    pub expires_at: Option<DateTime<Utc>>,
}

impl NewApiKey {
    /// The stored hash. A key with limits has a different hash, so that programs that do not know limits do not find
    /// it.
    fn stored_hash(&self) -> Vec<u8> {
        if self.scope.is_limited() || self.expires_at.is_some() {
            limited_hash(&self.secret_hash)
        } else {
            self.secret_hash.clone()
        }
    }
}

/// The stored hash of a key with limits.
fn limited_hash(secret_hash: &[u8]) -> Vec<u8> {
    Sha256::digest(secret_hash).to_vec()
}

impl Store {
    /// Stores a key. Its books must belong to the business, and the account that creates it must have the permission.
    pub async fn create_api_key(&self, new: &NewApiKey) -> Result<ApiKey> {
        let id = ApiKeyId::generate();
        let books: Option<Vec<Uuid>> =
            new.scope.books.as_ref().map(|books| books.iter().map(|book| book.0).collect());
        let permissions: Option<Vec<String>> =
            new.scope.permissions.as_ref().map(|permissions| {
                permissions.iter().map(|permission| permission.as_str().to_owned()).collect()
            });
        let mut transaction = self.begin().await?;
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
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let created_at = match (row.may_create, row.created_at) {
            (true, Some(created_at)) => created_at,
            (true, None) => return Err(Rejection::not_found("coupon book").into()),
            (false, _) => {
                let reason = "the account may no longer create API keys".to_owned();
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

    /// The caller of a key. `None` if the key is unknown, expired or revoked, or if the account that created it may no
    /// longer create keys. Records the use, at most once a minute.
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

    /// A business's live keys, newest first. A page may have fewer keys than the limit.
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

    /// Revokes a key permanently.
    pub async fn revoke_api_key(&self, business: BusinessId, id: ApiKeyId) -> Result<()> {
        let mut transaction = self.begin().await?;
        let done = query!(
            "update api_key set revoked_at = now() where id = $1 and business_id = $2 and revoked_at is null",
            id.0,
            business.0
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if done.rows_affected() == 0 { Err(Rejection::not_found("API key").into()) } else { Ok(()) }
    }
}

/// The roles of accounts that may create keys.
fn roles_that_create_keys() -> Vec<String> {
    Permission::ManageApiKeys.roles().iter().map(|role| role.as_str().to_owned()).collect()
}

/// The limits of a stored key. Permissions that only newer versions know are ignored.
fn scope_of(permissions: Option<Vec<String>>, books: Option<Vec<Uuid>>) -> KeyScope {
    let known = |names: Vec<String>| names.iter().filter_map(|name| Permission::parse(name)).collect();
    KeyScope {
        permissions: permissions.map(known),
        books: books.map(|ids| ids.into_iter().map(BookId).collect()),
    }
}
