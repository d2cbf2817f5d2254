//! The limits of a single code, and its suspension, as their owner changes them.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::state::CouponStatus;
use crate::book::{Change, CodeKind};
use crate::rejection::{FieldError, Rejection};

/// The columns of an import that are limits of SHARED codes. Case does not matter.
pub const LIMIT_COLUMNS: [&str; 4] = ["maxRedemptions", "maxRedeemsPerUser", "startsAt", "expiresAt"];

/// The limits of a SHARED code. The codes of other books have none of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SharedLimits {
    /// Number of uses in total; no limit if absent.
    pub max_redemptions: Option<i32>,
    /// Number of uses of each user; that of the book if absent.
    pub max_redeems_per_user: Option<i32>,
    /// The code cannot be locked and redeemed before.
    pub starts_at: Option<DateTime<Utc>>,
    /// The code cannot be locked and redeemed from this time on.
    pub expires_at: Option<DateTime<Utc>>,
}

impl SharedLimits {
    /// Checks the ranges, and that the code starts before it expires. Reports all faults.
    pub fn check(&self) -> Result<(), Rejection> {
        let mut faults = Vec::new();
        if self.max_redemptions.is_some_and(|most| most < 1) {
            faults.push(FieldError::new("maxRedemptions", "must be at least 1"));
        }
        if self.max_redeems_per_user.is_some_and(|most| most < 1) {
            faults.push(FieldError::new("maxRedeemsPerUser", "must be at least 1"));
        }
        if self.starts_at.zip(self.expires_at).is_some_and(|(start, end)| start >= end) {
            faults.push(FieldError::new("expiresAt", "must be after startsAt"));
        }
        if faults.is_empty() { Ok(()) } else { Err(Rejection::Invalid { faults }) }
    }

    /// Takes the limits out of the other columns of a row of a file.
    ///
    /// # Errors
    /// The first invalid limit, with its column.
    pub fn take_from(columns: &mut Map<String, Value>) -> Result<Self, String> {
        let mut take = |column: &str| {
            let name = columns.keys().find(|name| name.eq_ignore_ascii_case(column)).cloned()?;
            let cell = columns.remove(&name)?;
            let text = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let [most, of_user, start, end] = LIMIT_COLUMNS;
        let number = |column: &str, text: Option<String>| match text.map(|text| text.parse::<i32>()) {
            None => Ok(None),
            Some(Ok(most)) if most > 0 => Ok(Some(most)),
            Some(_) => Err(format!("{column} must be a number from 1 to {}", i32::MAX)),
        };
        let time = |column: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match DateTime::parse_from_rfc3339(&text) {
                Ok(time) => Ok(Some(time.to_utc())),
                Err(_) => Err(format!("{column} must be a time such as 2027-06-01T00:00:00Z")),
            },
        };
        let limits = Self {
            max_redemptions: number(most, take(most))?,
            max_redeems_per_user: number(of_user, take(of_user))?,
            starts_at: time(start, take(start))?,
            expires_at: time(end, take(end))?,
        };
        match limits.check() {
            Ok(()) => Ok(limits),
            Err(rejection) => Err(rejection.to_string()),
        }
    }

    /// The names of those that are present, as in the API.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let present = [
            self.max_redemptions.is_some(),
            self.max_redeems_per_user.is_some(),
            self.starts_at.is_some(),
            self.expires_at.is_some(),
        ];
        LIMIT_COLUMNS.into_iter().zip(present).filter(|(_, is_present)| *is_present).map(|(name, _)| name)
    }
}

/// What of a code its owner may change, and what the change depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeSettings {
    /// The kind of the code.
    pub kind: CodeKind,
    /// Its stored status.
    pub status: CouponStatus,
    /// Its limits, if it is SHARED.
    pub limits: SharedLimits,
    /// Whether it is suspended.
    pub is_suspended: bool,
    /// Number of its redemptions.
    pub redeem_count: i32,
    /// Number of its uses that are redeemed or locked.
    pub uses: i32,
    /// The largest number of uses that one user has redeemed or locked.
    pub uses_of_a_user: i32,
}

