//! The tamper-evident chain over the logs of events: canonical forms, digests, seals and the key.
//!
//! A seal covers a range of one log. It contains the root over the leaves of the events in the range, the hash of the previous seal, and an
//! HMAC under a key that the database does not have. A leaf is the SHA-256 of the canonical line of an event.

mod archive;
mod erased;
mod event;
mod finding;
mod key;
mod page;
mod seal;

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use archive::{
    ArchiveRecord, ArchiveRoot, EventBits, FileDigest, InvalidMonth, Month, hash_text, leaf_of_line,
    position_of_line,
};
pub use erased::ErasedPage;
pub use event::{AdminEventForm, CouponEventForm, SALT_BYTES, Salt};
pub use finding::{EventName, Finding, SealFault};
pub use key::{AuditKey, Fingerprint, InvalidKey};
pub use page::{Comparison, SealedPage};
pub use seal::{FORM, Seal, root_of, sealed_number};

/// A SHA-256 hash.
pub type Hash = [u8; HASH_BYTES];

/// Size of a hash.
pub const HASH_BYTES: usize = 32;
/// Size of the id of an event.
pub const ID_BYTES: usize = 16;

/// A log of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// The events of coupons.
    Coupon,
    /// Admin events.
    Admin,
}

impl Log {
    /// All logs.
    pub const ALL: [Self; 2] = [Self::Coupon, Self::Admin];

    /// The name in seals and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coupon => "COUPON",
            Self::Admin => "ADMIN",
        }
    }

    /// The log of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|log| log.as_str() == name)
    }
}

/// A position in a log. The text is that of a cursor: `1.4711.01939f2a-…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Counts restores of the database from a dump.
    pub epoch: i16,
    /// The transaction that wrote the event.
    pub tx: u64,
    /// The id of the event.
    pub id: Uuid,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.tx, self.id)
    }
}

fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        use fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
