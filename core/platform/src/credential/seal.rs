//! Sealed cursors: a client sends them back, but can neither read nor change them.
//!
//! A page that examines the codes of all books may end at a code of a book that the caller may not access, so its cursor names
//! that code. It is encrypted and authenticated (AES-256-GCM-SIV, RFC 8452) under a key derived from the signing secret, which all
//! APIs of an installation share.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use rand::TryRng;

use cuponera_domain::id::BusinessId;
use cuponera_store::{Error, Result};

use super::hex;

/// The first character of a sealed cursor. No other cursor contains it.
const MARK: char = '~';
/// The purpose of the derived key.
const PURPOSE: &[u8] = b"cuponera cursors of lists";
/// Length of a cursor before it is encrypted, in bytes: a time in microseconds, a point and a code of 64 characters have 85.
/// Shorter cursors are padded, because their length is that of the code.
const TEXT_BYTES: usize = 96;
const TAG_BYTES: usize = 16;
/// Length of a sealed cursor, in bytes.
const SEALED_BYTES: usize = NONCE_LEN + TEXT_BYTES + TAG_BYTES;

/// Seals and opens cursors.
pub struct CursorSeal {
    /// The key that seals, then that of the previous secret during a rotation.
    keys: Vec<LessSafeKey>,
}

impl CursorSeal {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self { keys: vec![key_of(secret)] }
    }

    /// Also opens cursors that were sealed with this secret.
    pub(super) fn accept(&mut self, secret: &[u8]) {
        self.keys.push(key_of(secret));
    }

    /// Whether the text has the form of a sealed cursor.
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// Seals a cursor. Only [`Self::open`] for the same business returns it.
    pub fn seal(&self, business: BusinessId, cursor: &str) -> Result<String> {
        if cursor.len() > TEXT_BYTES {
            return Err(Error::internal("a cursor is too long to be sealed"));
        }
        let mut nonce = [0; NONCE_LEN];
        rand::rngs::SysRng.try_fill_bytes(&mut nonce).map_err(Error::internal)?;
        // Padded with blanks.
        let mut sealed = format!("{cursor:TEXT_BYTES$}").into_bytes();
        self.keys[0]
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(business), &mut sealed)
            .map_err(Error::internal)?;
        Ok(format!("{MARK}{}{}", hex(&nonce), hex(&sealed)))
    }

    /// The cursor of a sealed text. `None` if it was not sealed for this business or was changed.
    pub fn open(&self, business: BusinessId, text: &str) -> Option<String> {
        let bytes = bytes_of(text.strip_prefix(MARK)?)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let opened = self.keys.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let text = key.open_in_place(nonce, aad(business), &mut sealed).ok()?;
            String::from_utf8(text.to_vec()).ok()
        })?;
        Some(opened.trim_end().to_owned())
    }
}

fn key_of(secret: &[u8]) -> LessSafeKey {
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), PURPOSE);
    let key = UnboundKey::new(&AES_256_GCM_SIV, derived.as_ref());
    LessSafeKey::new(key.expect("a hash has the length of a key"))
}

fn aad(business: BusinessId) -> Aad<[u8; 16]> {
    Aad::from(business.0.into_bytes())
}

/// The bytes of a hexadecimal text of the length of a sealed cursor.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 2 * SEALED_BYTES || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use cuponera_store::GenerateId;

    use super::*;

    const CURSOR: &str = "1767225600000000.SUMMER-2026";

    fn seal_of(secret: &str) -> CursorSeal {
        CursorSeal::new(secret.as_bytes())
    }

    #[test]
    fn a_cursor_is_read_only_under_its_secret_and_for_its_business() {
        let (seal, business) = (seal_of("a"), BusinessId::generate());
        let sealed = seal.seal(business, CURSOR).unwrap();
        assert!(CursorSeal::is_sealed(&sealed));
        assert_eq!(seal.open(business, &sealed).as_deref(), Some(CURSOR));
        assert_eq!(seal.open(BusinessId::generate(), &sealed), None);
        assert_eq!(seal_of("b").open(business, &sealed), None);
        let mut rotated = seal_of("b");
        rotated.accept(b"a");
        assert_eq!(rotated.open(business, &sealed).as_deref(), Some(CURSOR));
        assert_eq!(seal.open(business, &rotated.seal(business, CURSOR).unwrap()), None);
    }

    #[test]
    fn neither_the_text_nor_its_length_shows_the_cursor() {
        let (seal, business) = (seal_of("a"), BusinessId::generate());
        let longest = format!("{}.{}", i64::MIN, "X".repeat(64));
        let sealed =
            [CURSOR, CURSOR, "A", longest.as_str()].map(|cursor| seal.seal(business, cursor).unwrap());
        assert_ne!(sealed[0], sealed[1], "equal cursors look equal");
        for sealed in &sealed {
            assert_eq!(sealed.len(), 1 + 2 * SEALED_BYTES);
            assert!(!sealed.contains(&hex(b"SUMMER")));
        }
        assert_eq!(seal.open(business, &sealed[3]), Some(longest));
        assert!(seal.seal(business, &"X".repeat(TEXT_BYTES + 1)).is_err());
    }

    #[test]
    fn a_changed_text_is_no_cursor() {
        let (seal, business) = (seal_of("a"), BusinessId::generate());
        let sealed = seal.seal(business, CURSOR).unwrap();
        let changed = |at: usize| {
            let digit = if sealed.as_bytes()[at] == b'0' { "1" } else { "0" };
            format!("{}{digit}{}", &sealed[..at], &sealed[at + 1..])
        };
        let others = [&sealed[1..], "~", "~é", "~00"].map(str::to_owned);
        for text in [1, 40, sealed.len() - 1].map(changed).iter().chain(&others) {
            assert_eq!(seal.open(business, text), None, "{text}");
        }
    }
}