/// A requested change of a code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CodePatch {
    /// Whether it is suspended.
    pub suspended: Change<bool>,
    /// See [`SharedLimits`].
    pub max_redemptions: Change<Option<i32>>,
    /// See [`SharedLimits`].
    pub max_redeems_per_user: Change<Option<i32>>,
    /// See [`SharedLimits`].
    pub starts_at: Change<Option<DateTime<Utc>>>,
    /// See [`SharedLimits`].
    pub expires_at: Change<Option<DateTime<Utc>>>,
}

impl CodePatch {
    /// The settings after the change. No limit is set below the uses that are redeemed or locked. A SHARED code is `REDEEMED` when its
    /// limit in total is used.
    pub fn apply(self, before: &CodeSettings) -> Result<CodeSettings, Rejection> {
        if before.status == CouponStatus::Void {
            return Err(Rejection::CouponVoid);
        }
        let mut after = before.clone();
        self.suspended.apply(&mut after.is_suspended);
        self.max_redemptions.apply(&mut after.limits.max_redemptions);
        self.max_redeems_per_user.apply(&mut after.limits.max_redeems_per_user);
        self.starts_at.apply(&mut after.limits.starts_at);
        self.expires_at.apply(&mut after.limits.expires_at);
        if before.kind != CodeKind::Shared {
            return after.without_limits(before);
        }
        after.limits.check()?;
        let mut faults = Vec::new();
        if after.limits.max_redemptions.is_some_and(|most| most < after.uses) {
            let fault = format!("must be at least {}, the uses that are redeemed or locked", after.uses);
            faults.push(FieldError::new("maxRedemptions", fault));
        }
        let of_a_user = after.uses_of_a_user;
        if after.limits.max_redeems_per_user.is_some_and(|most| most < of_a_user) {
            let fault = format!("must be at least {of_a_user}, the uses that a user has redeemed or locked");
            faults.push(FieldError::new("maxRedeemsPerUser", fault));
        }
        let is_used_up = after.limits.max_redemptions.is_some_and(|most| before.redeem_count >= most);
        after.status = if is_used_up { CouponStatus::Redeemed } else { CouponStatus::Available };
        if faults.is_empty() { Ok(after) } else { Err(Rejection::Invalid { faults }) }
    }
}

impl CodeSettings {
    /// Rejects a change of limits of a code that has none.
    fn without_limits(self, before: &Self) -> Result<Self, Rejection> {
        let faults: Vec<_> = before
            .changes(&self)
            .filter(|change| change.name != "suspended")
            .map(|change| FieldError::new(change.name, "is only for codes of SHARED books"))
            .collect();
        if faults.is_empty() { Ok(self) } else { Err(Rejection::Invalid { faults }) }
    }

    /// The values that differ.
    fn changes(&self, after: &Self) -> impl Iterator<Item = SettingChange> {
        let time = |time: Option<DateTime<Utc>>| time.map_or(Value::Null, |time| time.to_rfc3339().into());
        let of = |settings: &Self| {
            let limits = &settings.limits;
            [
                ("suspended", json!(settings.is_suspended)),
                ("maxRedemptions", json!(limits.max_redemptions)),
                ("maxRedeemsPerUser", json!(limits.max_redeems_per_user)),
                ("startsAt", time(limits.starts_at)),
                ("expiresAt", time(limits.expires_at)),
            ]
        };
        of(self)
            .into_iter()
            .zip(of(after))
            .filter(|((_, before), (_, after))| before != after)
            .map(|((name, before), (_, after))| SettingChange { name, before, after })
    }

