//! When a chunk that failed is tried again.

use std::time::Duration;

use rand::RngExt;

/// So often a chunk may fail with a passing fault before it is given up: with the delays below, about ten minutes.
pub const MAX_ATTEMPTS: i32 = 8;
/// How often a chunk may end its worker, or a statement of it take longer than it may, before it is set aside.
pub const MAX_CRASHES: i32 = 10;

/// The first delay, before jitter.
const BASE: Duration = Duration::from_millis(500);
/// The longest delay, before jitter.
const MAX_DELAY: Duration = Duration::from_mins(5);

/// How long to wait before trying the given attempt (from 1) again: doubling, and anywhere between half and all of that,
/// so that chunks which failed together do not come back together.
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
