//! The latency of hot calls at a constant rate: lock, redeem and random assignment in turn, in an open
//! loop. A latency includes the time a call waits for other calls.

use std::time::Duration;

use crate::Result;
use crate::context::Context;
use crate::installation::Holders;
use crate::load::{Call, open_loop, percentile};
use crate::row::{Round, Row, Unit};

const CONNECTIONS: u64 = 64;
const CALLS_PER_SECOND: u64 = 1_000;

pub(crate) const P99: Row = Row {
    name: "p99",
    unit: Unit::Milliseconds,
    ours: "lock, redeem and assignments/random in turn, 1,000 calls/s, open loop: the 99th percentile",
    yardstick: "",
    floor: 60.0,
    aim: 20.0,
    measure: |context| Box::pin(measure(context)),
};

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let installation = &context.installation;
    let calls = CALLS_PER_SECOND * context.sizes.open_loop_seconds;
    let rounds = u64::try_from(context.rounds)?;
    // Locks and redemptions use different codes, because an open loop does not guarantee the order of two
    // calls.
    let held = installation.book_with_codes(2 * calls * rounds, Holders::OneEach).await?;
    let free = installation.book_with_codes(calls * rounds, Holders::Nobody).await?;
    let target = installation.target();
    let mut measured = Vec::new();
    for round in 0..rounds {
        let first = held.first_code + 2 * round * calls;
        let call = |number: u64| {
            let of_code = |call, code| {
                Call::post(format!("/api/v1/coupons/B{code:09}/{call}"), format!(r#"{{"userId":"u{code}"}}"#))
            };
            match number % 3 {
                0 => of_code("lock", first + number),
                1 => of_code("redeem", first + calls + number),
                _ => Call::post(
                    "/api/v1/assignments/random",
                    format!(r#"{{"couponBookId":"{}","userId":"l{round}-{number}"}}"#, free.id),
                ),
            }
        };
        let time = Duration::from_secs(context.sizes.open_loop_seconds);
        let latencies = open_loop(&target, CONNECTIONS, CALLS_PER_SECOND, time, call).await?;
        let [p50, p95, p99] = [50, 95, 99].map(|percent| percentile(&latencies, percent));
        eprintln!("  p50 {p50:.1} ms, p95 {p95:.1} ms, p99 {p99:.1} ms");
        installation.expect_codes(&held.id, "LOCKED", (round + 1) * calls.div_ceil(3)).await?;
        installation.expect_codes(&held.id, "REDEEMED", (round + 1) * (calls + 1) / 3).await?;
        installation.expect_codes(&free.id, "ASSIGNED", (round + 1) * (calls / 3)).await?;
        measured.push(Round { ours: p99, yardstick: None });
    }
    Ok(measured)
}
