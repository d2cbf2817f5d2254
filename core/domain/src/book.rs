//! Coupon books: the rules of their codes, and the transitions between their states.
//!
//! `DRAFT → ACTIVE ⇄ PAUSED`, and any of them `→ CLOSED`. Expiry is not a state: it is computed from the
//! clock.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::coupon::state::CouponStatus;
use crate::id::{BookId, BusinessId};
use crate::rejection::{FieldError, Rejection};

/// The maximum TTL of a lock: one day.
pub const MAX_LOCK_TTL_SECONDS: i32 = 86_400;
/// The TTL of a lock if neither the call nor the book sets one.
pub const DEFAULT_LOCK_TTL_SECONDS: i32 = 300;
/// The maximum of the days that a code is valid after its assignment: a hundred years.
pub const MAX_CODE_VALID_DAYS: i32 = 36_500;
/// The maximum length of a name, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The maximum length of a description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 5_000;
/// The maximum size of the metadata as JSON, in bytes: each list contains the metadata.
pub const MAX_METADATA_BYTES: usize = 16_384;

/// The status of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BookStatus {
    /// In preparation: codes can be added, but not assigned.
    Draft,
    /// Codes can be assigned, locked and redeemed.
    Active,
    /// Temporarily, no code can be assigned, locked or redeemed.
    Paused,
    /// Closed permanently.
    Closed,
}

impl BookStatus {
    /// All statuses, in the order of the life cycle.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Active, Self::Paused, Self::Closed];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Active => "ACTIVE",
            Self::Paused => "PAUSED",
            Self::Closed => "CLOSED",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Checks the transition to another status. A transition to the same status is always allowed.
    pub fn step_to(self, to: Self) -> Result<Self, Rejection> {
        let allowed = match self {
            Self::Draft => matches!(to, Self::Draft | Self::Active | Self::Closed),
            Self::Active | Self::Paused => matches!(to, Self::Active | Self::Paused | Self::Closed),
            Self::Closed => matches!(to, Self::Closed),
        };
        if allowed {
            Ok(to)
        } else {
            Err(Rejection::InvalidTransition { from: self.as_str().into(), to: to.as_str().into() })
        }
    }
}

/// How the codes of a book get their holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CodeKind {
    /// A code is assigned before it is locked or redeemed.
    #[default]
    Unique,
    /// The user who locks or redeems a free code becomes its holder.
    Bearer,
    /// A code has no holder. Many users lock and redeem it, within limits.
    Shared,
}

impl CodeKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Unique, Self::Bearer, Self::Shared];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unique => "UNIQUE",
            Self::Bearer => "BEARER",
            Self::Shared => "SHARED",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// When `max_redeems_per_user` of a book can only be increased.
    fn only_increased(self) -> &'static str {
        match self {
            Self::Unique | Self::Bearer => "can only be increased once codes are assigned",
            Self::Shared => "can only be increased once a SHARED book has codes",
        }
    }
}

/// The discount of a code, for information only: the shop computes prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discount {
    /// Percentage or amount.
    #[serde(rename = "type")]
    pub kind: DiscountKind,
    /// Percent, or units of the currency.
    pub value: f64,
    /// ISO 4217 code, for amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// The kind of a discount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DiscountKind {
    /// A percentage of the price.
    Percent,
    /// A fixed amount.
    Fixed,
}

/// The rules of a book, as set by its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BookRules {
    /// Shown to people.
    pub name: String,
    /// Shown to people.
    pub description: Option<String>,
    /// How the codes get their holders. Fixed once the book has codes. Absent in answers that earlier programs have stored.
    #[serde(default)]
    pub code_kind: CodeKind,
    /// Maximum number of codes that a user may hold or have redeemed; no limit if absent.
    pub max_codes_per_user: Option<i32>,
    /// Maximum number of redemptions of a code.
    pub max_redeems_per_user: i32,
    /// Expected number of codes, for information only.
    pub total_codes_expected: Option<i64>,
    /// Start of the period in which codes can be assigned, locked and redeemed.
    pub starts_at: Option<DateTime<Utc>>,
    /// End of that period.
    pub expires_at: Option<DateTime<Utc>>,
    /// Number of days, of 24 hours, that a code is valid after its assignment; as long as the book if absent. A change does not
    /// concern codes that are assigned.
    #[serde(default)]
    pub code_valid_days: Option<i32>,
    /// TTL of a lock if the call sets none.
    pub lock_ttl_seconds: i32,
    /// Whether a redemption requires a live lock.
    pub require_lock: bool,
    /// The discount of a code.
    pub discount: Option<Discount>,
    /// Any other data of the owner.
    pub metadata: Option<Value>,
}

