//! The key of the chain. The database has only its fingerprint.

use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{HASH_BYTES, Hash, hex};

/// Size of a fingerprint.
const FINGERPRINT_BYTES: usize = 16;
/// The text whose HMAC is the fingerprint. No seal has this text.
const FINGERPRINT_TEXT: &str = "fingerprint of the audit key";

/// The key of the HMACs of seals.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditKey([u8; HASH_BYTES]);

/// Identifies a key without revealing it.
pub type Fingerprint = [u8; FINGERPRINT_BYTES];

/// A text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits (32 bytes): generate it with `openssl rand -hex 32`")]
pub struct InvalidKey;

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditKey({})", hex(&self.fingerprint()))
    }
}

impl FromStr for AuditKey {
    type Err = InvalidKey;

    /// Parses 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * HASH_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(InvalidKey);
        }
        let mut bytes = [0; HASH_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidKey)?;
        }
        Ok(Self(bytes))
    }
}

impl AuditKey {
    /// The HMAC-SHA256 of a text.
    pub fn sign(&self, text: &str) -> Hash {
        // HMAC takes keys of any size.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any size");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = [0; FINGERPRINT_BYTES];
        fingerprint.copy_from_slice(&self.sign(FINGERPRINT_TEXT)[..FINGERPRINT_BYTES]);
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_hexadecimal_digits_and_is_not_shown() {
        let text = "0123456789abcdefABCDEF0123456789".repeat(2);
        let key: AuditKey = format!(" {text}\n").parse().unwrap();
        assert_eq!(key, text.to_lowercase().parse().unwrap());
        let shown = format!("{key:?}");
        assert!(!shown.contains("0123456789abcdef") && shown.len() == "AuditKey()".len() + 32, "{shown}");
        for text in
            ["", "01", &text[1..], &format!("{text}0"), &text.replace('0', "g"), &text.replace("01", "é")]
        {
            assert_eq!(text.parse::<AuditKey>(), Err(InvalidKey), "{text}");
        }
    }

    #[test]
    fn keys_have_different_fingerprints_and_signatures() {
        let [one, other] = ["01", "02"].map(|pair| pair.repeat(32).parse::<AuditKey>().unwrap());
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_ne!(one.sign("a"), other.sign("a"));
        assert_ne!(one.sign("a"), one.sign("b"));
    }
}
