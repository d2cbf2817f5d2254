//! Telemetry of the database: metrics of the waiting work, and the traces of jobs.

use std::time::Duration;

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::id::JobId;
use cuponera_domain::job::JobKind;
use cuponera_domain::trace::TraceParent;
use cuponera_platform::telemetry::{Exposition, MetricsAccess};
use cuponera_store::Store;
use cuponera_testkit::{World, claim};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn submit(world: &World, store: &Store, quantity: u64) -> JobId {
    let pattern = Pattern::parse("T-{XXXXXXXX}").unwrap();
    let job = store.submit_generation(None, world.business, "test", world.book, &pattern, quantity).await;
    job.unwrap().outcome.unwrap().id
}

/// The value of a series.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

// A single test, because these metrics are global to the process. No other test of this program reads them.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_the_work_that_waits_as_of_a_moment_ago_and_a_database_that_is_away() {
    let world = World::new().await;
    let exposition = Exposition::new(MetricsAccess::Loopback);
    exposition.watch("worker", world.store());
    submit(&world, world.store(), 120_000).await;
    let text = exposition.render().await;
    assert!((value(&text, "cuponera_chunks_runnable") - 3.0).abs() < f64::EPSILON, "{text}");
    assert!((value(&text, "cuponera_database_up") - 1.0).abs() < f64::EPSILON, "{text}");
    let open = |state| {
        value(&text, &format!("cuponera_pool_connections{{part=\"worker\",pool=\"rest\",state=\"{state}\"}}"))
    };
    assert!(open("idle") + open("busy") >= 1.0, "{text}");
    assert!(value(&text, "cuponera_pool_wait_seconds{part=\"worker\",pool=\"rest\"}") > 0.0);
    claim(world.store(), "test").await.unwrap();
    let text = exposition.render().await;
    let now = value(&text, "cuponera_chunks_runnable");
    assert!((now - 3.0).abs() < f64::EPSILON, "the database was queried again immediately: {now}");
    let afresh = Exposition::new(MetricsAccess::Loopback);
    afresh.watch("worker", world.store());
    let text = afresh.render().await;
    assert!((value(&text, "cuponera_chunks_runnable") - 2.0).abs() < f64::EPSILON, "{text}");
    let gone = Exposition::new(MetricsAccess::Loopback);
    gone.watch("worker", world.store());
    world.store().close().await;
    let text = gone.render().await;
    assert!(value(&text, "cuponera_database_up").abs() < f64::EPSILON, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chunks_of_a_job_belong_to_the_trace_that_submitted_it() {
    let world = World::new().await;
    let trace: TraceParent = TRACE.parse().unwrap();
    submit(&world, &world.store().clone().with_trace(Some(trace)), 60_000).await;
    for _ in 0..2 {
        assert_eq!(claim(world.store(), "test").await.unwrap().trace, Some(trace));
    }
    submit(&world, world.store(), 1).await;
    assert_eq!(claim(world.store(), "test").await.unwrap().trace, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_taken_over_is_counted() {
    const SERIES: &str = "cuponera_leases_taken_over_total{kind=\"GENERATE_CODES\"}";
    let world = World::new().await;
    let taken_over = async || value(&Exposition::new(MetricsAccess::Loopback).render().await, SERIES);
    submit(&world, world.store(), 1).await;
    let before = taken_over().await;
    let dead = world.store().claim_chunk("dead", Duration::ZERO, &JobKind::ALL).await.unwrap();
    let taken = claim(world.store(), "test").await.unwrap();
    assert_eq!(taken.epoch, dead.unwrap().epoch + 1);
    // Other tests of this program may take over leases too.
    assert!(taken_over().await > before);
}
