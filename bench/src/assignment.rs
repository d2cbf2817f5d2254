//! Random assignment over HTTP in a large book, against the same in a book of 10,000.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::installation::Installation;
use crate::{Result, median};

const SMALL_BOOK: u64 = 10_000;
const CLIENTS: u64 = 32;
/// Few enough that the small book is never near its end.
const PER_CLIENT: u64 = 60;

pub(crate) async fn measure(installation: &Installation, codes: u64, rounds: usize) -> Result<Value> {
    let small = installation.book().await?;
    installation.generate(&small, SMALL_BOOK).await?;
    let large = installation.book().await?;
    installation.generate(&large, codes).await?;
    sqlx::query("vacuum analyze coupon").execute(&installation.pool).await?;
    let users = AtomicU64::new(0);
    assign(installation, &small, &users).await?;
    let (mut in_small, mut in_large, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (small_rate, large_rate) = if round % 2 == 0 {
            (assign(installation, &small, &users).await?, assign(installation, &large, &users).await?)
        } else {
            let large_rate = assign(installation, &large, &users).await?;
            (assign(installation, &small, &users).await?, large_rate)
        };
        eprintln!(
            "round {}: {small_rate:.0}/s in the small book, {large_rate:.0}/s in the large one",
            round + 1
        );
        in_small.push(small_rate);
        in_large.push(large_rate);
        ratios.push(large_rate / small_rate);
    }
    Ok(json!({
        "what": format!("random assignments over HTTP in a book of {codes}, {CLIENTS} connections"),
        "yardstick": format!("the same in a book of {SMALL_BOOK}"),
        "ratio": median(ratios),
        "perSecond": median(in_large),
        "yardstickPerSecond": median(in_small),
    }))
}

/// Each client assigns to new users, one after the other: assignments a second.
async fn assign(installation: &Installation, book: &str, users: &AtomicU64) -> Result<f64> {
    let start = Instant::now();
    let client = async || {
        for _ in 0..PER_CLIENT {
            let user = format!("user-{}", users.fetch_add(1, Ordering::Relaxed));
            let body = json!({ "couponBookId": book, "userId": user });
            installation.post("/assignments/random", &body).await?;
        }
        Result::Ok(())
    };
    try_join_all((0..CLIENTS).map(|_| client())).await?;
    let done = u32::try_from(CLIENTS * PER_CLIENT)?;
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}
