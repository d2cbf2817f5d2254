//! Passwords, access tokens and the secrets of keys. What can be stolen from the database is only hashes.

use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use chrono::Utc;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rand::TryRng;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::BusinessId;
use crate::principal::{Principal, Role, RoleName};

/// The shortest password taken.
pub const MIN_PASSWORD_CHARS: usize = 10;
/// The longest: hashing reads all of it.
pub const MAX_PASSWORD_CHARS: usize = 200;
/// The fewest bytes a signing secret may have: as many as the signature's hash.
pub const MIN_JWT_SECRET_BYTES: usize = 32;
/// A token longer than this is none of ours and is not looked at.
const MAX_TOKEN_BYTES: usize = 4096;
const ISSUER: &str = "cuponera";
const AUDIENCE: &str = "cuponera-api";
/// So many hashes run at once: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 2;

/// Hashes passwords with argon2id, the parameters that OWASP recommends (19 MiB, two passes, one lane), a few at a time.
#[derive(Debug)]
pub struct Passwords {
    permits: Semaphore,
    /// What the password of an unknown email is checked against, so that it takes as long as that of a known one.
    decoy: String,
}

impl Passwords {
    /// A hasher; makes its decoy at once.
    pub fn new() -> Result<Self> {
        Ok(Self {
            permits: Semaphore::new(HASHES_AT_ONCE),
            decoy: hash(&SecretString::from(random_secret(16)?))?,
        })
    }

    /// The hash to keep, in PHC form.
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        let _permit = self.permits.acquire().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || hash(&password)).await.map_err(Error::internal)?
    }

    /// Whether the password is the one of the hash. Without a hash the same work is done and the answer is no.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool> {
        let _permit = self.permits.acquire().await.map_err(Error::internal)?;
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let matches = tokio::task::spawn_blocking(move || {
            let parsed = PasswordHash::new(&hash).map_err(|error| Error::internal(error.to_string()))?;
            Ok::<_, Error>(
                Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok(),
            )
        });
        Ok(matches.await.map_err(Error::internal)?? && known)
    }
}

fn hash(password: &SecretString) -> Result<String> {
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
    Ok(hash.map_err(|error| Error::internal(error.to_string()))?.to_string())
}

/// A new secret of so many random bytes, as hex.
pub fn random_secret(bytes: usize) -> Result<String> {
    let mut raw = vec![0_u8; bytes];
    rand::rngs::SysRng.try_fill_bytes(&mut raw).map_err(Error::internal)?;
    Ok(raw.iter().fold(String::with_capacity(bytes * 2), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// What is kept of a long random secret. It needs no slow hash: there is nothing to guess.
pub fn secret_hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// Signs and checks access tokens (JWT, HS256).
pub struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    rules: Validation,
    ttl: Duration,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    iat: i64,
    exp: i64,
    business: BusinessId,
    role: RoleName,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    user_id: Option<String>,
}

impl Tokens {
    /// A signer with this secret, whose tokens live for `ttl`.
    pub fn new(secret: &SecretString, ttl: Duration) -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = 0;
        let secret = secret.expose_secret().as_bytes();
        Self {
            signing: EncodingKey::from_secret(secret),
            checking: DecodingKey::from_secret(secret),
            rules,
            ttl,
        }
    }

    /// How long a token lives.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// A token that stands for the caller.
    pub fn issue(&self, principal: &Principal) -> Result<String> {
        let now = Utc::now().timestamp();
        let user_id = match &principal.role {
            Role::User { user_id } => Some(user_id.clone()),
            Role::Admin | Role::Service => None,
        };
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: principal.id,
            iat: now,
            exp: now + i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX / 2),
            business: principal.business,
            role: principal.role.name(),
            user_id,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing).map_err(Error::internal)
    }

    /// The caller a token stands for; none if it is not ours, not for us, or has run out.
    pub fn check(&self, token: &str) -> Option<Principal> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let claims = decode::<Claims>(token, &self.checking, &self.rules).ok()?.claims;
        // RFC 7519, 4.1.4: not on or after `exp`; the library lets that second pass.
        if claims.exp <= Utc::now().timestamp() {
            return None;
        }
        let role = match (claims.role, claims.user_id) {
            (RoleName::Admin, _) => Role::Admin,
            (RoleName::Service, _) => Role::Service,
            (RoleName::User, Some(user_id)) => Role::User { user_id },
            (RoleName::User, None) => return None,
        };
        Some(Principal { business: claims.business, id: claims.sub, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &str, ttl: Duration) -> Tokens {
        Tokens::new(&SecretString::from(secret.to_owned()), ttl)
    }

    fn somebody() -> Principal {
        Principal {
            business: BusinessId::new(),
            id: Uuid::now_v7(),
            role: Role::User { user_id: "u-1".into() },
        }
    }

    #[test]
    fn a_token_stands_for_its_caller_until_it_runs_out_and_only_under_its_key() {
        let principal = somebody();
        let good = tokens(&"a".repeat(32), Duration::from_mins(1));
        let token = good.issue(&principal).unwrap();
        assert_eq!(good.check(&token), Some(principal.clone()));
        assert_eq!(tokens(&"b".repeat(32), Duration::from_mins(1)).check(&token), None);
        let over = tokens(&"a".repeat(32), Duration::ZERO).issue(&principal).unwrap();
        assert_eq!(good.check(&over), None);
        assert_eq!(good.check(&"x".repeat(100_000)), None);
        assert_eq!(good.check("eyJhbGciOiJub25lIn0.e30."), None);
    }

    #[tokio::test]
    async fn a_password_matches_its_hash_and_no_other_and_an_unknown_user_never() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse".to_owned().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".to_owned().into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned().into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned().into(), None).await.unwrap());
    }
}
