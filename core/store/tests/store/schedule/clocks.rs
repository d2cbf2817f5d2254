//! Schedules at given times: on nights when the clocks change, at midnight, on 29 February. All decisions are Postgres'.

use cuponera_testkit::TestDatabase;
use sqlx::{query_as, query_scalar};

/// The functions of the schema, for one schedule.
struct Clocks<'a> {
    database: &'a TestDatabase,
    zone: &'static str,
    schedule: String,
}

impl Clocks<'_> {
    async fn is_open(&self, at: &str) -> bool {
        query_scalar("select schedule_is_open(schedule_minutes_of($1::jsonb), $2, $3::timestamptz)")
            .bind(&self.schedule)
            .bind(self.zone)
            .bind(at)
            .fetch_one(self.database.pool())
            .await
            .unwrap()
    }

    async fn opens_at(&self, at: &str) -> String {
        query_scalar(
            "select to_char(schedule_opens_at(schedule_minutes_of($1::jsonb), $2, $3::timestamptz) at time zone 'UTC',
                            'YYYY-MM-DD HH24:MI:SS')",
        )
        .bind(&self.schedule)
        .bind(self.zone)
        .bind(at)
        .fetch_one(self.database.pool())
        .await
        .unwrap()
    }

    /// Asserts that the schedule is closed a microsecond before the first time and open from then on, closed from the second time on, and so on.
    async fn turns_at(&self, times: &[&str]) {
        for (number, time) in times.iter().enumerate() {
            let opens = number % 2 == 0;
            let before: String = query_scalar("select ($1::timestamptz - interval '1 microsecond')::text")
                .bind(format!("{time}Z"))
                .fetch_one(self.database.pool())
                .await
                .unwrap();
            let (schedule, zone) = (&self.schedule, self.zone);
            assert_eq!(self.is_open(&before).await, !opens, "{schedule} in {zone} before {time}Z");
            assert_eq!(self.is_open(&format!("{time}Z")).await, opens, "{schedule} in {zone} at {time}Z");
        }
    }
}

