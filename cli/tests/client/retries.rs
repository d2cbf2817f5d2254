//! Retries: which answers are retried, under which key, for how long, and the final error.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::fake::{Fake, answer, document};
use super::run;
use crate::support::cuponera;

const LOCK: &str = r#"{"code":"ABC-1","status":"LOCKED","lockId":"x","lockedAt":"2027-01-01T00:00:00Z","lockedUntil":"2027-01-01T00:00:00Z"}"#;
const BUSY: &str =
    r#"{"type":"about:blank","title":"x","status":503,"code":"unavailable","detail":"not now"}"#;
const RUNNING: &str =
    r#"{"type":"about:blank","title":"x","status":409,"code":"key_in_progress","detail":"it runs"}"#;

#[test]
fn a_change_is_sent_again_under_the_same_key_and_the_next_one_under_another() {
    let (busy, running, done) =
        (document("503 Busy", BUSY), document("409 Conflict", RUNNING), document("200 OK", LOCK));
    // Busy; a connection that is lost after the request was read; the first attempt still runs; done. Then a second
    // call.
    let fake = Fake::answering(vec![busy, String::new(), running, done.clone(), done]);
    fake.run(&["lock", "ABC-1", "--user", "ana"]).prints(&["is locked"]);
    fake.run(&["lock", "ABC-1", "--user", "ana"]).prints(&["is locked"]);
    let asked = fake.asked();
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("Idempotency-Key").expect("no key")).collect();
    assert_eq!(keys.len(), 5);
    assert!(keys[..4].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_ne!(keys[4], keys[0]);
    assert!(
        asked.iter().all(|asked| asked.line.starts_with("POST /api/v1/coupons/ABC-1/lock ")),
        "{asked:?}"
    );
}

#[test]
fn the_server_says_how_long_to_wait_and_is_believed() {
    let full = answer("429 Full", "Retry-After: 1\r\n", "{}");
    let fake = Fake::answering(vec![full, document("200 OK", LOCK)]);
    fake.run(&["lock", "ABC-1", "--user", "ana"]).prints(&["is locked"]);
    let asked = fake.asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1));
    let fake = Fake::answering(vec![answer("429 Full", "Retry-After: 3600\r\n", "{}")]);
    let begun = Instant::now();
    fake.run(&["lock", "ABC-1", "--user", "ana", "--patience", "1m"]).fails(4, &["3600 s"]);
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for longer than --patience");
}

#[test]
fn a_server_that_cannot_be_reached_is_tried_for_as_long_as_there_is_patience() {
    let free = TcpListener::bind("127.0.0.1:0").expect("binding to loopback failed");
    let url = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let begun = Instant::now();
    let mut command = cuponera();
    command.args(["whoami", "--json", "--patience", "3s", "--url", &url]);
    command.env("CUPONERA_API_KEY", "a-key").env("CUPONERA_PATIENCE", "5m");
    let ran = run(&mut command);
    ran.fails(4, &[&url, "cannot be reached", "retrying"]);
    assert_eq!(ran.stdout, "");
    assert!(begun.elapsed() < Duration::from_mins(1), "it used CUPONERA_PATIENCE instead of --patience");
}

#[test]
fn a_fault_of_the_server_is_not_tried_again_and_its_id_is_told() {
    let fake =
        Fake::answering(vec![answer("500 Oh", "X-Request-Id: abc-123\r\n", "{}"), document("200 OK", LOCK)]);
    fake.run(&["lock", "ABC-1", "--user", "ana"]).fails(4, &["abc-123", "500"]);
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn what_a_lost_attempt_has_deleted_is_deleted_and_what_never_was_is_not() {
    let gone = || document("404 Not Found", r#"{"code":"not_found","detail":"there is no such book"}"#);
    let id = "01a20000-0000-7000-8000-000000000000";
    let fake = Fake::answering(vec![String::new(), gone(), gone()]);
    fake.run(&["books", "delete", id]).prints(&["deleted"]);
    fake.run(&["books", "delete", id]).fails(3, &["not_found"]);
}

#[test]
fn a_redirect_is_told_and_the_key_does_not_follow_it() {
    let other = Fake::answering(vec![document("200 OK", LOCK)]);
    let fake = Fake::answering(vec![answer("307 There", &format!("Location: {}/\r\n", other.url()), "")]);
    fake.run(&["lock", "ABC-1", "--user", "ana"]).fails(1, &[other.url(), "CUPONERA_URL"]);
    assert_eq!((fake.asked()[0].header("X-API-Key"), other.asked().len()), (Some("a-key"), 0));
}

#[test]
fn what_is_no_cuponera_is_told_so() {
    let page = |status| answer(status, "Content-Type: text/html\r\n", "<html>");
    let fake = Fake::answering(vec![page("200 OK"), page("404 Not Found")]);
    fake.run(&["whoami"]).fails(1, &["is the URL right?"]);
    fake.run(&["whoami"]).fails(3, &["is this the URL of a Cuponera server?"]);
}

/// Invariant I-46.
#[test]
fn what_a_server_says_cannot_steer_the_terminal() {
    let hostile = r#"{"data":[{"id":"1","name":"a\u001b[31mred\u0007","status":"A
B"}],"nextCursor":"\u001b]0;title\u0007"}"#
        .replace('\n', "\u{9b}");
    let rejection = r#"{"code":"\u001b[1mbad","detail":"\u001b[2Jgone","errors":[{"field":"\u001bc","message":"\u202e"}]}"#;
    let fake = Fake::answering(vec![
        document("200 OK", &hostile),
        document("200 OK", &hostile),
        document("422 No", rejection),
        document("422 No", rejection),
    ]);
    for (words, code) in [
        (&["books", "list", "--limit", "1"][..], 0),
        (&["books", "list", "--limit", "1", "--json"], 0),
        (&["whoami"], 3),
        (&["whoami", "--json"], 3),
    ] {
        let ran = fake.run(words);
        assert_eq!(ran.code, code, "{ran:?}");
        let steers = |char: char| char.is_control() && char != '\n' || char == '\u{202e}';
        assert!(!(ran.stdout + &ran.stderr).contains(steers), "{words:?}");
    }
}
