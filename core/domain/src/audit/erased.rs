//! Events of a seal that the erasure of a user has changed.
//!
//! **Invariant I-72.** An event without its salt is valid only if an erasure, recorded in the chain and under the key of the seals, has the
//! hash of its line after the change.

use serde::Serialize;

use super::event::line_of;
use super::{AuditKey, Hash, hex, sha256};

/// The events of a seal that an erasure has changed, in the order of the seal.
#[derive(Debug, Clone, Copy)]
pub struct ErasedPage<'a> {
    /// The number of the seal.
    pub seal: i64,
    /// The pseudonym of the erased user.
    pub pseudonym: &'a str,
    /// The ids of the events.
    pub ids: &'a [u8],
    /// The hashes of their canonical lines after the change.
    pub leaves: &'a [u8],
}

#[derive(Serialize)]
struct ErasedLine<'a> {
    erasure: &'a str,
    seal: i64,
    root: String,
}

impl ErasedPage<'_> {
    /// The root over ids and leaves, which the admin event of the erasure records.
    pub fn root(&self) -> String {
        hex(&sha256(&[self.ids, self.leaves].concat()))
    }

    /// The HMAC.
    pub fn sign(&self, key: &AuditKey) -> Hash {
        let line = ErasedLine { erasure: self.pseudonym, seal: self.seal, root: self.root() };
        key.sign(&line_of(&line))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Invariant I-72.
    #[test]
    fn the_hmac_covers_the_pseudonym_the_seal_the_ids_and_the_leaves() {
        let keys = ["01", "02"].map(|pair| pair.repeat(32).parse::<AuditKey>().unwrap());
        let page = ErasedPage { seal: 7, pseudonym: "erased-1", ids: &[1; 16], leaves: &[2; 32] };
        let hmacs: BTreeSet<Hash> = [
            page.sign(&keys[0]),
            page.sign(&keys[1]),
            ErasedPage { seal: 8, ..page }.sign(&keys[0]),
            ErasedPage { pseudonym: "erased-2", ..page }.sign(&keys[0]),
            ErasedPage { ids: &[3; 16], ..page }.sign(&keys[0]),
            ErasedPage { leaves: &[3; 32], ..page }.sign(&keys[0]),
        ]
        .into();
        assert_eq!(hmacs.len(), 6);
        assert_eq!(page.root().len(), 64);
    }
}