impl BookRules {
    /// Checks the ranges and the rules that involve several fields. Reports all faults.
    pub fn check(&self) -> Result<(), Rejection> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, message: &str| faults.push(FieldError::new(field, message));
        let name_chars = self.name.trim().chars().count();
        if name_chars == 0 || name_chars > MAX_NAME_CHARS {
            fault("name", "must have 1 to 200 characters");
        }
        if self.description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION_CHARS) {
            fault("description", "must have at most 5000 characters");
        }
        if self.max_codes_per_user.is_some_and(|most| most < 1) {
            fault("maxCodesPerUser", "must be at least 1");
        }
        if self.max_redeems_per_user < 1 {
            fault("maxRedeemsPerUser", "must be at least 1");
        }
        if self.total_codes_expected.is_some_and(|total| total < 0) {
            fault("totalCodesExpected", "must not be negative");
        }
        if self.code_valid_days.is_some_and(|days| !(1..=MAX_CODE_VALID_DAYS).contains(&days)) {
            fault("codeValidDays", "must be from 1 to 36500");
        }
        if self.code_valid_days.is_some() && self.code_kind == CodeKind::Shared {
            fault("codeValidDays", "must be absent: codes of a SHARED book are not assigned");
        }
        if !(1..=MAX_LOCK_TTL_SECONDS).contains(&self.lock_ttl_seconds) {
            fault("lockTtlSeconds", "must be from 1 to 86400");
        }
        if self.starts_at.zip(self.expires_at).is_some_and(|(start, end)| start >= end) {
            fault("expiresAt", "must be after startsAt");
        }
        if self.metadata.as_ref().is_some_and(|value| value.to_string().len() > MAX_METADATA_BYTES) {
            fault("metadata", "must have at most 16384 bytes as JSON");
        }
        if let Some(discount) = &self.discount {
            discount.check(&mut faults);
        }
        if faults.is_empty() { Ok(()) } else { Err(Rejection::Invalid { faults }) }
    }
}

/// The end of the name of a clone, if the call gives it no name.
const COPY: &str = " (copy)";

impl BookRules {
    /// The rules of a clone: with another name, and without times that have passed.
    #[must_use]
    pub fn for_clone(&self, name: Option<String>, now: DateTime<Utc>) -> Self {
        let copied = || {
            let room = MAX_NAME_CHARS - COPY.chars().count();
            format!("{}{COPY}", self.name.chars().take(room).collect::<String>())
        };
        let is_ahead = |time: &DateTime<Utc>| *time > now;
        Self {
            name: name.unwrap_or_else(copied),
            starts_at: self.starts_at.filter(is_ahead),
            expires_at: self.expires_at.filter(is_ahead),
            ..self.clone()
        }
    }
}

impl Discount {
    fn check(&self, faults: &mut Vec<FieldError>) {
        if !self.value.is_finite() || self.value <= 0.0 {
            faults.push(FieldError::new("discount.value", "must be greater than 0"));
        }
        match self.kind {
            DiscountKind::Percent if self.value > 100.0 => {
                faults.push(FieldError::new("discount.value", "must be at most 100 for PERCENT"));
            }
            DiscountKind::Fixed if self.currency.is_none() => {
                faults.push(FieldError::new(
                    "discount.currency",
                    "is required for FIXED: an ISO 4217 code such as EUR",
                ));
            }
            DiscountKind::Percent | DiscountKind::Fixed => {}
        }
        if self
            .currency
            .as_ref()
            .is_some_and(|code| code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            faults.push(FieldError::new("discount.currency", "must be an ISO 4217 code such as EUR"));
        }
    }
}

/// A change of a field: unchanged, or set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// Unchanged.
    #[default]
    Keep,
    /// Set to this value.
    Set(T),
}

impl<T> Change<T> {
    pub(crate) fn apply(self, to: &mut T) {
        if let Self::Set(value) = self {
            *to = value;
        }
    }
}

/// A requested change of a book: a transition and any of the fields of [`BookRules`].
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields are those of BookRules, with its meanings")]
pub struct BookPatch {
    pub status: Change<BookStatus>,
    pub name: Change<String>,
    pub description: Change<Option<String>>,
    pub code_kind: Change<CodeKind>,
    pub max_codes_per_user: Change<Option<i32>>,
    pub max_redeems_per_user: Change<i32>,
    pub total_codes_expected: Change<Option<i64>>,
    pub starts_at: Change<Option<DateTime<Utc>>>,
    pub expires_at: Change<Option<DateTime<Utc>>>,
    pub code_valid_days: Change<Option<i32>>,
    pub lock_ttl_seconds: Change<i32>,
    pub require_lock: Change<bool>,
    pub discount: Change<Option<Discount>>,
    pub metadata: Change<Option<Value>>,
}