fn window(days: &str, from: &str, to: &str) -> String {
    let days: Vec<String> = days.split(',').map(|day| format!("\"{day}\"")).collect();
    format!(r#"[{{"days":[{}],"from":"{from}","to":"{to}"}}]"#, days.join(","))
}

/// Days, begin and end of a window, and the times (UTC) at which it opens and closes.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

async fn all(zone: &'static str, cases: &[Case]) {
    let database = TestDatabase::create().await;
    for (days, from, to, times) in cases {
        let clocks = Clocks { database: &database, zone, schedule: window(days, from, to) };
        clocks.turns_at(times).await;
    }
}

/// At 01:00 UTC the clocks go from 02:00 to 03:00: Sunday has 23 hours.
/// Invariant I-81.
#[tokio::test]
async fn in_the_spring_night_of_madrid_a_skipped_time_is_in_no_window() {
    all(
        "Europe/Madrid",
        &[
            ("SUN", "00:00", "24:00", &["2027-03-27 23:00", "2027-03-28 22:00"]),
            ("SUN", "01:00", "02:30", &["2027-03-28 00:00", "2027-03-28 01:00"]),
            ("SUN", "02:30", "04:00", &["2027-03-28 01:00", "2027-03-28 02:00"]),
            ("SAT", "22:00", "02:30", &["2027-03-27 21:00", "2027-03-28 01:00"]),
            ("SAT,SUN", "02:00", "03:00", &["2027-03-27 01:00", "2027-03-27 02:00"]),
        ],
    )
    .await;
    let database = TestDatabase::create().await;
    let skipped =
        Clocks { database: &database, zone: "Europe/Madrid", schedule: window("SUN", "02:00", "03:00") };
    assert!(!skipped.is_open("2027-03-28 00:59:59.999999Z").await);
    assert!(!skipped.is_open("2027-03-28 01:00Z").await);
    assert_eq!(skipped.opens_at("2027-03-27 12:00Z").await, "2027-04-04 00:00:00", "a week later");
}

/// At 01:00 UTC the clocks go back from 03:00 to 02:00: Sunday has 25 hours.
/// Invariant I-81.
#[tokio::test]
async fn in_the_autumn_night_of_madrid_a_repeated_time_is_in_its_window_twice() {
    all(
        "Europe/Madrid",
        &[
            ("SUN", "00:00", "24:00", &["2027-10-30 22:00", "2027-10-31 23:00"]),
            ("SUN", "02:00", "03:00", &["2027-10-31 00:00", "2027-10-31 02:00"]),
            (
                "SUN",
                "02:30",
                "03:00",
                &["2027-10-31 00:30", "2027-10-31 01:00", "2027-10-31 01:30", "2027-10-31 02:00"],
            ),
            (
                "SAT",
                "22:00",
                "02:30",
                &["2027-10-30 20:00", "2027-10-31 00:30", "2027-10-31 01:00", "2027-10-31 01:30"],
            ),
        ],
    )
    .await;
}

/// At 04:00 UTC the clocks go from midnight to 01:00: Sunday has 23 hours, and no midnight.
/// Invariant I-81.
#[tokio::test]
async fn in_the_spring_night_of_santiago_a_day_begins_at_one() {
    all(
        "America/Santiago",
        &[
            ("SUN", "00:00", "24:00", &["2027-09-05 04:00", "2027-09-06 03:00"]),
            ("SAT", "20:00", "24:00", &["2027-09-05 00:00", "2027-09-05 04:00"]),
            ("SAT", "20:00", "00:30", &["2027-09-05 00:00", "2027-09-05 04:00"]),
            ("SAT", "20:00", "02:00", &["2027-09-05 00:00", "2027-09-05 05:00"]),
            ("SUN", "00:30", "02:00", &["2027-09-05 04:00", "2027-09-05 05:00"]),
        ],
    )
    .await;
    let database = TestDatabase::create().await;
    let skipped =
        Clocks { database: &database, zone: "America/Santiago", schedule: window("SUN", "00:00", "01:00") };
    assert!(!skipped.is_open("2027-09-05 03:59:59Z").await);
    assert!(!skipped.is_open("2027-09-05 04:00Z").await);
    assert_eq!(skipped.opens_at("2027-09-05 03:00Z").await, "2027-09-12 03:00:00", "a week later");
}

/// At 03:00 UTC the clocks go back from midnight to 23:00: Saturday has 25 hours, and Sunday begins once.
/// Invariant I-81.
#[tokio::test]
async fn in_the_autumn_night_of_santiago_the_last_hour_of_a_day_is_twice() {
    all(
        "America/Santiago",
        &[
            ("SAT", "00:00", "24:00", &["2027-04-03 03:00", "2027-04-04 04:00"]),
            ("SUN", "00:00", "08:00", &["2027-04-04 04:00", "2027-04-04 12:00"]),
            ("SAT", "22:00", "01:00", &["2027-04-04 01:00", "2027-04-04 05:00"]),
            (
                "SAT",
                "23:30",
                "24:00",
                &["2027-04-04 02:30", "2027-04-04 03:00", "2027-04-04 03:30", "2027-04-04 04:00"],
            ),
            (
                "SAT",
                "22:00",
                "23:30",
                &["2027-04-04 01:00", "2027-04-04 02:30", "2027-04-04 03:00", "2027-04-04 03:30"],
            ),
        ],
    )
    .await;
}

/// Invariant I-81.
#[tokio::test]
async fn a_window_ends_before_its_end_and_may_pass_midnight_the_week_and_29_february() {
    all(
        "UTC",
        &[
            ("MON", "09:00", "18:00", &["2027-03-01 09:00", "2027-03-01 18:00"]),
            ("FRI", "22:00", "02:00", &["2027-03-05 22:00", "2027-03-06 02:00"]),
            ("SUN", "22:00", "02:00", &["2027-03-07 22:00", "2027-03-08 02:00"]),
            (
                "SAT,SUN",
                "12:00",
                "11:00",
                &["2027-03-06 12:00", "2027-03-07 11:00", "2027-03-07 12:00", "2027-03-08 11:00"],
            ),
            ("MON", "23:00", "00:00", &["2027-03-01 23:00", "2027-03-02 00:00"]),
            ("MON,TUE", "00:00", "24:00", &["2027-03-01 00:00", "2027-03-03 00:00"]),
            ("SUN,MON", "00:00", "24:00", &["2027-02-28 00:00", "2027-03-02 00:00"]),
            // 2028 has a 29 February, a Tuesday; 2027 goes from Sunday 28 February to Monday.
            ("TUE", "00:00", "24:00", &["2028-02-29 00:00", "2028-03-01 00:00"]),
            ("TUE", "22:00", "02:00", &["2028-02-29 22:00", "2028-03-01 02:00"]),
            ("MON,WED", "00:00", "24:00", &["2028-02-28 00:00", "2028-02-29 00:00", "2028-03-01 00:00"]),
        ],
    )
    .await;
    all("Asia/Kolkata", &[("TUE", "00:00", "00:01", &["2028-02-28 18:30", "2028-02-28 18:31"])]).await;
}

/// Invariant I-81.
#[tokio::test]
async fn overlapping_windows_are_one() {
    let database = TestDatabase::create().await;
    let schedule = r#"[{"days":["MON"],"from":"09:00","to":"12:00"},{"days":["MON"],"from":"11:00","to":"15:00"},
                       {"days":["MON"],"from":"10:00","to":"10:30"},{"days":["MON","SUN"],"from":"15:00","to":"09:00"}]"#;
    let minutes: String = query_scalar("select schedule_minutes_of($1::jsonb)::text")
        .bind(schedule)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(minutes, "{[0,1980),[9540,10080)}", "Sunday 15:00 to Tuesday 09:00");
    let clocks = Clocks { database: &database, zone: "UTC", schedule: schedule.to_owned() };
    clocks.turns_at(&["2027-02-28 15:00", "2027-03-02 09:00"]).await;
}

