//! Statistics: sums of events by interval, and times from assignment to redemption.

use std::ops::AddAssign;

use chrono::{DateTime, TimeDelta, Utc};

use crate::rejection::Rejection;
use crate::time_zone::{may_be_zone, unknown_zone};

/// Maximum number of intervals of a request.
pub const MAX_INTERVALS: usize = 1_000;
/// Number of intervals before the end of the window at which it begins by default.
pub const DEFAULT_INTERVALS: i32 = 30;
/// Number of top holders.
pub const MAX_TOP_HOLDERS: usize = 20;
/// Ratio of the limits of a step of the histogram of times. The function `redeem_time_step` of the database has the same one.
const STEP: f64 = 1.05;

/// The length of the intervals of a series. Weeks begin on Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// 60 minutes.
    Hour,
    /// A calendar day: 23 to 25 hours.
    Day,
    /// Seven calendar days.
    Week,
    /// A calendar month.
    Month,
}

impl Interval {
    /// All intervals, the shortest first.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The interval with this name, which is also that of the database's `date_trunc`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|interval| interval.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The length of the shortest one: the day on which the clocks are set forward, and February.
    const fn shortest(self) -> TimeDelta {
        match self {
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::hours(23),
            Self::Week => TimeDelta::hours(7 * 24 - 1),
            Self::Month => TimeDelta::hours(28 * 24 - 1),
        }
    }
}

/// A requested window, which is not widened to whole intervals yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its begin; by default [`DEFAULT_INTERVALS`] before its end.
    pub from: Option<DateTime<Utc>>,
    /// Its end; by default the current time.
    pub to: Option<DateTime<Utc>>,
    /// The intervals of the series.
    pub interval: Interval,
    /// A name of the IANA time zone database, such as `Europe/Madrid`.
    pub time_zone: String,
}

impl Window {
    /// Rejects a window that ends before it begins, or certainly has too many intervals, and text that is no name of a time zone.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), Rejection> {
        if !may_be_zone(&self.time_zone) {
            return Err(unknown_zone());
        }
        let Some(from) = self.from else { return Ok(()) };
        let to = self.to.unwrap_or(now);
        if from > to {
            return Err(Rejection::invalid("from", "must not be after `to`"));
        }
        let longest = self.interval.shortest() * i32::try_from(MAX_INTERVALS + 1).unwrap_or(i32::MAX);
        if to - from > longest * 2 { Err(too_many_intervals()) } else { Ok(()) }
    }

    /// The beginnings of the intervals that cover the window, and the end of the last one. `edges` are candidates in their order:
    /// from before the window to after it.
    pub fn cover(
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        mut edges: Vec<DateTime<Utc>>,
    ) -> Result<Vec<DateTime<Utc>>, Rejection> {
        // Two local midnights are one instant where a time zone skipped a day.
        edges.dedup();
        let first = edges.partition_point(|edge| *edge <= from).saturating_sub(1);
        let last = edges.partition_point(|edge| *edge < to).max(first + 1);
        edges.truncate(last + 1);
        edges.drain(..first);
        if edges.len() < 2 {
            return Err(unknown_zone());
        }
        if edges.len() > MAX_INTERVALS + 1 { Err(too_many_intervals()) } else { Ok(edges) }
    }
}

fn too_many_intervals() -> Rejection {
    let detail =
        format!("the window must have at most {MAX_INTERVALS} intervals: choose a longer `interval`");
    Rejection::invalid("from", detail)
}

/// Numbers of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventSums {
    /// Codes assigned.
    pub assigned: i64,
    /// Locks, without their renewals.
    pub locked: i64,
    /// Locks ended by their holder.
    pub unlocked: i64,
    /// Locks that expired.
    pub lock_expired: i64,
    /// Uses.
    pub redeemed: i64,
    /// Codes taken back from their holder.
    pub revoked: i64,
    /// Uses given back.
    pub rolled_back: i64,
    /// Codes voided.
    pub voided: i64,
}

impl AddAssign for EventSums {
    fn add_assign(&mut self, other: Self) {
        self.assigned += other.assigned;
        self.locked += other.locked;
        self.unlocked += other.unlocked;
        self.lock_expired += other.lock_expired;
        self.redeemed += other.redeemed;
        self.revoked += other.revoked;
        self.rolled_back += other.rolled_back;
        self.voided += other.voided;
    }
}

