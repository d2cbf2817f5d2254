//! Seals: their canonical form, which the hash and the HMAC cover.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::event::{line_of, time};
use super::{AuditKey, Fingerprint, Hash, Log, Position, hex, sha256};

/// The version of the canonical forms of seals and events. Each seal has the version that it was made with.
pub const FORM: i16 = 1;

/// A seal, without its leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The number in the chain, from 1.
    pub number: i64,
    /// See [`FORM`].
    pub form: i16,
    /// The log whose events it covers.
    pub log: Log,
    /// The events after this position are covered: the end of the previous seal of this log.
    pub from: Position,
    /// The position of the last event covered.
    pub through: Position,
    /// The time of the last event covered.
    pub through_at: DateTime<Utc>,
    /// The number of events covered.
    pub count: i32,
    /// The hash over the leaves.
    pub root: Hash,
    /// The hash of the previous seal; zeros in the first seal.
    pub previous: Hash,
    /// The fingerprint of the key of the HMAC.
    pub key: Fingerprint,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SealLine {
    seal: i64,
    form: i16,
    log: &'static str,
    from: String,
    through: String,
    through_at: String,
    count: i32,
    root: String,
    previous: String,
    key: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hmac: Option<String>,
}

impl Seal {
    /// The canonical form.
    pub fn canonical(&self) -> String {
        self.line(None)
    }

    /// The line of an export: the canonical form with the HMAC as a last field.
    pub fn exported(&self, hmac: &[u8]) -> String {
        self.line(Some(hmac))
    }

    /// The hash that the next seal contains.
    pub fn hash(&self) -> Hash {
        sha256(self.canonical().as_bytes())
    }

    /// The HMAC.
    pub fn sign(&self, key: &AuditKey) -> Hash {
        key.sign(&self.canonical())
    }

    fn line(&self, hmac: Option<&[u8]>) -> String {
        line_of(&SealLine {
            seal: self.number,
            form: self.form,
            log: self.log.as_str(),
            from: self.from.to_string(),
            through: self.through.to_string(),
            through_at: time(self.through_at),
            count: self.count,
            root: hex(&self.root),
            previous: hex(&self.previous),
            key: hex(&self.key),
            created_at: time(self.created_at),
            hmac: hmac.map(hex),
        })
    }
}

/// The root over leaves, in the order of the log: the SHA-256 of all leaves, which are stored with the seal. The leaves of a seal are the
/// proof of one of its events. A tree would make proofs shorter, and no operation returns proofs.
pub fn root_of(leaves: &[u8]) -> Hash {
    sha256(leaves)
}

/// The number of the seal in a line of an export. None if the line is none.
pub fn sealed_number(exported: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Numbered {
        seal: i64,
    }
    serde_json::from_str(exported).ok().map(|Numbered { seal }| seal)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    fn seal() -> Seal {
        Seal {
            number: 7,
            form: FORM,
            log: Log::Admin,
            from: Position::default(),
            through: Position { epoch: 1, tx: 9, id: Uuid::from_u128(3) },
            through_at: "2027-06-01T10:00:00Z".parse().unwrap(),
            count: 2,
            root: [1; 32],
            previous: [2; 32],
            key: [3; 16],
            created_at: "2027-06-01T10:00:01Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_canonical_form_contains_each_value_and_the_exported_line_the_hmac() {
        let key: AuditKey = "01".repeat(32).parse().unwrap();
        let exported = seal().exported(&seal().sign(&key));
        let canonical = seal().canonical();
        assert!(exported.starts_with(canonical.trim_end_matches('}')) && exported.contains(r#""hmac":""#));
        assert_eq!(sealed_number(&exported), Some(7));
        assert_eq!(sealed_number("{}"), None);
        let edits: [fn(&mut Seal); 11] = [
            |seal| seal.number += 1,
            |seal| seal.form += 1,
            |seal| seal.log = Log::Coupon,
            |seal| seal.from.epoch += 1,
            |seal| seal.through.tx += 1,
            |seal| seal.through_at += chrono::TimeDelta::microseconds(1),
            |seal| seal.count += 1,
            |seal| seal.root[31] = 0,
            |seal| seal.previous[0] = 0,
            |seal| seal.key[0] = 0,
            |seal| seal.created_at += chrono::TimeDelta::microseconds(1),
        ];
        let mut hashes: BTreeSet<Hash> = edits
            .iter()
            .map(|edit| {
                let mut changed = seal();
                edit(&mut changed);
                changed.hash()
            })
            .collect();
        hashes.insert(seal().hash());
        assert_eq!(hashes.len(), edits.len() + 1);
    }
}
