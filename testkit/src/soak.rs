//! How much a run repeats, and how strict it is about time.

use std::time::Duration;

/// Whether there is time for all repetitions that were promised (`make soak`), not just enough to notice a fault.
pub fn is_soak() -> bool {
    std::env::var_os("CUPONERA_SOAK").is_some_and(|value| value == "1")
}

/// How long something may take. A soak holds it to the promise. `make test` runs beside whatever else a machine does, so
/// there it may take `telling`: longer, and still less than what is broken would take.
pub fn bound(promised: Duration, telling: Duration) -> Duration {
    if is_soak() { promised } else { telling }
}
