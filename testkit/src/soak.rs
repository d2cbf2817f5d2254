//! The number of repetitions of a run, and its time limits.

use std::time::Duration;

/// Whether this is a soak (`make soak`), which runs all repetitions. Other runs use fewer.
pub fn is_soak() -> bool {
    std::env::var_os("CUPONERA_SOAK").is_some_and(|value| value == "1")
}

/// The time limit of an operation. A soak uses `promised`. `make test` may run beside other work, so it
/// uses `telling`, which is longer but still shorter than a broken program would need.
pub fn bound(promised: Duration, telling: Duration) -> Duration {
    if is_soak() { promised } else { telling }
}