/// The current number of codes in each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Funnel {
    /// All codes.
    pub generated: i64,
    /// Codes that have or had a holder and are not revoked.
    pub assigned: i64,
    /// Codes that were locked at least once since they were assigned.
    pub locked: i64,
    /// Codes with a use that is not rolled back.
    pub redeemed: i64,
}

/// A user, and the number of codes that it holds or has redeemed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopHolder {
    /// The user.
    pub user_id: String,
    /// The number of its codes.
    pub held: i64,
}

/// A histogram of the times from the assignment of codes to their first redemption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedeemTimes(Vec<(i32, i64)>);

impl RedeemTimes {
    /// Numbers of redemptions by step: step n is from 1.05ⁿ to 1.05ⁿ⁺¹ seconds.
    pub fn new(mut steps: Vec<(i32, i64)>) -> Self {
        steps.sort_unstable();
        Self(steps)
    }

    /// The time in seconds that this many thousandths of the redemptions do not exceed, with an error of at most 2.5 %. `None`
    /// without redemptions.
    pub fn quantile_seconds(&self, thousandths: i64) -> Option<f64> {
        let all: i64 = self.0.iter().map(|(_, redeemed)| redeemed).sum();
        let rank = (all * thousandths).div_euclid(1_000) + i64::from((all * thousandths) % 1_000 > 0);
        let mut passed = 0;
        let (step, _) = self.0.iter().find(|(_, redeemed)| {
            passed += redeemed;
            passed >= rank.max(1)
        })?;
        // The geometric middle of the step, in tenths of a second.
        Some((STEP.powf(f64::from(*step) + 0.5) * 10.0).round() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn cover(from: i64, to: i64, edges: &[i64]) -> Vec<i64> {
        let edges = edges.iter().map(|edge| at(*edge)).collect();
        let covered = Window::cover(at(from), at(to), edges).unwrap();
        covered.iter().map(|edge| (*edge - DateTime::UNIX_EPOCH).num_hours()).collect()
    }

    #[test]
    fn a_window_is_widened_to_whole_intervals_and_has_at_least_one() {
        let days = [-24, 0, 24, 48, 72, 96];
        assert_eq!(cover(1, 25, &days), [0, 24, 48]);
        assert_eq!(cover(0, 24, &days), [0, 24]);
        assert_eq!(cover(0, 0, &days), [0, 24]);
        assert_eq!(cover(30, 30, &days), [24, 48]);
        assert_eq!(cover(1, 49, &[0, 24, 24, 48, 72]), [0, 24, 48, 72], "a skipped day");
    }

    #[test]
    fn a_window_of_more_than_1000_intervals_or_one_that_ends_before_it_begins_is_rejected() {
        let edges: Vec<_> = (0..1_010).map(at).collect();
        assert!(Window::cover(at(1), at(1_001), edges.clone()).is_ok());
        assert!(Window::cover(at(1), at(1_002), edges).is_err());
        let window = |from, to| Window {
            from: Some(at(from)),
            to: Some(at(to)),
            interval: Interval::Hour,
            time_zone: "UTC".to_owned(),
        };
        assert!(window(0, 1_000).check(at(0)).is_ok());
        assert!(window(0, 10_000_000).check(at(0)).is_err());
        assert!(window(1, 0).check(at(0)).is_err());
    }

    #[test]
    fn quantiles_are_within_a_step() {
        let step = |seconds: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "a small number")]
            let step = (seconds.ln() / STEP.ln()).floor() as i32;
            step
        };
        let times = RedeemTimes::new((1..=1_000).map(|n| (step(f64::from(n)), 1)).collect());
        for (thousandths, exact) in [(500, 500.0), (900, 900.0), (1_000, 1_000.0)] {
            let found = times.quantile_seconds(thousandths).unwrap();
            assert!((found / exact - 1.0).abs() < 0.05, "{found} for {exact}");
        }
        assert_eq!(RedeemTimes::default().quantile_seconds(500), None);
        assert_eq!(RedeemTimes::new(vec![(0, 1)]).quantile_seconds(500), Some(1.0));
    }
}
