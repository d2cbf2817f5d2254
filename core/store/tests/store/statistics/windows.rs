//! Windows in time zones whose clocks change.

use cuponera_domain::rejection::Rejection;
use cuponera_domain::statistics::Interval;
use cuponera_store::Error;
use cuponera_testkit::World;

use super::{statistics, window};

/// The beginnings of the intervals and the end of the last one, in UTC, as `month-day hour:minute`.
async fn edges(world: &World, from: &str, to: &str, interval: Interval, time_zone: &str) -> Vec<String> {
    let found = statistics(world, None, &window(from, to, interval, time_zone)).await;
    assert_eq!(found.series.len() + 1, found.edges.len());
    found.edges.iter().map(|edge| edge.format("%m-%d %H:%M").to_string()).collect()
}

#[tokio::test]
async fn days_begin_at_local_midnight_when_clocks_change() {
    let world = World::new().await;
    let cases: [(&str, &str, Interval, &str, &[&str]); 9] = [
        // 23 hours, and 25.
        (
            "2027-03-27T23:30:00Z",
            "2027-03-28T22:00:00Z",
            Interval::Day,
            "Europe/Madrid",
            &["03-27 23:00", "03-28 22:00"],
        ),
        (
            "2027-10-31T10:00:00Z",
            "2027-10-31T10:00:00Z",
            Interval::Day,
            "Europe/Madrid",
            &["10-30 22:00", "10-31 23:00"],
        ),
        // Half an hour from the full one.
        (
            "2027-05-01T18:29:00Z",
            "2027-05-02T18:30:00Z",
            Interval::Day,
            "Asia/Kolkata",
            &["04-30 18:30", "05-01 18:30", "05-02 18:30"],
        ),
        (
            "2027-05-01T18:29:00Z",
            "2027-05-01T18:31:00Z",
            Interval::Hour,
            "Asia/Kolkata",
            &["05-01 17:30", "05-01 18:30", "05-01 19:30"],
        ),
        // A quarter of an hour.
        (
            "2027-05-01T00:00:00Z",
            "2027-05-01T00:00:00Z",
            Interval::Hour,
            "Asia/Kathmandu",
            &["04-30 23:15", "05-01 00:15"],
        ),
        // The clocks are set back by half an hour: an hour has 90 minutes.
        (
            "2027-04-03T14:10:00Z",
            "2027-04-03T15:40:00Z",
            Interval::Hour,
            "Australia/Lord_Howe",
            &["04-03 14:00", "04-03 15:30", "04-03 16:30"],
        ),
        // A day that the time zone skipped.
        (
            "2011-12-29T12:00:00Z",
            "2011-12-30T12:00:00Z",
            Interval::Day,
            "Pacific/Apia",
            &["12-29 10:00", "12-30 10:00", "12-31 10:00"],
        ),
        // The two hours from 2 to 3 are two intervals.
        (
            "2027-10-31T00:00:00Z",
            "2027-10-31T03:00:00Z",
            Interval::Hour,
            "Europe/Madrid",
            &["10-31 00:00", "10-31 01:00", "10-31 02:00", "10-31 03:00"],
        ),
        // A midnight that does not exist: the day begins at 1.
        (
            "2024-09-08T05:00:00Z",
            "2024-09-08T05:00:00Z",
            Interval::Day,
            "America/Santiago",
            &["09-08 04:00", "09-09 03:00"],
        ),
    ];
    for (from, to, interval, time_zone, expected) in cases {
        assert_eq!(edges(&world, from, to, interval, time_zone).await, expected, "{time_zone} {from}");
    }
}

#[tokio::test]
async fn weeks_begin_on_monday_and_months_on_their_first() {
    let world = World::new().await;
    let weeks = edges(&world, "2027-01-01T00:00:00Z", "2027-01-05T00:00:00Z", Interval::Week, "UTC").await;
    assert_eq!(weeks, ["12-28 00:00", "01-04 00:00", "01-11 00:00"]);
    let months = edges(&world, "2027-01-31T00:00:00Z", "2027-03-01T00:00:00Z", Interval::Month, "UTC").await;
    assert_eq!(months, ["01-01 00:00", "02-01 00:00", "03-01 00:00"]);
    let mut open = window("2027-01-01T00:00:00Z", "2027-03-31T12:00:00Z", Interval::Month, "Europe/Madrid");
    open.from = None;
    let found = statistics(&world, None, &open).await;
    assert_eq!(found.series.len(), 31, "30 months before, and this one");
    assert_eq!(found.edges[0].to_rfc3339(), "2024-08-31T22:00:00+00:00");
}

#[tokio::test]
async fn unknown_time_zones_and_too_many_intervals_are_rejected() {
    let world = World::new().await;
    for time_zone in ["Mars/Olympus", "Nowhere", "Etc/Nothing"] {
        let window = window("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z", Interval::Day, time_zone);
        let found = world.store().statistics(world.business, None, &window).await;
        let field = match found {
            Err(Error::Rejected(Rejection::Invalid { faults })) => faults[0].field.clone(),
            other => panic!("{time_zone}: {other:?}"),
        };
        assert_eq!(field, "timeZone");
    }
    let long = window("2027-01-01T00:00:00Z", "2027-03-01T00:00:00Z", Interval::Hour, "UTC");
    let found = world.store().statistics(world.business, None, &long).await;
    assert!(matches!(found, Err(Error::Rejected(Rejection::Invalid { .. }))), "{found:?}");
    let elsewhere = world.another_business().await;
    let found = world.store().statistics(elsewhere, Some(world.book), &super::recently()).await;
    assert!(matches!(found, Err(Error::Rejected(Rejection::NotFound { .. }))), "{found:?}");
}