    /// The change to other settings in words, for the event: each name with its old and new value. `None` if nothing changes.
    pub fn change_to(&self, after: &Self) -> Option<String> {
        let changes: Vec<String> = self.changes(after).map(|change| change.to_string()).collect();
        (!changes.is_empty()).then(|| changes.join(", "))
    }

    /// The names and values as they are recorded in an admin event.
    pub fn recorded(&self) -> Value {
        let absent = Self { is_suspended: false, limits: SharedLimits::default(), ..self.clone() };
        let values = absent.changes(self).map(|change| (change.name.to_owned(), change.after));
        Value::Object(values.collect())
    }
}

/// A setting with its old and new value.
struct SettingChange {
    name: &'static str,
    before: Value,
    after: Value,
}

impl Display for SettingChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        write!(f, "{}: {} -> {}", self.name, text(&self.before), text(&self.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> CodeSettings {
        CodeSettings {
            kind: CodeKind::Shared,
            status: CouponStatus::Available,
            limits: SharedLimits { max_redemptions: Some(10), ..SharedLimits::default() },
            is_suspended: false,
            redeem_count: 3,
            uses: 4,
            uses_of_a_user: 2,
        }
    }

    #[test]
    fn no_limit_is_set_below_the_uses() {
        let patch = CodePatch {
            max_redemptions: Change::Set(Some(3)),
            max_redeems_per_user: Change::Set(Some(1)),
            ..CodePatch::default()
        };
        let Err(Rejection::Invalid { faults }) = patch.apply(&shared()) else { panic!("not rejected") };
        assert_eq!(
            faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            ["maxRedemptions", "maxRedeemsPerUser"]
        );
        let patch = CodePatch {
            max_redemptions: Change::Set(Some(4)),
            max_redeems_per_user: Change::Set(Some(2)),
            ..CodePatch::default()
        };
        let after = patch.apply(&shared()).unwrap();
        assert_eq!(
            shared().change_to(&after).unwrap(),
            "maxRedemptions: 10 -> 4, maxRedeemsPerUser: null -> 2"
        );
    }

    #[test]
    fn a_code_of_another_book_can_only_be_suspended() {
        let unique = CodeSettings { kind: CodeKind::Unique, limits: SharedLimits::default(), ..shared() };
        let suspend = CodePatch { suspended: Change::Set(true), ..CodePatch::default() };
        let after = suspend.clone().apply(&unique).unwrap();
        assert_eq!(unique.change_to(&after).unwrap(), "suspended: false -> true");
        assert_eq!(after.change_to(&suspend.apply(&after).unwrap()), None);
        let limit = CodePatch { max_redemptions: Change::Set(Some(9)), ..CodePatch::default() };
        assert!(matches!(limit.apply(&unique), Err(Rejection::Invalid { .. })));
    }

    #[test]
    fn limits_are_taken_out_of_the_columns_of_a_row() {
        let row = json!({"MAXREDEMPTIONS": " 5 ", "startsAt": "2027-06-01T00:00:00Z", "expiresAt": "", "channel": "radio"});
        let Value::Object(mut columns) = row else { unreachable!() };
        let limits = SharedLimits::take_from(&mut columns).unwrap();
        assert_eq!(limits.names().collect::<Vec<_>>(), ["maxRedemptions", "startsAt"]);
        assert_eq!((limits.max_redemptions, Value::Object(columns)), (Some(5), json!({"channel": "radio"})));
        for (column, cell) in [("maxRedemptions", "0"), ("maxRedeemsPerUser", "many"), ("expiresAt", "tomorrow")] {
            let mut columns = Map::from_iter([(column.to_owned(), json!(cell))]);
            assert!(SharedLimits::take_from(&mut columns).unwrap_err().starts_with(column));
        }
    }

    #[test]
    fn a_void_code_is_not_changed() {
        let void = CodeSettings { status: CouponStatus::Void, ..shared() };
        assert_eq!(CodePatch::default().apply(&void), Err(Rejection::CouponVoid));
    }
}
