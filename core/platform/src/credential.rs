//! Passwords, access tokens, the secrets of keys, and sealed cursors. The database stores only the hashes of secrets. The secrets of
//! webhooks sign requests, so they are stored themselves.

mod hashing;
mod password;
mod seal;
mod token;

use rand::TryRng;
use sha2::{Digest, Sha256};

use cuponera_domain::webhook::signature::{SECRET_BYTES, Secret};
use cuponera_store::{Error, Result};

pub use hashing::{Argon2Hasher, HASHES_AT_ONCE};
pub use password::{MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS, check_password};
pub use seal::CursorSeal;
pub use token::{MIN_JWT_SECRET_BYTES, Tokens, VerifiedToken};

/// A new secret of this number of random bytes, as hex.
pub fn random_secret(bytes: usize) -> Result<String> {
    let mut raw = vec![0_u8; bytes];
    rand::rngs::SysRng.try_fill_bytes(&mut raw).map_err(Error::internal)?;
    Ok(hex(&raw))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A new secret of a webhook.
pub fn webhook_secret() -> Result<Secret> {
    let mut bytes = [0; SECRET_BYTES];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(Error::internal)?;
    Ok(Secret::new(bytes))
}

/// The stored hash of a long random secret. A fast hash suffices, because the secret cannot be guessed.
pub fn secret_hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}