#[tokio::test]
async fn the_next_opening_is_named_to_the_second_and_is_now_if_it_is_open() {
    let database = TestDatabase::create().await;
    let cases = [
        (
            "Europe/Madrid",
            window("MON,TUE", "09:00", "18:00"),
            "2027-03-02 17:00:00.5Z",
            "2027-03-08 08:00:00",
        ),
        ("Europe/Madrid", window("MON,TUE", "09:00", "18:00"), "2027-03-02 08:00:01Z", "2027-03-02 08:00:01"),
        ("Europe/Madrid", window("MON,TUE", "09:00", "18:00"), "2027-03-26 17:00Z", "2027-03-29 07:00:00"),
        ("UTC", window("SUN", "23:00", "01:00"), "2027-03-01 01:00Z", "2027-03-07 23:00:00"),
        // The clocks go back into the window.
        ("Europe/Madrid", window("SUN", "01:00", "02:30"), "2027-10-31 00:45Z", "2027-10-31 01:00:00"),
        ("Europe/Madrid", window("SUN", "02:30", "04:00"), "2027-03-28 00:30Z", "2027-03-28 01:00:00"),
        ("America/Santiago", window("SUN", "00:00", "08:00"), "2027-04-04 03:00Z", "2027-04-04 04:00:00"),
        ("America/Santiago", window("SUN", "00:00", "08:00"), "2027-09-05 03:00Z", "2027-09-05 04:00:00"),
        ("Australia/Lord_Howe", window("SUN", "02:15", "02:20"), "2027-10-02 00:00Z", "2027-10-09 15:15:00"),
        ("UTC", window("TUE", "00:00", "24:00"), "2028-02-23 00:00Z", "2028-02-29 00:00:00"),
    ];
    for (zone, schedule, at, expected) in cases {
        let clocks = Clocks { database: &database, zone, schedule };
        assert_eq!(clocks.opens_at(at).await, expected, "{} in {zone} after {at}", clocks.schedule);
    }
}

