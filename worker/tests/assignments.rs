//! Files of assignments by a fleet: workers that lose their connections in the middle, and clients that assign the same codes.

use cuponera_domain::csv::{Columns, Delimiter};
use cuponera_domain::id::JobId;
use cuponera_domain::job::import;
use cuponera_store::{GenerateId, NewImport};
use cuponera_testkit::{is_soak, race, read_as};

use crate::distribution::kill_chunks;
use crate::fleet::{Fleet, count};

/// 60,000 rows and 50 clients with `CUPONERA_SOAK=1`. Invariant I-57.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_and_other_clients_leave_assignments_exact() {
    let (rows, clients) = if is_soak() { (60_000, 50) } else { (12_000, 20) };
    let fleet = Fleet::new().await;
    let codes = fleet.world.insert_codes(rows).await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.relay(&sqs);
    for name in ["one", "two", "three", "four"] {
        fleet.worker(name, &fleet.queue.connect().await).await;
    }
    let id = JobId::generate();
    let mut parts = Vec::new();
    for (number, codes) in codes.chunks(1_000).enumerate() {
        let file = format!("uploads/{id}/{number}");
        let lines: Vec<String> =
            codes.iter().enumerate().map(|(n, code)| format!("{code},user-{}", n % 300)).collect();
        fleet.files().put(&file, lines.join("\n").into_bytes().into()).await.unwrap();
        parts.push(import::Chunk::at_line(file, number as u64 * 1_000 + 1));
    }
    let import = NewImport {
        id,
        book: fleet.world.book,
        columns: Columns { user_id: Some(1), ..Columns::default() },
        delimiter: Delimiter::default(),
        read_as: read_as(),
        dry_run: false,
        may_repeat_codes: false,
        parts,
        rows: codes.len() as u64,
        last_place: codes.len() as u64,
    };
    let submitted = store.submit_assignments(None, fleet.world.business, "service:test", import).await;
    assert_eq!(submitted.unwrap().outcome.unwrap().id, id);
    let assigning = race(clients, codes.iter().rev().step_by(3), async |code| {
        fleet.world.run_batch(fleet.world.named(code, "other")).await.outcome.is_ok()
    });
    let (killed, given) = futures::join!(kill_chunks(&fleet, id), assigning);
    let given = i64::try_from(given.iter().filter(|given| **given).count()).unwrap();
    let done = fleet.succeeded(id).await;
    assert!(killed > 0, "no chunk was interrupted");
    assert!(given > 0, "no client assigned a code");
    let total = i64::from(rows);
    assert_eq!((done.succeeded, done.failed), (total - given, given));
    assert_eq!(count(&fleet.world, "select count(*) from coupon where holder = 'other'").await, given);
    assert_eq!(
        count(&fleet.world, "select count(*) from coupon where holder like 'user-%'").await,
        total - given
    );
    let events = "select count(*) from coupon_event where action = 'ASSIGN'";
    assert_eq!(count(&fleet.world, events).await, total);
    let rejected = "select count(*) from import_rejection where reason = 'already_assigned'";
    assert_eq!(count(&fleet.world, rejected).await, given);
    fleet.world.assert_invariants().await;
}
