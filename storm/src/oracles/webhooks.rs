//! A webhook gets each event of its types at least once. The events of a code first arrive in the order of its versions.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::FutureExt;
use sqlx::{PgConnection, query, query_as};
use tokio::time::{Instant, sleep};

use super::{Oracle, Verdict};
use crate::Result;
use crate::evidence::Evidence;

pub(super) const WEBHOOKS: Oracle =
    Oracle { name: "webhooks", check: |evidence, database| check(evidence, database).boxed_local() };

/// Time for the last deliveries.
const TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// The events of the types, as `subject` and id, by code in the order of the versions.
const EXPECTED: &str = "select book_id::text || ' ' || position, id::text from coupon_event
    where business_id = $1::text::uuid and action in ('REDEEM', 'ROLLBACK', 'REVOKE', 'EXPIRE')
    order by book_id, position, version";

async fn check(evidence: &Evidence<'_>, database: &mut PgConnection) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let begun = Instant::now();
    for (number, tenant) in evidence.world.tenants.iter().enumerate() {
        let (expected, arrived) = loop {
            hasten(database).await?;
            let expected: Vec<(String, String)> =
                query_as(EXPECTED).bind(&tenant.id).fetch_all(&mut *database).await?;
            let mut seen = HashSet::new();
            let accepted = evidence.receivers.accepted(number);
            let ids = accepted.iter().map(|request| request.header("webhook-id").to_owned());
            let arrived: Vec<String> = ids.filter(|id| seen.insert(id.clone())).collect();
            if arrived.len() >= expected.len() || begun.elapsed() > TIMEOUT {
                break (expected, arrived);
            }
            sleep(POLL).await;
        };
        verdict.checks += expected.len();
        verdict.violations.extend(differences(number, &expected, &arrived));
    }
    Ok(verdict)
}

/// Ends the leases of dead workers and the delays after rejected attempts, as if that time had passed. The receivers answer at once, so an
/// attempt that was claimed six seconds ago has no worker.
async fn hasten(database: &mut PgConnection) -> Result<()> {
    let hasten = "update webhook_delivery
        set lease_until = case when lease_until > now() + interval '24 seconds' then lease_until end,
            next_attempt_at = case when next_attempt_at is not null then least(next_attempt_at, now()) end
        where id in (select id from webhook_delivery
                     where status = 'PENDING' and (lease_until < now() + interval '24 seconds' or next_attempt_at > now())
                     for update skip locked)";
    query(hasten).execute(database).await?;
    Ok(())
}

fn differences(tenant: usize, expected: &[(String, String)], arrived: &[String]) -> Vec<String> {
    let places: BTreeMap<&str, usize> =
        arrived.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    let ids: HashSet<&str> = expected.iter().map(|(_, id)| id.as_str()).collect();
    let missing = expected.iter().filter(|(_, id)| !places.contains_key(id.as_str()));
    let missing =
        missing.map(|(code, id)| format!("the receiver of business {tenant} lacks event {id} of {code}"));
    let foreign = arrived.iter().filter(|id| !ids.contains(id.as_str()));
    let foreign =
        foreign.map(|id| format!("the receiver of business {tenant} got {id}, which is not its event"));
    let reversed = expected.windows(2).filter(|two| {
        two[0].0 == two[1].0
            && places
                .get(two[0].1.as_str())
                .zip(places.get(two[1].1.as_str()))
                .is_some_and(|(one, two)| one > two)
    });
    let reversed = reversed.map(|two| {
        format!("the receiver of business {tenant} got {} of {} before {}", two[1].1, two[1].0, two[0].1)
    });
    missing.chain(foreign).chain(reversed).collect()
}
