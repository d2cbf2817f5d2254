//! When a delivery is attempted again, and when a webhook is disabled.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;

/// The delays before the attempts, from the creation of the delivery or from the previous attempt, before jitter.
pub const DELAYS: [Duration; 12] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(1),
    Duration::from_hours(2),
    Duration::from_hours(4),
    Duration::from_hours(6),
    Duration::from_hours(10),
];
/// The share of a delay by which jitter changes it, up or down.
const JITTER: f64 = 0.2;
/// Maximum of `Retry-After` that is honored.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// A webhook is disabled if all attempts failed for this time.
pub const DISABLED_AFTER: TimeDelta = TimeDelta::days(3);
/// After this time without an attempt, the time of failures begins anew. It is longer than all delays.
pub const FORGOTTEN_AFTER: TimeDelta = TimeDelta::hours(25);

/// The delay after an attempt that failed. `attempts` counts it and those before it. None after the last attempt. The next attempt is
/// not earlier than the receiver demands.
pub fn next_delay(attempts: usize, retry_after: Option<Duration>, rng: &mut impl RngExt) -> Option<Duration> {
    let delay = DELAYS.get(attempts)?.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER));
    Some(delay.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
}

/// Parses `Retry-After`: seconds, or a time as in RFC 9110.
pub fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delays_are_those_of_the_schedule_with_a_fifth_of_jitter_and_then_none() {
        let mut rng = rand::rng();
        for (attempts, delay) in DELAYS.iter().enumerate() {
            let (least, most) = (delay.mul_f64(0.799), delay.mul_f64(1.201));
            for _ in 0..100 {
                let next = next_delay(attempts, None, &mut rng).unwrap();
                assert!(next >= least && next <= most, "{attempts}: {next:?}");
            }
        }
        assert_eq!(next_delay(DELAYS.len(), None, &mut rng), None);
        assert_eq!(next_delay(DELAYS.len(), Some(Duration::from_secs(1)), &mut rng), None);
        assert_ne!(next_delay(9, None, &mut rng), next_delay(9, None, &mut rng));
    }

    #[test]
    fn the_receiver_can_delay_the_next_attempt_but_not_hasten_it() {
        let mut rng = rand::rng();
        let next =
            |attempts, seconds| next_delay(attempts, Some(Duration::from_secs(seconds)), &mut rand::rng());
        assert_eq!(next(1, 60), Some(Duration::from_mins(1)));
        assert!(next(11, 60).unwrap() >= Duration::from_hours(8));
        assert_eq!(next(1, u64::MAX), Some(MAX_RETRY_AFTER));
        assert!(next_delay(1, None, &mut rng).unwrap() < Duration::from_secs(2));
    }

    #[test]
    fn retry_after_has_seconds_or_a_time() {
        let now = DateTime::parse_from_rfc3339("1994-11-06T08:49:00Z").unwrap().to_utc();
        assert_eq!(parse_retry_after(" 120 ", now), Some(Duration::from_mins(2)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-1", now), None);
    }
}
