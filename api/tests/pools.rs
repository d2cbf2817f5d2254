//! User pools and distributions over HTTP: users by JSON and by file, distributions, previews, reports.

use serde_json::{Value, json};

use crate::support::{Client, Limits, Reply, Server, id_of, wait_for_job};

async fn pool(client: &Client, name: &str) -> String {
    id_of(&client.post("user-pools", json!({ "name": name })).await.expect(201))
}

/// Uploads a file of users and returns the job once it has ended.
async fn upload(client: &Client, pool: &str, query: &str, file: &str) -> Value {
    let request = client.request(reqwest::Method::POST, &format!("user-pools/{pool}/users{query}"));
    let reply = Reply::to(request.header("Content-Type", "text/csv").body(file.to_owned())).await;
    let location = reply.header("location").to_owned();
    let job = reply.expect(202);
    assert_eq!(location, format!("/api/v1/jobs/{}", id_of(&job)));
    wait_for_job(client, &id_of(&job)).await
}

async fn users(client: &Client, pool: &str) -> Vec<String> {
    let page = client.get(&format!("user-pools/{pool}/users?limit=500")).await.expect(200);
    let users = page["data"].as_array().expect("users").iter();
    users.map(|user| user["userId"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_created_changed_listed_and_deleted() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let admin = server.admin();
    let body = json!({"name": " VIP ", "description": "the best"});
    let reply = admin.post("user-pools", body).await;
    let location = reply.header("location").to_owned();
    let made = reply.expect(201);
    let id = id_of(&made);
    assert_eq!(location, format!("/api/v1/user-pools/{id}"));
    assert_eq!((&made["name"], &made["memberCount"]), (&json!("VIP"), &json!(0)));
    assert_eq!(admin.post("user-pools", json!({"name": "VIP"})).await.expect(409)["code"], "name_taken");
    let faults = admin.post("user-pools", json!({"name": " ", "size": 3})).await.expect(422);
    assert_eq!(faults["errors"].as_array().map(Vec::len), Some(2));
    let path = format!("user-pools/{id}");
    let changed = admin.patch(&path, json!({"name": "Gold", "description": null})).await.expect(200);
    assert_eq!((&changed["name"], changed.get("description")), (&json!("Gold"), None));
    let other = pool(&admin, "Other").await;
    let listed = admin.get("user-pools").await.expect(200);
    let names: Vec<&Value> =
        listed["data"].as_array().expect("pools").iter().map(|pool| &pool["name"]).collect();
    assert_eq!((names, &listed["total"]), (vec![&json!("Other"), &json!("Gold")], &json!(2)));
    assert_eq!(admin.delete(&path).await.status, 204);
    assert_eq!(admin.delete(&path).await.status, 404);
    assert_eq!(admin.get(&path).await.status, 404);
    assert_eq!(users(&admin, &other).await, Vec::<String>::new());
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_added_and_removed_by_json() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let admin = server.admin();
    let id = pool(&admin, "Pool").await;
    let path = format!("user-pools/{id}/users");
    let added =
        admin.post(&path, json!({"userIds": ["eva", " ana ", "eva", "", "leo maría"]})).await.expect(200);
    assert_eq!(added, json!({"added": 3, "alreadyMembers": 1, "invalid": 1}));
    assert_eq!(users(&admin, &id).await, ["ana", "eva", "leo maría"]);
    let page = admin.get(&format!("{path}?prefix=e")).await.expect(200);
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(admin.delete(&format!("{path}/leo%20mar%C3%ADa")).await.status, 204);
    assert_eq!(admin.delete(&format!("{path}/leo")).await.status, 404);
    let removed =
        admin.post(&format!("{path}/remove"), json!({"userIds": ["ana", "nobody"]})).await.expect(200);
    assert_eq!(removed, json!({"removed": 1}));
    assert_eq!(admin.get(&format!("user-pools/{id}")).await.expect(200)["memberCount"], 1);
    for (body, query) in
        [(json!({"userIds": []}), ""), (json!({}), ""), (json!({"userIds": ["x"]}), "?header=true")]
    {
        assert_eq!(admin.post(&format!("{path}{query}"), body).await.status, 422);
    }
    let text = admin.request(reqwest::Method::POST, &path).header("Content-Type", "text/plain").body("ana");
    assert_eq!(Reply::to(text).await.status, 415);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_added_by_a_file_with_or_without_a_header() {
    let server = Server::start().await;
    let admin = server.admin();
    for (query, file, expected, header, counts) in [
        ("", "userId\nana\neva\nana\n", vec!["ana", "eva"], true, [2, 0, 1, 0]),
        ("", "Name;Customer ID\nAna;a1\nEva;e2\n", vec!["a1", "e2"], true, [2, 0, 0, 0]),
        ("", "code\nana\n", vec!["ana", "code"], false, [2, 0, 0, 0]),
        ("", "ana,Ana\neva,Eva\nx\u{200b}y,X\n", vec!["ana", "eva"], false, [2, 0, 0, 1]),
        ("", "Doe, Jane\nRoe\n", vec!["Doe, Jane", "Roe"], false, [2, 0, 0, 0]),
        ("?header=true", "Name\nana\n", vec!["ana"], true, [1, 0, 0, 0]),
        ("?header=false", "userId\nana\n", vec!["ana", "userId"], false, [2, 0, 0, 0]),
        ("?userColumn=2", "1,ana\n2,eva\n", vec!["ana", "eva"], false, [2, 0, 0, 0]),
    ] {
        let id = pool(&admin, file).await;
        let job = upload(&admin, &id, query, file).await;
        let result = &job["result"];
        assert_eq!((&job["kind"], &job["status"]), (&json!("IMPORT_MEMBERS"), &json!("SUCCEEDED")), "{job}");
        assert_eq!(users(&admin, &id).await, expected, "{file:?}");
        assert_eq!(result["readAs"]["header"], header, "{file:?}");
        let names = ["addedCount", "alreadyMembersCount", "duplicatesCount", "invalidRowsCount"];
        assert_eq!(names.map(|name| result[name].as_i64().expect("a number")), counts, "{file:?}");
        let rejected = admin.get(&format!("jobs/{}/errors", id_of(&job))).await.text.lines().count() - 1;
        assert_eq!(i64::try_from(rejected).unwrap(), counts[1] + counts[2] + counts[3]);
    }
    let id = pool(&admin, "Again").await;
    upload(&admin, &id, "", "userId\nana\n").await;
    let again = upload(&admin, &id, "", "userId\nana\neva\n").await;
    assert_eq!(
        (&again["result"]["addedCount"], &again["result"]["alreadyMembersCount"]),
        (&json!(1), &json!(1))
    );
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_distributed_previewed_listed_and_reported() {
    let server = Server::start().await;
    let admin = server.admin();
    let book = server.book(json!({"maxCodesPerUser": 2})).await;
    let order = json!({"couponBookId": book, "quantity": 10});
    let job = id_of(&admin.post("coupon-codes/generate", order).await.expect(202));
    wait_for_job(&admin, &job).await;
    let id = pool(&admin, "Pool").await;
    admin
        .post(&format!("user-pools/{id}/users"), json!({"userIds": ["ana", "eva", "leo"]}))
        .await
        .expect(200);
    let path = format!("user-pools/{id}/distributions");
    let body = |more: Value| {
        let mut body = json!({"couponBookId": book, "mode": "EQUAL"});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        body
    };
    let preview =
        admin.post(&path, body(json!({"totalCodes": 5, "seed": 7, "dryRun": true}))).await.expect(200);
    assert_eq!(preview["perUser"], json!({"min": 1, "max": 2}));
    let job = admin.post(&path, body(json!({"totalCodes": 5, "seed": 7}))).await.expect(202);
    let done = wait_for_job(&admin, &id_of(&job)).await;
    assert_eq!((&done["status"], &done["result"]["given"]), (&json!("SUCCEEDED"), &json!(5)));
    let view = admin.get(&format!("distributions/{}", id_of(&done))).await.expect(200);
    let expected = json!({
        "jobId": id_of(&done), "poolId": id, "couponBookId": book, "mode": "EQUAL", "totalCodes": 5, "seed": 7,
        "onShortage": "FAIL", "status": "SUCCEEDED", "members": 3, "given": 5, "short": 0, "createdAt": done["createdAt"],
    });
    assert_eq!(view, expected);
    for (query, found) in
        [(String::new(), 1), (format!("?poolId={id}&couponBookId={book}"), 1), (format!("?poolId={book}"), 0)]
    {
        let listed = admin.get(&format!("distributions{query}")).await.expect(200);
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(found), "{query}");
    }
    let report = admin.get(&format!("jobs/{}/report", id_of(&done))).await;
    let mut lines = report.text.lines();
    assert_eq!(lines.next(), Some("userId,given,codes,note"));
    for (line, sample) in lines.zip(preview["sample"].as_array().expect("a sample")) {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(
            (cells[0], cells[1]),
            (sample["userId"].as_str().unwrap_or_default(), &*sample["given"].to_string())
        );
        for code in cells[2].split(' ') {
            assert_eq!(admin.get(&format!("coupons/{code}")).await.expect(200)["userId"], cells[0]);
        }
    }
    let other = job_of(&server, &book).await;
    assert_eq!(admin.get(&format!("jobs/{other}/report")).await.status, 404);
    let short = admin.post(&path, body(json!({"totalCodes": 6}))).await.expect(409);
    assert_eq!(
        ["code", "needed", "available"].map(|name| short[name].clone()),
        [json!("not_enough_codes"), json!(6), json!(5)]
    );
    assert_rejected_rules(&admin, &path, &body).await;
    let limited = id_of(&admin.post(&path, body(json!({"codesPerUser": 1}))).await.expect(202));
    let limited = wait_for_job(&admin, &limited).await;
    assert_eq!(limited["result"]["given"], 1, "the quotas have room for one more code");
    let draft = server.draft(json!({})).await;
    let rejected = json!({"couponBookId": draft, "mode": "EQUAL", "codesPerUser": 1});
    assert_eq!(admin.post(&path, rejected).await.expect(409)["code"], "book_not_active");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distribution_is_taken_back_except_for_what_was_used() {
    let server = Server::start().await;
    let admin = server.admin();
    let book = server.book(json!({"maxCodesPerUser": 2})).await;
    let order = json!({"couponBookId": book, "quantity": 6});
    let generation = id_of(&admin.post("coupon-codes/generate", order).await.expect(202));
    wait_for_job(&admin, &generation).await;
    let id = pool(&admin, "Pool").await;
    let users = json!({"userIds": ["ana", "eva", "leo"]});
    admin.post(&format!("user-pools/{id}/users"), users).await.expect(200);
    let order = json!({"couponBookId": book, "mode": "EQUAL", "codesPerUser": 2});
    let given = id_of(&admin.post(&format!("user-pools/{id}/distributions"), order).await.expect(202));
    wait_for_job(&admin, &given).await;
    let held = async |user: &str| {
        let page = admin.get(&format!("assignments/user/{user}?couponBookId={book}")).await.expect(200);
        let codes = page["data"].as_array().expect("codes").iter();
        codes.map(|coupon| coupon["code"].as_str().expect("a code").to_owned()).collect::<Vec<_>>()
    };
    let [of_ana, of_eva] = [held("ana").await, held("eva").await];
    let (used, locked) = (&of_ana[0], &of_eva[0]);
    admin.post(&format!("coupons/{used}/redeem"), json!({"userId": "ana"})).await.expect(200);
    admin.post(&format!("coupons/{locked}/lock"), json!({"userId": "eva"})).await.expect(200);
    let path = format!("jobs/{given}/take-back");
    let faults = admin.post(&path, json!({"reason": " ", "dryRun": true})).await.expect(422);
    assert_eq!(faults["errors"].as_array().map(Vec::len), Some(2));
    for (other, status) in [(generation, 422), (id.clone(), 404)] {
        assert_eq!(admin.post(&format!("jobs/{other}/take-back"), json!({})).await.status, status);
    }
    let reply = admin.post(&path, json!({"reason": "wrong pool"})).await;
    let location = reply.header("location").to_owned();
    let job = reply.expect(202);
    assert_eq!(location, format!("/api/v1/jobs/{}", id_of(&job)));
    let done = wait_for_job(&admin, &id_of(&job)).await;
    assert_eq!((&done["kind"], &done["status"]), (&json!("TAKE_BACK"), &json!("SUCCEEDED")));
    let expected = json!({"takenBackCount": 4, "goneCount": 0, "lockedCount": 1, "redeemedCount": 1,
                          "distributionId": given, "couponBookId": book});
    assert_eq!(done["result"], expected);
    assert_eq!(done["progress"]["percent"], 100.0);
    let errors = admin.get(&format!("jobs/{}/errors", id_of(&job))).await.text;
    for (code, user, reason) in [(used, "ana", "coupon_already_redeemed"), (locked, "eva", "coupon_locked")] {
        assert!(errors.contains(&format!("{code},{reason},{user} {code}")), "{errors}");
    }
    assert_eq!((held("ana").await, held("leo").await.len()), (vec![used.clone()], 0));
    let history = admin.get(&format!("coupons/{}/history", of_ana[1])).await.expect(200);
    let event = &history["data"][0];
    assert_eq!(
        ["action", "actor", "reason"].map(|name| event[name].as_str().unwrap_or_default().to_owned()),
        ["REVOKE".to_owned(), format!("job:{}", id_of(&job)), "wrong pool".to_owned()]
    );
    // Without a body it is the rest.
    admin.post(&format!("coupons/{locked}/unlock"), json!({"userId": "eva"})).await.expect(200);
    let rest = Reply::to(admin.request(reqwest::Method::POST, &path)).await.expect(202);
    let rest = wait_for_job(&admin, &id_of(&rest)).await;
    assert_eq!((&rest["result"]["takenBackCount"], &rest["result"]["goneCount"]), (&json!(1), &json!(4)));
    let history = admin.get(&format!("coupons/{locked}/history")).await.expect(200);
    assert_eq!(history["data"][0]["reason"], format!("take-back of job {given}"));
    server.assert_invariants().await;
}

/// Each of these rules is rejected with 422.
async fn assert_rejected_rules(admin: &Client, path: &str, body: &impl Fn(Value) -> Value) {
    for wrong in [
        json!({}),
        json!({"codesPerUser": 1, "totalCodes": 1}),
        json!({"mode": "RANDOM", "codesPerUser": 1}),
        json!({"totalCodes": 0}),
        json!({"totalCodes": 1, "seed": -1}),
    ] {
        assert_eq!(admin.post(path, body(wrong.clone())).await.status, 422, "{wrong}");
    }
}

/// The job that generated the codes of a book: no distribution.
async fn job_of(server: &Server, book: &str) -> String {
    let jobs = server.admin().get("jobs?kind=GENERATE_CODES").await.expect(200);
    let jobs = jobs["data"].as_array().expect("jobs").iter();
    let mut of_book = jobs.filter(|job| job["result"]["couponBookId"] == book);
    id_of(of_book.next().expect("the book has a job"))
}
