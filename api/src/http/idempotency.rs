//! `Idempotency-Key`: a repeated request with the same key returns the stored response.

use std::sync::Arc;

use cuponera_domain::rejection::Rejection;
use cuponera_store::IdempotencyKey;
use cuponera_store::Result;
use uuid::Uuid;

use crate::app::App;
use crate::auth::caller::Caller;
use crate::http::body::half_hash;

/// Maximum length of a key.
const MAX_KEY_BYTES: usize = 255;

/// A key whose request is running in this process. Another request with the key is rejected meanwhile. Between processes the
/// database executes one request and returns its result to the other.
#[derive(Debug)]
pub(crate) struct HeldKey {
    app: Arc<App>,
    id: Option<Uuid>,
    fingerprint: Uuid,
}

impl HeldKey {
    /// Takes the key of a request, if it has one. An invalid key is rejected, not ignored.
    pub(crate) fn take(caller: &Caller, fingerprint: Uuid) -> Result<Self> {
        let Some(key) = &caller.key else {
            return Ok(Self { app: caller.app.clone(), id: None, fingerprint });
        };
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.iter().all(|byte| (b' '..=b'~').contains(byte))
        {
            return Err(Rejection::invalid(
                "Idempotency-Key",
                "must have 1 to 255 printable ASCII characters",
            )
            .into());
        }
        let id = half_hash(&[&caller.key_owner(), caller.operation.as_bytes(), key]);
        if !caller.app.mark_running(id) {
            return Err(Rejection::KeyInProgress.into());
        }
        Ok(Self { app: caller.app.clone(), id: Some(id), fingerprint })
    }

    /// The stored form of the key.
    pub(crate) fn stored(&self) -> Option<IdempotencyKey> {
        self.with_fingerprint(self.fingerprint)
    }

    /// The stored form of the key, for a request whose fingerprint is computed later.
    pub(crate) fn with_fingerprint(&self, fingerprint: Uuid) -> Option<IdempotencyKey> {
        self.id.map(|id| IdempotencyKey { id, fingerprint })
    }
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.app.unmark_running(id);
        }
    }
}
