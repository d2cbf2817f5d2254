//! Rules of books.

use cuponera_domain::book::{BookPatch, BookRules, BookStatus, Change, CodeKind, DEFAULT_LOCK_TTL_SECONDS};
use cuponera_domain::time_zone::DEFAULT_TIME_ZONE;

/// Rules of a book with one use for each code and no other limits.
pub fn rules() -> BookRules {
    BookRules {
        name: "A book".to_owned(),
        description: None,
        code_kind: CodeKind::Unique,
        max_codes_per_user: None,
        max_redeems_per_user: 1,
        total_codes_expected: None,
        starts_at: None,
        expires_at: None,
        schedule: None,
        time_zone: DEFAULT_TIME_ZONE.to_owned(),
        code_valid_days: None,
        lock_ttl_seconds: DEFAULT_LOCK_TTL_SECONDS,
        require_lock: false,
        discount: None,
        metadata: None,
    }
}

/// A patch that makes a book active.
pub fn active() -> BookPatch {
    BookPatch { status: Change::Set(BookStatus::Active), ..BookPatch::default() }
}
