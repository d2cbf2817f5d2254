//! A flood of logins: logins from new addresses are still served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cuponera_testkit::bound;
use serde_json::json;
use sqlx::query_scalar;
use tokio::task::JoinSet;

use super::{Neighbor, Shares, address, with_shares};
use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD};

/// Number of addresses that try passwords repeatedly.
const ATTACKERS: u16 = 250;
/// Pause between two tries of an address.
const PAUSE: Duration = Duration::from_millis(300);

/// The guaranteed 95th percentile of a login.
fn promised() -> Duration {
    bound(Duration::from_secs(2), Duration::from_secs(8))
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_from_new_addresses_are_served_while_250_addresses_try_passwords() {
    let server = with_shares(Shares::default()).await;
    let mut neighbor = Neighbor::of(&server).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (rejected, wrong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut attack = JoinSet::new();
    for n in 0..ATTACKERS {
        let client = server.anonymous().on_address(address(0x100 + n));
        let (is_over, rejected, wrong) = (is_over.clone(), rejected.clone(), wrong.clone());
        attack.spawn(async move {
            for guess in 0.. {
                let body =
                    json!({"email": format!("user-{n}-{guess}@shop.test"), "password": "a guess of mine"});
                let status = client.post("auth/login", body).await.status;
                rejected.fetch_add(usize::from(status == 503), Ordering::Relaxed);
                wrong.fetch_add(usize::from(status == 401), Ordering::Relaxed);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    cuponera_testkit::eventually("the flood to exceed the hashing capacity", async || {
        (rejected.load(Ordering::Relaxed) >= 100).then_some(())
    })
    .await;
    let mut times = Vec::new();
    for n in 0..20 {
        let client = server.anonymous().on_address(address(0x300 + n));
        let begun = Instant::now();
        let login = json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD});
        client.post("auth/login", login).await.expect(200);
        times.push(begun.elapsed());
        neighbor.work(3).await;
    }
    is_over.store(true, Ordering::Relaxed);
    attack.join_all().await;
    times.sort_unstable();
    let p95 = times[times.len() * 95 / 100];
    println!(
        "logins in a flood from {ATTACKERS} addresses: median {:?}, p95 {p95:?}",
        times[times.len() / 2]
    );
    assert!(p95 < promised(), "{p95:?}");
    neighbor.assert_served("logins from 250 addresses");
    // Each guess has an email of its own, so each one that was counted has a row; so has the admin.
    let counted: i64 = query_scalar("select count(*) from password_attempt")
        .fetch_one(server.database.pool())
        .await
        .expect("counting failed");
    let verified = wrong.load(Ordering::Relaxed) + 1;
    assert!(
        counted.unsigned_abs() <= verified as u64,
        "{counted} attempts in the database, {verified} verified"
    );
}