#[tokio::test]
async fn the_seconds_until_the_schedule_closes_are_counted_over_the_end_of_the_week() {
    let database = TestDatabase::create().await;
    let cases = [
        (window("MON", "09:00", "18:00"), "2027-03-01 17:59:59.9Z", Some(1)),
        (window("MON", "09:00", "18:00"), "2027-03-01 09:00Z", Some(9 * 3_600)),
        (window("MON", "09:00", "18:00"), "2027-03-01 18:00Z", None),
        (window("FRI", "22:00", "02:00"), "2027-03-05 23:00:30Z", Some(3 * 3_600 - 30)),
        (window("SUN", "22:00", "02:00"), "2027-03-07 23:00Z", Some(3 * 3_600)),
        (window("SUN", "22:00", "02:00"), "2027-03-08 01:00Z", Some(3_600)),
        (window("SUN", "22:00", "24:00"), "2027-03-07 23:00Z", Some(3_600)),
        (window("MON,TUE,WED,THU,FRI,SAT,SUN", "00:00", "24:00"), "2027-03-07 23:00Z", None),
    ];
    for (schedule, at, expected) in cases {
        let left: Option<i32> = query_scalar(
            "select schedule_seconds_left(schedule_minutes_of($1::jsonb), 'UTC', $2::timestamptz)",
        )
        .bind(&schedule)
        .bind(at)
        .fetch_one(database.pool())
        .await
        .unwrap();
        assert_eq!(left, expected, "{schedule} at {at}");
    }
}

/// Compares the search with every minute of three weeks around the change, at each half hour of the first ten days.
#[tokio::test]
async fn the_next_opening_is_the_first_minute_at_which_the_schedule_is_open() {
    let database = TestDatabase::create().await;
    for (zone, start) in [
        ("Europe/Madrid", "2027-03-22"),
        ("Europe/Madrid", "2027-10-25"),
        ("America/Santiago", "2027-03-29"),
        ("America/Santiago", "2027-08-30"),
        ("Australia/Lord_Howe", "2027-09-27"),
    ] {
        let (compared, wrong): (i64, i64) = query_as(
            "with given (days, opens, closes) as (values
               ('[\"SUN\"]', '00:00', '00:45'), ('[\"SUN\"]', '02:10', '02:20'), ('[\"SAT\"]', '22:30', '00:30'), ('[\"SUN\"]', '01:30', '02:30'),
               ('[\"MON\",\"THU\"]', '09:00', '18:00')),
             schedule as materialized (
               select opens, schedule_minutes_of(jsonb_build_array(jsonb_build_object('days', days::jsonb, 'from', opens, 'to', closes))) as minutes
               from given),
             minute as materialized (
               select opens, minutes, at, schedule_is_open(minutes, $1, at) as is_open
               from schedule, generate_series($2::timestamptz, $2::timestamptz + interval '21 days', interval '1 minute') at),
             first as materialized (
               select opens, minutes, at, min(at) filter (where is_open) over (partition by opens order by at desc) as opening from minute)
             select count(*), count(*) filter (where schedule_opens_at(minutes, $1, at) is distinct from opening)
             from first where at < $2::timestamptz + interval '10 days' and extract(minute from at) in (0, 30)",
        )
        .bind(zone)
        .bind(start)
        .fetch_one(database.pool())
        .await
        .unwrap();
        assert_eq!((compared, wrong), (5 * 480, 0), "{zone} {start}");
    }
}
