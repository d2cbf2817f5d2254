//! The stored records of erased events, as a verification reads them.
//!
//! **Invariant I-72.** An event without its salt is valid only if a record under the key of the seals, whose root an admin event has, contains
//! the hash of its line.

use sqlx::{PgConnection, query_file};

use cuponera_domain::audit::{AuditKey, ErasedPage};

use crate::error::Result;

/// The events of a seal that one batch of an erasure has changed.
pub(super) struct Record {
    seal: i64,
    pub(super) pseudonym: String,
    pub(super) ids: Vec<u8>,
    pub(super) leaves: Vec<u8>,
    pub(super) salts: Vec<u8>,
    hmac: Vec<u8>,
    /// The root in the admin event. None if that is missing.
    root: Option<String>,
}

impl Record {
    /// Whether an admin event has its root, and the HMAC is that of the key. Without a key the HMAC is not checked.
    pub(super) fn is_recorded(&self, key: Option<&AuditKey>) -> bool {
        let Self { seal, pseudonym, ids, leaves, .. } = self;
        let page = ErasedPage { seal: *seal, pseudonym, ids, leaves };
        self.root.as_ref() == Some(&page.root()) && key.is_none_or(|key| page.sign(key)[..] == self.hmac[..])
    }
}

/// The records of a seal, in the order in which they were made.
pub(super) async fn of_seal(connection: &mut PgConnection, seal: i64) -> Result<Vec<Record>> {
    let rows = query_file!("src/sql/erasures_of_seal.sql", seal).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|row| Record {
            seal: row.seal,
            pseudonym: row.pseudonym,
            ids: row.ids,
            leaves: row.leaves,
            salts: row.salts,
            hmac: row.hmac,
            root: row.root,
        })
        .collect())
}