impl BookPatch {
    /// The book's status and rules after the change. Once codes are assigned, `max_redeems_per_user` can
    /// only be increased. The store checks that a book with codes keeps its `code_kind`.
    pub fn apply(self, book: &Book) -> Result<(BookStatus, BookRules), Rejection> {
        let status = match self.status {
            Change::Keep => book.status,
            Change::Set(to) => book.status.step_to(to)?,
        };
        let mut rules = book.rules.clone();
        self.name.apply(&mut rules.name);
        self.description.apply(&mut rules.description);
        self.code_kind.apply(&mut rules.code_kind);
        self.max_codes_per_user.apply(&mut rules.max_codes_per_user);
        self.max_redeems_per_user.apply(&mut rules.max_redeems_per_user);
        self.total_codes_expected.apply(&mut rules.total_codes_expected);
        self.starts_at.apply(&mut rules.starts_at);
        self.expires_at.apply(&mut rules.expires_at);
        self.code_valid_days.apply(&mut rules.code_valid_days);
        self.lock_ttl_seconds.apply(&mut rules.lock_ttl_seconds);
        self.require_lock.apply(&mut rules.require_lock);
        self.discount.apply(&mut rules.discount);
        self.metadata.apply(&mut rules.metadata);
        rules.check()?;
        let is_lower = rules.max_redeems_per_user < book.rules.max_redeems_per_user;
        if is_lower && book.has_codes_in_use() {
            return Err(Rejection::invalid("maxRedeemsPerUser", book.rules.code_kind.only_increased()));
        }
        Ok((status, rules))
    }
}

/// The number of codes in each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Free.
    pub available: i64,
    /// Held, not locked.
    pub assigned: i64,
    /// Held and locked.
    pub locked: i64,
    /// Redeemed as often as allowed.
    pub redeemed: i64,
    /// Void.
    pub void: i64,
}

impl Counts {
    /// The number of codes that are not free.
    pub fn given_out(&self) -> i64 {
        self.assigned + self.locked + self.redeemed + self.void
    }

    /// The number of all codes: `generatedCount`.
    pub fn all(&self) -> i64 {
        self.available + self.given_out()
    }

    /// Whether a code may have this status in an answer. A lock counts here until its end is recorded, but
    /// is shown as `ASSIGNED` as soon as it has expired.
    pub fn may_show(&self, status: CouponStatus) -> bool {
        let codes = match status {
            CouponStatus::Available => self.available,
            CouponStatus::Assigned => self.assigned + self.locked,
            CouponStatus::Locked => self.locked,
            CouponStatus::Redeemed => self.redeemed,
            CouponStatus::Void => self.void,
        };
        codes > 0
    }
}

/// A coupon book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// Its id.
    pub id: BookId,
    /// Its owner.
    pub business: BusinessId,
    /// Its status.
    pub status: BookStatus,
    /// Its rules.
    pub rules: BookRules,
    /// Its codes by status.
    pub counts: Counts,
    /// Whether the book has expired, by the database's clock.
    pub is_expired: bool,
    /// Whether codes can be assigned and redeemed now, by the database's clock.
    pub is_active: bool,
    /// Creation time.
    pub created_at: DateTime<Utc>,
    /// Time of the last change.
    pub updated_at: DateTime<Utc>,
}

impl Book {
    /// Whether codes may have been redeemed. The counts of a SHARED book do not show it, because its codes have no holders.
    fn has_codes_in_use(&self) -> bool {
        match self.rules.code_kind {
            CodeKind::Unique | CodeKind::Bearer => self.counts.given_out() > 0,
            CodeKind::Shared => self.counts.all() > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BookStatus::{self, Active, Closed, Draft, Paused};

    #[test]
    fn books_take_only_the_steps_that_are_drawn() {
        let steps = [
            (Draft, Active),
            (Active, Paused),
            (Paused, Active),
            (Draft, Closed),
            (Active, Closed),
            (Paused, Closed),
        ];
        for from in BookStatus::ALL {
            for to in BookStatus::ALL {
                let drawn = from == to || steps.contains(&(from, to));
                assert_eq!(from.step_to(to).is_ok(), drawn, "{from:?} to {to:?}");
            }
        }
    }
}
