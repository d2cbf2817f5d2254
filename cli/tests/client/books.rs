//! `cuponera books`, with books given by id and by name, and the pages of lists.

use super::World;
use super::fake::{Fake, document};

#[tokio::test]
async fn a_book_is_led_through_its_life_by_name_or_by_id() {
    let world = World::new().await;
    let name = format!("Ñandú & Söhne {:x}", rand::random::<u64>());
    let options =
        ["--max-codes-per-user", "2", "--discount", "10%", "--lock-ttl", "60", "--metadata", "{\"a\":1}"];
    let made = world.json(&[&["books", "create", &name][..], &options].concat());
    let id = made["id"].as_str().expect("an id");
    assert_eq!(
        (&made["status"], &made["maxCodesPerUser"], &made["lockTtlSeconds"]),
        (&"DRAFT".into(), &2.into(), &60.into())
    );
    assert_eq!((&made["discount"]["type"], &made["metadata"]["a"]), (&"PERCENT".into(), &1.into()));
    world.run(&["books", "show", &name]).prints(&[&name, id, "DRAFT"]);
    assert_eq!(world.json(&["books", "show", id])["name"], name);
    world.run(&["books", "activate", id]).prints(&["ACTIVE"]);
    world.run(&["books", "pause", &name]).prints(&["PAUSED"]);
    let listed = world.json(&["books", "list", "--status", "paused", "--search", &name]);
    assert_eq!(listed["data"][0]["id"], id);
    world.run(&["books", "list", "--search", &name]).prints(&["ID", "NAME", id, "PAUSED"]);
    world.run(&["books", "close", &name]).prints(&["CLOSED"]);
    world.run(&["books", "activate", &name]).fails(3, &["invalid_transition", "409"]);
    world.run(&["books", "delete", &name]).prints(&["deleted"]);
    world.run(&["books", "show", &name]).fails(3, &["no book is named"]);
    world.run(&["books", "show", id]).fails(3, &["not_found"]);
    world.run(&["books", "delete", id]).fails(3, &["not_found"]);
}

#[tokio::test]
async fn a_large_book_is_deleted_by_a_job_that_is_waited_for_or_not() {
    let world = World::new().await;
    let large = |options| {
        let (name, id) = world.book(options);
        world.json(&["generate", "--book", &id, "--quantity", "10001"]);
        (name, id)
    };
    let (name, id) = large(&[]);
    world.run(&["books", "delete", &name]).prints(&[&name, "is deleted", "10,001 codes"]);
    world.run(&["books", "show", &id]).fails(3, &["not_found"]);

    let (name, _) = large(&[]);
    let begun = world.json(&["books", "delete", &name, "--no-wait"]);
    assert_eq!((&begun["kind"], &begun["status"]), (&"DELETE_BOOK".into(), &"QUEUED".into()));
    world
        .run(&["books", "delete", &name, "--no-wait"])
        .prints(&["is submitted", begun["id"].as_str().expect("an id")]);
    let done = world.json(&["books", "delete", &name]);
    assert_eq!((&done["id"], &done["status"]), (&begun["id"], &"SUCCEEDED".into()));
    assert_eq!(done["result"]["deletedCount"], 10_001);
}

#[tokio::test]
async fn a_name_must_be_exact_and_one_that_several_books_have_is_refused_with_their_ids() {
    let world = World::new().await;
    let (name, first) = world.book(&[]);
    let second = world.json(&["books", "create", &name]);
    let longer = world.json(&["books", "create", &format!("{name} and more")]);
    let ran = world.run(&["books", "show", &name, "--json"]);
    ran.fails(1, &[&first, second["id"].as_str().expect("an id")]);
    assert!(!ran.stderr.contains(longer["id"].as_str().expect("an id")), "{ran:?}");
    assert_eq!(ran.stdout, "");
    world.run(&["books", "show", &name[..name.len() - 1]]).fails(3, &["no book is named"]);
}

#[tokio::test]
async fn a_refusal_names_each_field_and_is_the_servers_document_under_json() {
    let world = World::new().await;
    let words = ["books", "create", "", "--lock-ttl", "0", "--discount", "500%"];
    let ran = world.run(&words);
    ran.fails(3, &["(invalid, 422)", "\n  name: ", "\n  lockTtlSeconds: ", "\n  discount.value: "]);
    assert_eq!(ran.stdout, "");
    let ran = world.run(&[&words[..], &["--json"]].concat());
    ran.fails(3, &["(invalid, 422)"]);
    let problem = ran.json();
    assert_eq!((&problem["code"], problem["errors"].as_array().map(Vec::len)), (&"invalid".into(), Some(3)));
}

#[tokio::test]
async fn a_list_goes_on_where_its_page_ended() {
    let world = World::new().await;
    let (_, id) = world.book(&[]);
    let codes = world.codes(&id, 5);
    let first = world.run(&["codes", "list", "--book", &id, "--limit", "2"]);
    first.prints(&["CODE", &codes[0], &codes[1]]);
    let cursor = first.stderr.split_once("--cursor ").expect("no cursor of the next page").1.trim();
    let second = world.json(&["codes", "list", "--book", &id, "--limit", "2", "--cursor", cursor]);
    assert_eq!((&second["data"][0]["code"], &second["total"]), (&codes[2].as_str().into(), &5.into()));
    let rest = world.run(&["codes", "list", "--book", &id, "--status", "available", "--prefix", &codes[4]]);
    rest.prints(&[&codes[4]]);
    assert!(!rest.stdout.contains(&codes[0]) && rest.stderr.is_empty(), "{rest:?}");
}

#[test]
fn a_list_goes_on_over_short_and_empty_pages() {
    let page = |data: &str, cursor: &str| {
        document("200 OK", &format!(r#"{{"data":[{data}],"nextCursor":{cursor},"total":9}}"#))
    };
    let pages = || {
        vec![
            page("", "\"a\""),
            page(r#"{"id":"1","name":"one"},{"id":"2","name":"two"}"#, "\"b\""),
            page("", "\"c\""),
            page(r#"{"id":"3","name":"three"}"#, "\"d\""),
        ]
    };
    let words = ["books", "list", "--status", "closed", "--limit", "3"];
    let fake = Fake::answering(pages());
    let ran = fake.run(&words);
    ran.prints(&["one", "two", "three"]);
    assert!(ran.stderr.contains("3 of 9 shown; for the next page add --cursor d"), "{ran:?}");
    let lines: Vec<_> = fake.asked().into_iter().map(|asked| asked.line).collect();
    for (line, query) in
        lines.iter().zip(["limit=3", "limit=3&cursor=a", "limit=1&cursor=b", "limit=1&cursor=c"])
    {
        assert!(line.contains(&format!("?status=CLOSED&{query} ")), "{lines:?}");
    }
    let json = Fake::answering(pages()).run(&[&words[..], &["--json"]].concat()).json();
    assert_eq!((json["data"].as_array().map(Vec::len), &json["nextCursor"]), (Some(3), &"d".into()));
}

#[test]
fn a_list_ends_where_no_cursor_is_even_if_it_is_empty() {
    let fake = Fake::answering(vec![
        document("200 OK", r#"{"data":[],"nextCursor":"a"}"#),
        document("200 OK", r#"{"data":[],"nextCursor":null}"#),
    ]);
    let ran = fake.run(&["jobs", "list"]);
    ran.prints(&["ID"]);
    assert_eq!((fake.asked().len(), ran.stderr.as_str()), (2, ""));
}
