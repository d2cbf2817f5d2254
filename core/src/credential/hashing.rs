//! The slow hash of passwords: a few at a time, few waiting, and the same work whether the account is known or not.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::random_secret;
use crate::error::{Error, Result};

/// So many hashes run at once: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 2;
/// So many more may wait, which is about a second's work; whoever comes then is told to come back at once, not later.
const HASHES_WAITING: usize = 64;

/// Hashes passwords with argon2id, the parameters that OWASP recommends (19 MiB, two passes, one lane).
#[derive(Debug)]
pub struct Passwords {
    /// To be here at all.
    places: Arc<Semaphore>,
    /// To have a core.
    turns: Arc<Semaphore>,
    /// What the password of an unknown email is checked against, so that it takes as long as that of a known one.
    decoy: String,
}

/// A place and a turn. They go with the work, so that a caller who goes away does not make room for one hash too many.
struct Permits {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl Passwords {
    /// A hasher; makes its decoy at once.
    pub fn new() -> Result<Self> {
        Ok(Self {
            places: Arc::new(Semaphore::new(HASHES_AT_ONCE + HASHES_WAITING)),
            turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            decoy: hash(&SecretString::from(random_secret(16)?))?,
        })
    }

    /// The hash to keep, in PHC form. `Unavailable` at once if too many are waiting.
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        self.work(move || hash(&password)).await
    }

    /// Whether the password is the one of the hash. Without a hash the same work is done and the answer is no.
    /// `Unavailable` at once if too many are waiting.
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
        let permits = self.admit().await?;
        let done = tokio::task::spawn_blocking(move || {
            let _held = permits;
            work()
        });
        done.await.map_err(Error::internal)?
    }

    async fn admit(&self) -> Result<Permits> {
        let full = |_| Error::unavailable("too many passwords are waiting to be hashed");
        let place = self.places.clone().try_acquire_owned().map_err(full)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(Error::internal)?;
        Ok(Permits { _place: place, _turn: turn })
    }
}

fn hash(password: &SecretString) -> Result<String> {
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
    Ok(hash.map_err(|error| Error::internal(error.to_string()))?.to_string())
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::future::join_all;
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_hash_and_no_other_and_an_unknown_user_never() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse".to_owned().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".to_owned().into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned().into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned().into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn when_the_queue_is_full_the_next_is_refused_at_once_and_all_that_wait_are_served() {
        let passwords = Passwords::new().unwrap();
        // No turns: whoever is let in stays.
        let turns = passwords.turns.clone().acquire_many_owned(2).await.unwrap();
        let verify = || Box::pin(passwords.verify("a guess".to_owned().into(), None));
        let mut waiting: Vec<_> = (0..HASHES_AT_ONCE + HASHES_WAITING).map(|_| verify()).collect();
        for one in &mut waiting {
            assert!(poll!(one).is_pending(), "one that found a place was not let in");
        }
        let next = poll!(verify());
        assert!(matches!(next, Poll::Ready(Err(error)) if error.is_retryable()), "one too many was let in");
        drop(turns);
        assert!(join_all(waiting).await.into_iter().all(|answer| answer.is_ok_and(|matches| !matches)));
        assert!(verify().await.is_ok(), "a place was not given back");
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_keeps_its_turn_until_its_hash_is_done() {
        let passwords = Passwords::new().unwrap();
        let mut gone: Vec<_> =
            (0..HASHES_AT_ONCE).map(|_| Box::pin(passwords.hash("x".to_owned().into()))).collect();
        for one in &mut gone {
            assert!(poll!(one).is_pending());
        }
        drop(gone);
        assert_eq!(passwords.turns.available_permits(), 0, "a hash that still runs gave its turn away");
        drop(passwords.turns.acquire_many(2).await.unwrap());
    }
}
