//! The slow hash of passwords. At most [`HASHES_AT_ONCE`] run at once, and unknown accounts cost the same work as known
//! ones. The order of waiting hashes is the caller's responsibility.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::random_secret;
use cuponera_store::{Error, Result};

/// Maximum number of concurrent hashes: each uses 19 MiB and a core.
pub const HASHES_AT_ONCE: usize = 2;

/// Hashes passwords with argon2id and the parameters that OWASP recommends (19 MiB, two passes, one lane).
#[derive(Debug)]
pub struct Argon2Hasher {
    /// A permit moves into the blocking work, so that a cancelled caller does not free it while its hash still runs.
    permits: Arc<Semaphore>,
    /// The hash for unknown emails, so that checking them takes as long as checking known ones.
    decoy: String,
}

impl Argon2Hasher {
    /// Creates a hasher and its decoy hash.
    pub fn new() -> Result<Self> {
        Ok(Self {
            permits: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            decoy: hash(&SecretString::from(random_secret(16)?))?,
        })
    }

    /// The hash to store, in PHC form.
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        self.work(move || hash(&password)).await
    }

    /// Whether the password matches the hash. Without a hash the same work is done, and the result is false.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let matches = self.work(move || {
            let parsed = PasswordHash::new(&hash).map_err(|error| Error::internal(error.to_string()))?;
            Ok(Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok())
        });
        Ok(matches.await? && known)
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let turn = self.permits.clone().acquire_owned().await.map_err(Error::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let _held = turn;
            work()
        });
        done.await.map_err(Error::internal)?
    }
}

fn hash(password: &SecretString) -> Result<String> {
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
    Ok(hash.map_err(|error| Error::internal(error.to_string()))?.to_string())
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_hash_and_no_other_and_an_unknown_user_never() {
        let passwords = Argon2Hasher::new().unwrap();
        let hash = passwords.hash("correct horse".to_owned().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".to_owned().into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned().into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned().into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_keeps_its_turn_until_its_hash_is_done() {
        let passwords = Argon2Hasher::new().unwrap();
        let mut gone: Vec<_> =
            (0..HASHES_AT_ONCE).map(|_| Box::pin(passwords.hash("x".to_owned().into()))).collect();
        for one in &mut gone {
            assert!(poll!(one).is_pending());
        }
        drop(gone);
        assert_eq!(passwords.permits.available_permits(), 0, "a hash that still runs gave its turn away");
        drop(passwords.permits.acquire_many(2).await.unwrap());
    }
}
