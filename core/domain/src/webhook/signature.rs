//! The secrets of webhooks, and the signature of Standard Webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// The prefix of secrets in the API, by which scanners for leaked secrets recognize them.
const PREFIX: &str = "whsec_";
/// Size of a secret.
pub const SECRET_BYTES: usize = 32;
/// How long the old secret stays valid after a rotation.
pub const OLD_SECRET_KEPT: TimeDelta = TimeDelta::hours(24);

/// The secret of a webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A secret of random bytes.
    pub fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// A stored secret. None if it has another size.
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, to store them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `whsec_` and the base64 of the bytes.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0))
    }

    fn sign(&self, id: Uuid, timestamp: i64, body: &str) -> String {
        // HMAC takes keys of any size.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any size");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The value of `webhook-signature`: a signature for each secret. `id` is the event, `timestamp` the time of the attempt in seconds.
pub fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    id: Uuid,
    timestamp: i64,
    body: &str,
) -> String {
    let signatures = secrets.into_iter().map(|secret| secret.sign(id, timestamp, body));
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use http::HeaderMap;

    use super::*;

    fn verify(secret: &str, id: Uuid, timestamp: i64, signature: &str, body: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.to_string().parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.to_string().parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        standardwebhooks::Webhook::new(secret).unwrap().verify(body.as_bytes(), &headers).is_ok()
    }

    #[test]
    fn the_library_of_standard_webhooks_accepts_a_signature_of_each_secret() {
        let (new, old) = (Secret::new([7; 32]), Secret::new([8; 32]));
        let (id, now, body) = (Uuid::now_v7(), Utc::now().timestamp(), r#"{"type":"coupon.redeemed","ñ":1}"#);
        let both = signatures([&new, &old], id, now, body);
        for (secret, is_valid) in [(&new, true), (&old, true), (&Secret::new([9; 32]), false)] {
            assert_eq!(verify(&secret.to_text(), id, now, &both, body), is_valid);
        }
        assert!(!verify(&new.to_text(), id, now, &both, "{}"), "another body has the same signature");
        assert!(!verify(&new.to_text(), id, now - 1, &both, body), "another time has the same signature");
        assert!(
            !verify(&new.to_text(), Uuid::now_v7(), now, &both, body),
            "another id has the same signature"
        );
        assert!(!id.to_string().contains('.'));
    }

    #[test]
    fn a_secret_is_shown_as_text_of_32_bytes_and_never_in_a_log() {
        let secret = Secret::new([255; 32]);
        let text = secret.to_text();
        assert_eq!(STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap().len(), SECRET_BYTES);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(Secret::from_stored(secret.as_bytes()), Some(secret));
        assert_eq!(Secret::from_stored(&[1]), None);
    }
}
