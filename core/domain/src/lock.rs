//! The lock of a coupon as it is reported to caches: at a version of the coupon's row.

use chrono::{DateTime, Utc};

use crate::id::{BusinessId, LockId};

/// The lock of a coupon, at a version of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockNote {
    /// The business.
    pub business: BusinessId,
    /// The code.
    pub code: String,
    /// The version of the coupon's row.
    pub version: i32,
    /// The lock, if the coupon is locked.
    pub hold: Option<Hold>,
}

impl LockNote {
    /// A note that the coupon has no lock at this version; `None` for version 0, because nothing was
    /// changed.
    pub fn of_none(business: BusinessId, code: &str, version: i32) -> Option<Self> {
        (version > 0).then(|| Self { business, code: code.to_owned(), version, hold: None })
    }
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub lock: LockId,
    /// The holder.
    pub holder: String,
    /// The expiry time.
    pub until: DateTime<Utc>,
}
