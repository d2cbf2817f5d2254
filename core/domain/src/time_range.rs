//! Ranges of times in the filters of lists.

use chrono::{DateTime, Utc};

/// The times from `from` on, before `to`. A bound that is absent does not limit the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRange {
    /// The first time.
    pub from: Option<DateTime<Utc>>,
    /// The first time after the range.
    pub to: Option<DateTime<Utc>>,
}

impl TimeRange {
    /// Whether the range has both bounds absent.
    pub fn is_unlimited(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Whether `from` is after `to`.
    pub fn is_reversed(&self) -> bool {
        matches!((self.from, self.to), (Some(from), Some(to)) if from > to)
    }

    /// Whether the time is in the range. An absent time is only in the unlimited range.
    pub fn contains(&self, time: Option<DateTime<Utc>>) -> bool {
        self.from.is_none_or(|from| time.is_some_and(|time| time >= from))
            && self.to.is_none_or(|to| time.is_some_and(|time| time < to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_first_time_and_ends_before_its_last() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let range = TimeRange { from: at(10), to: at(20) };
        let within = [9, 10, 19, 20].map(|seconds| range.contains(at(seconds)));
        assert_eq!(within, [false, true, true, false]);
        assert_eq!((range.contains(None), TimeRange::default().contains(None)), (false, true));
        assert!(TimeRange { from: at(2), to: at(1) }.is_reversed() && !range.is_reversed());
    }
}
