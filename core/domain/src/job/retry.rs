//! The retry delays of failed chunks.

use std::time::Duration;

use rand::RngExt;

/// Number of attempts before a chunk fails permanently: with the delays below, about one minute.
pub const MAX_ATTEMPTS: i32 = 8;
/// Number of crashes of a worker, or of timeouts of a statement, after which a chunk is set aside.
pub const MAX_CRASHES: i32 = 10;

/// The first delay, before jitter.
const BASE: Duration = Duration::from_millis(500);
/// The maximum delay, before jitter.
const MAX_DELAY: Duration = Duration::from_mins(5);

/// The delay after the given attempt (from 1). It doubles with each attempt; jitter selects a value between half of it
/// and all of it, so that chunks that failed together are not retried together.
pub fn retry_delay(attempt: i32, rng: &mut impl RngExt) -> Duration {
    let doublings = u32::try_from(attempt.clamp(1, 20) - 1).unwrap_or(0);
    let full = BASE.saturating_mul(2_u32.saturating_pow(doublings)).min(MAX_DELAY);
    full.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_differ() {
        let mut rng = rand::rng();
        for attempt in 1..60 {
            let delay = retry_delay(attempt, &mut rng);
            let full = BASE.mul_f64(2_f64.powi(attempt - 1)).min(MAX_DELAY);
            assert!(delay >= full / 2 && delay <= full, "attempt {attempt}: {delay:?}");
        }
        assert_ne!(retry_delay(9, &mut rng), retry_delay(9, &mut rng));
    }
}
