//! The upload of assignments over HTTP: existing codes for the users that a file names.

use cuponera_testkit::{Expected, ImportCase, import_cases};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, Server, id_of, wait_for_job};

async fn upload(client: &Client, query: &str, file: impl Into<reqwest::Body>) -> Reply {
    let request = client.request(Method::POST, &format!("assignments/upload?{query}"));
    Reply::to(request.header("Content-Type", "text/csv").body(file)).await
}

/// The codes of a book that users hold, as `CODE=user`.
async fn held(server: &Server, book: &str) -> Vec<String> {
    let codes = server.codes(book).await;
    let held = codes
        .iter()
        .filter_map(|code| Some(format!("{}={}", code["code"].as_str()?, code["userId"].as_str()?)));
    let mut held: Vec<_> = held.collect();
    held.sort_unstable();
    held
}

fn numbers(job: &Value) -> [i64; 5] {
    ["assignedCount", "alreadyAssignedCount", "rejectedCount", "duplicatesCount", "invalidRowsCount"]
        .map(|name| job["result"][name].as_i64().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_assigns_codes_and_every_other_row_has_a_reason() {
    let server = Server::start().await;
    let admin = server.admin();
    let book = server.book(json!({"maxCodesPerUser": 2})).await;
    let other = server.book(json!({})).await;
    server.plant(&book, &["AAA-1", "AAA-2", "AAA-3", "AAA-4", "AAA-5", "AAA-6"]).await;
    server.plant(&other, &["BBB-1"]).await;
    server.give("AAA-2", "ana").await;
    admin.post("coupons/AAA-3/void", json!({"reason": "leaked"})).await.expect(200);
    let file = "Code;Note;Customer ID\n aaa-1 ;x;ana\nAAA-2;;ana\nAAA-2;;eva\nAAA-3;;eva\nBBB-1;;eva\nNONE-1;;eva\nAAA-4;;ana\n\
                b!;;eva\nAAA-5;;\nAAA-6;;e\u{200b}va\n";
    let query = format!("couponBookId={book}");
    let reply = upload(&admin, &format!("{query}&dryRun=true"), file).await.expect(202);
    let dry = wait_for_job(&admin, &id_of(&reply)).await;
    assert_eq!(held(&server, &book).await, ["AAA-2=ana"]);
    let reply = upload(&admin, &query, file).await;
    let location = reply.header("location").to_owned();
    let job = reply.expect(202);
    assert_eq!(location, format!("/api/v1/jobs/{}", id_of(&job)));
    let done = wait_for_job(&admin, &id_of(&job)).await;
    assert_eq!((&done["kind"], &done["status"]), (&json!("ASSIGN_CODES"), &json!("SUCCEEDED")), "{done}");
    assert_eq!((numbers(&done), numbers(&dry)), ([1, 1, 4, 1, 3], [1, 1, 4, 1, 3]));
    assert_eq!((&done["progress"]["total"], &done["progress"]["percent"]), (&json!(10), &json!(100.0)));
    assert_eq!(done["result"]["readAs"]["userColumn"], "Customer ID");
    assert_eq!(done["result"]["readAs"]["metadataColumns"], json!([]));
    assert_eq!(held(&server, &book).await, ["AAA-1=ana", "AAA-2=ana"]);
    let errors = admin.get(&format!("jobs/{}/errors", id_of(&job))).await.text;
    let reasons: Vec<Vec<&str>> =
        errors.lines().skip(1).map(|line| line.split(',').take(3).collect()).collect();
    let expected = [
        ["4", "AAA-2", "duplicate_in_file"],
        ["5", "AAA-3", "coupon_void"],
        ["6", "BBB-1", "other_book"],
        ["7", "NONE-1", "not_found"],
        ["8", "AAA-4", "user_limit_reached"],
        ["9", "b!", "bad_character"],
        ["10", "AAA-5", "no_user"],
        ["11", "AAA-6", "bad_user_id"],
    ];
    assert_eq!(reasons, expected);
    let history = admin.get("coupons/AAA-1/history").await.expect(200);
    assert_eq!(history["data"][0]["actor"], format!("job:{}", id_of(&job)));
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_users_is_rejected_and_two_columns_without_a_header_are_code_and_user() {
    let server = Server::start().await;
    let admin = server.admin();
    let book = server.book(json!({})).await;
    server.plant(&book, &["AAA-1", "AAA-2"]).await;
    let query = format!("couponBookId={book}");
    for file in ["code\nAAA-1\n", "AAA-1\nAAA-2\n", "code,note\nAAA-1,ana\n", "AAA-1,ana,x\nAAA-2,eva,x\n"] {
        let rejected = upload(&admin, &query, file).await.expect(422);
        assert_eq!(rejected["code"], "unclear_header", "{file:?}: {rejected}");
        assert!(
            rejected["detail"].as_str().is_some_and(|detail| detail.contains("userColumn")),
            "{rejected}"
        );
    }
    for (more, file, user) in [
        ("", "AAA-1,ana\nAAA-2,ana\n", "ana"),
        ("&codeColumn=2", "ana,AAA-1\nana,AAA-2\n", "ana"),
        ("&userColumn=3", "AAA-1,x,ana\nAAA-2,x,ana\n", "ana"),
        ("&header=true&codeColumn=1&userColumn=2", "Serial,Who\nAAA-1,ana\nAAA-2,ana\n", "ana"),
    ] {
        let job = upload(&admin, &format!("{query}{more}"), file).await.expect(202);
        let done = wait_for_job(&admin, &id_of(&job)).await;
        assert_eq!(numbers(&done)[0] + numbers(&done)[1], 2, "{more}: {done}");
        assert_eq!(held(&server, &book).await, [format!("AAA-1={user}"), format!("AAA-2={user}")]);
    }
    let form = reqwest::multipart::Form::new().text("couponBookId", book.clone()).text("userColumn", "Who");
    let form = form.part("file", reqwest::multipart::Part::text("code,Who\nAAA-1,ana\n"));
    let job = Reply::to(admin.request(Method::POST, "assignments/upload").multipart(form)).await.expect(202);
    assert_eq!(numbers(&wait_for_job(&admin, &id_of(&job)).await), [0, 1, 0, 0, 0]);
    let draft = server.draft(json!({})).await;
    let rejected = upload(&admin, &format!("couponBookId={draft}"), "AAA-1,ana\n").await.expect(409);
    assert_eq!(rejected["code"], "book_not_active");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_a_key_is_one_job() {
    let server = Server::start().await;
    let admin = server.admin();
    let book = server.book(json!({})).await;
    server.plant(&book, &["AAA-1"]).await;
    let path = format!("assignments/upload?couponBookId={book}");
    let send = async |file: &'static str| {
        let request = admin.request(Method::POST, &path).header("Content-Type", "text/csv");
        Reply::to(request.header("Idempotency-Key", "one").body(file)).await
    };
    let first = id_of(&send("AAA-1,ana\n").await.expect(202));
    let again = send("AAA-1,ana\n").await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(id_of(&again.expect(202)), first);
    assert_eq!(send("AAA-1,eva\n").await.expect(422)["code"], "key_reused");
}

/// The files of imports, with codes that exist already: the users are those that an import assigns.
#[tokio::test(flavor = "multi_thread")]
async fn files_assign_the_users_that_their_writers_meant() {
    let server = Server::start().await;
    let mut with_users = 0;
    for (number, case) in import_cases().iter().enumerate() {
        let letter = |number: usize| char::from(b'A' + u8::try_from(number % 26).expect("below 26"));
        let case = case.with_prefix(&format!("{}{}", letter(number / 26), letter(number)));
        with_users += i32::from(check(&server, &case).await);
    }
    assert!(with_users >= 10, "{with_users} files name users");
    server.assert_invariants().await;
}

/// Returns whether the file names users.
async fn check(server: &Server, case: &ImportCase) -> bool {
    let Expected::Imported(codes, _) = &case.expected else { return false };
    let names: Vec<&str> = codes.iter().map(|code| code.split('=').next().unwrap_or(code)).collect();
    if names.is_empty() {
        return false;
    }
    let rules = case.max_codes_per_user.map_or(json!({}), |limit| json!({"maxCodesPerUser": limit}));
    let book = server.book(rules).await;
    server.plant(&book, &names).await;
    let query = [("couponBookId", book.as_str())].into_iter().chain(case.query.iter().copied());
    let url = reqwest::Url::parse_with_params("http://server", query).expect("a URL");
    let reply = upload(&server.admin(), url.query().unwrap_or_default(), case.file.to_vec()).await;
    let mut expected: Vec<String> = codes.iter().filter(|code| code.contains('=')).cloned().collect();
    expected.sort_unstable();
    if reply.status == 422 {
        assert_eq!(reply.expect(422)["code"], "unclear_header", "{}", case.name);
        assert_eq!(expected, Vec::<String>::new(), "{}", case.name);
        return false;
    }
    let done = wait_for_job(&server.admin(), &id_of(&reply.expect(202))).await;
    assert_eq!(done["status"], "SUCCEEDED", "{}: {done}", case.name);
    // Without a header, the second of two columns has the users, which an import does not assume.
    if done["result"]["readAs"]["header"] == true || !expected.is_empty() {
        assert_eq!(held(server, &book).await, expected, "{}: {done}", case.name);
    }
    !expected.is_empty()
}
