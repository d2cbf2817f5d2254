//! Changes of a schedule and of its time zone, by the store and by SQL.

use cuponera_domain::book::Book;

use super::*;

async fn stored(world: &World) -> (Option<String>, String) {
    sqlx::query_as("select schedule_minutes::text, time_zone from coupon_book where id = $1")
        .bind(world.book.0)
        .fetch_one(world.pool())
        .await
        .unwrap()
}

fn window(days: &[Day], from: &str, to: &str) -> ScheduleWindow {
    ScheduleWindow { days: days.to_vec(), from: clock(from), to: clock(to) }
}

async fn try_set(world: &World, schedule: Option<Vec<ScheduleWindow>>, zone: &str) -> Result<(), Rejection> {
    let time_zone = Change::Set(zone.to_owned());
    change(world, BookPatch { schedule: Change::Set(schedule), time_zone, ..BookPatch::default() }).await
}

fn field(outcome: Result<(), Rejection>) -> String {
    match outcome {
        Err(Rejection::Invalid { faults }) => faults[0].field.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schedule_is_set_changed_removed_and_copied() {
    let world = World::new().await;
    let night = vec![window(&[Day::Fri, Day::Sun], "22:00", "02:00")];
    try_set(&world, Some(night.clone()), "Europe/Madrid").await.unwrap();
    let minutes = "{[0,120),[7080,7320),[9960,10080)}".to_owned();
    assert_eq!(stored(&world).await, (Some(minutes.clone()), "Europe/Madrid".to_owned()));
    let book = world.store().get_book(world.business, world.book).await.unwrap();
    assert_eq!(
        (&book.rules.schedule, book.rules.time_zone.as_str()),
        (&Some(night.clone()), "Europe/Madrid")
    );
    let clone =
        world.store().clone_book(None, world.business, world.book, None).await.unwrap().outcome.unwrap();
    assert_eq!((clone.rules.schedule, clone.rules.time_zone.as_str()), (Some(night), "Europe/Madrid"));
    change(&world, BookPatch { name: Change::Set("Nights".to_owned()), ..BookPatch::default() })
        .await
        .unwrap();
    assert_eq!(stored(&world).await.0, Some(minutes), "a change of another field keeps it");
    change(&world, BookPatch { schedule: Change::Set(None), ..BookPatch::default() }).await.unwrap();
    assert_eq!(stored(&world).await, (None, "Europe/Madrid".to_owned()));
}

/// The minutes cannot differ from the schedule.
#[tokio::test]
async fn a_change_by_sql_is_checked_like_one_of_the_store() {
    let world = World::new().await;
    for (set, minutes) in [
        (r#"schedule = '[{"days":["MON"],"from":"00:00","to":"00:01"}]'"#, Some("{[0,1)}")),
        ("schedule_minutes = '{[0,10080)}'", Some("{[0,1)}")),
        ("schedule = null", None),
        ("schedule_minutes = '{[0,10080)}'", None),
    ] {
        query(sqlx::AssertSqlSafe(format!("update coupon_book set {set}")))
            .execute(world.pool())
            .await
            .unwrap();
        assert_eq!(stored(&world).await.0.as_deref(), minutes, "{set}");
    }
}

#[tokio::test]
async fn a_time_zone_is_one_that_postgres_knows_by_its_name_of_the_iana_database() {
    let world = World::new().await;
    for zone in ["Europe/Madrid", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "UTC", "Pacific/Apia"] {
        try_set(&world, None, zone).await.unwrap();
        assert_eq!(stored(&world).await.1, zone);
    }
    for zone in [
        "",
        "Mars/Olympus",
        "europe/madrid",
        "Europe/Madrid ",
        "CET",
        "EST",
        "CEST",
        "UTC+2",
        "ABC-0:10",
        "localtime",
        "posixrules",
        "posix/Europe/Madrid",
    ] {
        assert_eq!(field(try_set(&world, None, zone).await), "timeZone", "{zone}");
        let created = BookRules { time_zone: zone.to_owned(), ..rules() };
        let created = world.store().create_book(None, world.business, &created).await.unwrap().outcome;
        assert_eq!(field(created.map(drop)), "timeZone", "{zone}");
    }
    assert_eq!(stored(&world).await.1, "Pacific/Apia");
}

#[tokio::test]
async fn a_schedule_without_windows_or_with_a_bad_one_is_rejected() {
    let world = World::new().await;
    let all_day = window(&Day::ALL, "00:00", "24:00");
    for (schedule, expected) in [
        (vec![], "schedule"),
        (vec![all_day.clone(); 29], "schedule"),
        (vec![all_day.clone(), window(&[], "09:00", "18:00")], "schedule.1.days"),
        (vec![window(&[Day::Mon, Day::Sun, Day::Mon], "09:00", "18:00")], "schedule.0.days"),
        (vec![window(&[Day::Mon], "24:00", "18:00")], "schedule.0.from"),
        (vec![window(&[Day::Mon], "09:00", "09:00")], "schedule.0.to"),
    ] {
        assert_eq!(field(try_set(&world, Some(schedule), "UTC").await), expected);
    }
    try_set(&world, Some(vec![all_day; 28]), "UTC").await.unwrap();
    assert_eq!(stored(&world).await.0.as_deref(), Some("{[0,10080)}"));
}

/// As an earlier program writes a book, and stores an answer.
#[tokio::test]
async fn a_book_of_an_earlier_program_has_no_schedule() {
    let world = World::new().await;
    let book = world.store().get_book(world.business, world.book).await.unwrap();
    let mut answer = serde_json::to_value(&book).unwrap();
    for field in ["schedule", "time_zone"] {
        answer["rules"].as_object_mut().unwrap().remove(field).unwrap();
    }
    assert_eq!(serde_json::from_value::<Book>(answer).unwrap(), book);
    query("insert into coupon_book (id, business_id, name) values (gen_random_uuid(), $1, 'Another')")
        .bind(world.business.0)
        .execute(world.pool())
        .await
        .unwrap();
    let listed = world.store().list_books(world.business, None, Some("Another"), None, 10).await.unwrap();
    assert_eq!((&listed.items[0].rules.schedule, listed.items[0].rules.time_zone.as_str()), (&None, "UTC"));
}

/// Invariant I-63.
#[tokio::test]
async fn a_change_of_a_schedule_is_recorded_with_the_windows_before_and_after() {
    let world = World::new().await;
    try_set(&world, Some(vec![window(&[Day::Sat], "10:00", "14:00")]), "Europe/Madrid").await.unwrap();
    try_set(&world, None, "Europe/Madrid").await.unwrap();
    let events: Vec<serde_json::Value> = query_scalar(
        "select jsonb_build_array(before, after) from admin_event where subject = 'BOOK' and action = 'UPDATE' and after ? 'schedule'
         order by epoch, tx, id",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let windows = serde_json::json!([{"days": ["SAT"], "from": "10:00", "to": "14:00"}]);
    let expected = [
        serde_json::json!([{"schedule": null, "timeZone": "UTC"}, {"schedule": windows, "timeZone": "Europe/Madrid"}]),
        serde_json::json!([{"schedule": windows}, {"schedule": null}]),
    ];
    assert_eq!(events, expected);
}
