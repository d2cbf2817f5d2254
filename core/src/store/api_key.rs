//! API keys: shown once, kept as hashes.

use chrono::{DateTime, Utc};
use sqlx::{query, query_file};

use crate::error::{Error, Refusal, Result};
use crate::id::{ApiKeyId, BusinessId};
use crate::page::{Page, Walked};
use crate::principal::{Principal, Role, RoleName};

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
    /// When it was made.
    pub created_at: DateTime<Utc>,
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
}

impl Store {
    /// Keeps a key.
    pub async fn create_api_key(&self, new: &NewApiKey) -> Result<ApiKey> {
        let id = ApiKeyId::new();
        let row = query!(
            "insert into api_key (id, business_id, name, role, secret_hash, hint) values ($1, $2, $3, $4, $5, $6)
             returning created_at",
            id.0,
            new.business.0,
            new.name,
            new.role.as_str(),
            new.secret_hash,
            new.hint
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ApiKey {
            id,
            name: new.name.clone(),
            role: new.role,
            hint: new.hint.clone(),
            created_at: row.created_at,
        })
    }

    /// The caller that a key stands for, unless it is unknown or was revoked.
    pub async fn find_api_key_principal(&self, secret_hash: &[u8]) -> Result<Option<Principal>> {
        let row = query!(
            "select id, business_id, role from api_key where secret_hash = $1 and revoked_at is null",
            secret_hash
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let role = match RoleName::parse(&row.role) {
                Some(RoleName::Admin) => Role::Admin,
                Some(RoleName::Service) => Role::Service,
                Some(RoleName::User) | None => return Err(Error::internal("an unknown role of an API key")),
            };
            Ok(Principal { business: BusinessId(row.business_id), id: row.id, role })
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
            "src/store/sql/api_keys.sql",
            business.0,
            after.map(|id| id.0),
            MAX_KEYS_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let rows = rows.into_iter().map(|row| {
            let walked = if row.is_found { Walked::Found } else { Walked::Stopped };
            Ok(walked(ApiKey {
                id: ApiKeyId(row.id),
                name: row.name,
                role: RoleName::parse(&row.role).ok_or_else(|| Error::internal("an unknown role"))?,
                hint: row.hint,
                created_at: row.created_at,
            }))
        });
        Ok(Page::of_walk(rows.collect::<Result<_>>()?, limit, |key: &ApiKey| key.id.to_string()))
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
        if done.rows_affected() == 0 { Err(Refusal::not_found("API key").into()) } else { Ok(()) }
    }
}
