//! A follower receives each committed event of its business once, in the order of the log.

use std::time::Duration;

use futures::FutureExt;
use sqlx::{PgConnection, query_scalar};
use tokio::time::{Instant, sleep};

use super::{Oracle, Verdict};
use crate::Result;
use crate::evidence::Evidence;

pub(super) const FOLLOWERS: Oracle =
    Oracle { name: "followers", check: |evidence, database| check(evidence, database).boxed_local() };

/// Time for the last events. It contains a new connection of a silent follower.
const TIMEOUT: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(50);

async fn check(evidence: &Evidence<'_>, database: &mut PgConnection) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let begun = Instant::now();
    for (number, tenant) in evidence.world.tenants.iter().enumerate() {
        let (expected, received) = loop {
            // The sweep may still end a lock.
            let log =
                "select id::text from coupon_event where business_id = $1::text::uuid order by epoch, tx, id";
            let received = evidence.followers.received(number);
            let expected: Vec<String> = query_scalar(log).bind(&tenant.id).fetch_all(&mut *database).await?;
            if expected == received || begun.elapsed() > TIMEOUT {
                break (expected, received);
            }
            sleep(POLL).await;
        };
        verdict.checks += expected.len();
        if let Some(place) =
            (0..expected.len().max(received.len())).find(|at| expected.get(*at) != received.get(*at))
        {
            verdict.violations.push(format!(
                "the follower of business {number} received {} of {} events; number {place} is {:?} instead of {:?}",
                received.len(), expected.len(), received.get(place), expected.get(place)
            ));
        }
    }
    Ok(verdict)
}
