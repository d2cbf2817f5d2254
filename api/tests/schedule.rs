//! Schedules of books over HTTP: the fields of a book, and the rejection outside of the schedule.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Limits, Reply, Server, id_of};

/// A window of two hours that begins this number of hours from now (UTC), and the time at which it begins.
fn from_now(hours: i64) -> (Value, String) {
    let minute = Utc::now().timestamp() / 60 * 60;
    let start = DateTime::from_timestamp(minute, 0).expect("a time") + TimeDelta::hours(hours);
    let end = start + TimeDelta::hours(2);
    let day = start.format("%a").to_string().to_uppercase();
    let clock = |at: DateTime<Utc>| at.format("%H:%M").to_string();
    let window = json!([{"days": [day], "from": clock(start), "to": clock(end)}]);
    (window, start.to_rfc3339_opts(SecondsFormat::Secs, true))
}

async fn server() -> Server {
    Server::start_with(Limits { worker: false, ..Limits::default() }).await
}

/// Invariant I-81.
#[tokio::test(flavor = "multi_thread")]
async fn outside_the_schedule_the_calls_are_refused_in_both_languages_with_the_next_opening() {
    let server = server().await;
    let (window, next_at) = from_now(3);
    let book = server.book(json!({"schedule": window})).await;
    server.plant(&book, &["HOUR-1"]).await;
    server.give("HOUR-1", "ann").await;
    let ann = server.user("ann");
    let (day, time) = (&next_at[..10], &next_at[11..19]);
    for action in ["lock", "redeem", "validate"] {
        for (language, sentence) in [
            ("en", format!("the book is outside its schedule, which opens at {day} {time} UTC")),
            ("es", format!("El libro de cupones está fuera de su horario: vuelve a abrir el {next_at}.")),
        ] {
            let call = ann.request(Method::POST, &format!("coupons/HOUR-1/{action}"));
            let problem =
                Reply::to(call.header("Accept-Language", language).json(&json!({}))).await.expect(409);
            assert_eq!(
                (&problem["code"], &problem["nextAt"], &problem["detail"]),
                (&json!("outside_schedule"), &json!(next_at), &json!(sentence)),
                "{action}"
            );
        }
    }
    let shown = ann.get(&format!("coupon-books/{book}")).await.expect(200);
    assert_eq!((&shown["schedule"], &shown["isActive"]), (&window, &json!(true)), "a USER sees the schedule");
    let path = format!("coupon-books/{book}");
    server.admin().patch(&path, json!({"schedule": from_now(-1).0})).await.expect(200);
    let lock = ann.post("coupons/HOUR-1/lock", json!({"ttlSeconds": 86_400})).await.expect(200);
    let until: DateTime<Utc> = lock["lockedUntil"].as_str().expect("a time").parse().expect("a time");
    // The schedule closes in an hour.
    assert!(
        until < Utc::now() + TimeDelta::seconds(3_600 + 301),
        "{until}: longer than the lock of the book"
    );
    server.admin().patch(&path, json!({"schedule": window})).await.expect(200);
    assert_eq!(ann.post("coupons/HOUR-1/lock", json!({})).await.rejected(409), "outside_schedule");
    ann.post("coupons/HOUR-1/validate", json!({})).await.expect(200);
    ann.post("coupons/HOUR-1/redeem", json!({"lockId": lock["lockId"]})).await.expect(200);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_changed_removed_and_cloned() {
    let server = server().await;
    let admin = server.admin();
    let given = json!([{"days": ["SUN", "MON", "FRI"], "from": "22:00", "to": "02:00"}]);
    let sorted = json!([{"days": ["MON", "FRI", "SUN"], "from": "22:00", "to": "02:00"}]);
    let fields = json!({"name": "A", "schedule": given, "timeZone": "Europe/Madrid"});
    let book = admin.post("coupon-books", fields).await.expect(201);
    assert_eq!((&book["schedule"], &book["timeZone"]), (&sorted, &json!("Europe/Madrid")));
    let path = format!("coupon-books/{}", id_of(&book));
    let clone = admin.post(&format!("{path}/clone"), json!({})).await.expect(201);
    assert_eq!((&clone["schedule"], &clone["timeZone"]), (&sorted, &json!("Europe/Madrid")));
    let renamed = admin.patch(&path, json!({"name": "B"})).await.expect(200);
    assert_eq!(renamed["schedule"], sorted);
    let zone = admin.patch(&path, json!({"timeZone": "America/Santiago"})).await.expect(200);
    assert_eq!((&zone["schedule"], &zone["timeZone"]), (&sorted, &json!("America/Santiago")));
    let removed = admin.patch(&path, json!({"schedule": null})).await.expect(200);
    assert_eq!((&removed["schedule"], &removed["timeZone"]), (&Value::Null, &json!("America/Santiago")));
    let events = admin.get(&format!("events?kind=ADMIN&subjectId={}", id_of(&book))).await.expect(200);
    let last = &events["data"][0];
    assert_eq!((&last["before"]["schedule"], &last["after"]["schedule"]), (&sorted, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_schedule_names_its_field() {
    let server = server().await;
    let draft = server.draft(json!({})).await;
    let with = |field: &str, value: Value| {
        let mut window = json!({"days": ["MON"], "from": "09:00", "to": "18:00"});
        window[field] = value;
        json!({"schedule": [{"days": ["SUN"], "from": "00:00", "to": "24:00"}, window]})
    };
    let many = vec![json!({"days": ["MON"], "from": "09:00", "to": "18:00"}); 29];
    let cases = [
        ("schedule", json!({"schedule": []})),
        ("schedule", json!({"schedule": many})),
        ("schedule", json!({"schedule": {}})),
        ("schedule", json!({"schedule": ["MON 09:00-18:00"]})),
        ("schedule.0.days", json!({"schedule": [{"from": "09:00", "to": "18:00"}]})),
        ("schedule.1.days", with("days", json!([]))),
        ("schedule.1.days", with("days", json!("MON"))),
        ("schedule.1.days", with("days", json!(["MON", "TUE", "MON"]))),
        ("schedule.1.days", with("days", json!(["MONDAY"]))),
        ("schedule.1.days", with("days", json!(["mon"]))),
        ("schedule.1.from", with("from", json!("9:00"))),
        ("schedule.1.from", with("from", json!("24:00"))),
        ("schedule.1.from", with("from", json!("09:60"))),
        ("schedule.1.from", with("from", Value::Null)),
        ("schedule.1.to", with("to", json!("24:01"))),
        ("schedule.1.to", with("to", json!("18:00:00"))),
        ("schedule.1.to", with("to", json!("09:00"))),
        ("schedule.1.until", with("until", json!("18:00"))),
        ("timeZone", json!({"timeZone": "Mars/Olympus"})),
        ("timeZone", json!({"timeZone": "CET"})),
        ("timeZone", json!({"timeZone": "UTC+2"})),
        ("timeZone", json!({"timeZone": "Europe/Madrid\u{0}"})),
        ("timeZone", json!({"timeZone": 1})),
    ];
    for (field, fields) in cases {
        let mut new = json!({"name": "A book"});
        new.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let made = server.admin().post("coupon-books", new).await.expect(422);
        let changed =
            server.admin().patch(&format!("coupon-books/{draft}"), fields.clone()).await.expect(422);
        for problem in [made, changed] {
            assert_eq!(problem["errors"][0]["field"], field, "{fields}: {problem}");
        }
    }
    let two = json!({"name": "A", "timeZone": "+2", "schedule": [
        {"days": [], "from": "x", "to": "y"}, {"days": ["MON"], "from": "09:00", "to": "09:00"}]});
    let problem = server.admin().post("coupon-books", two).await.expect(422);
    let fields: Vec<&str> = problem["errors"]
        .as_array()
        .expect("faults")
        .iter()
        .filter_map(|fault| fault["field"].as_str())
        .collect();
    let expected = ["schedule.0.days", "schedule.0.from", "schedule.0.to", "schedule.1.to", "timeZone"];
    assert_eq!(fields, expected, "all at once");
}
