//! Exports over HTTP: jobs and their files, ranges, files in a bucket, streams, and what a key limited to books may export.

use cuponera_platform::files::Files;
use cuponera_testkit::{Emulator, eventually};
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, query, query_scalar};

use crate::support::{Client, Limits, Reply, Server, id_of, wait_for_job};

const HEADER: &str =
    "code,status,userId,redeemCount,assignedAt,lockedUntil,redeemedAt,expiresAt,createdAt,metadata,maxRedemptions,maxRedeemsPerUser,startsAt";

/// Submits an export and waits for its end.
async fn export(server: &Server, body: Value) -> Value {
    let reply = server.admin().post("exports", body).await;
    let location = reply.header("location").to_owned();
    let job = reply.expect(202);
    assert_eq!(location, format!("/api/v1/jobs/{}", id_of(&job)));
    let job = wait_for_job(&server.admin(), &id_of(&job)).await;
    assert_eq!(job["status"], "SUCCEEDED", "{job}");
    job
}

/// Gets the file of a job with these headers.
async fn file(client: &Client, job: &Value, headers: &[(&str, &str)]) -> Reply {
    let request = client.request(Method::GET, &format!("jobs/{}/file", id_of(job)));
    Reply::to(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

fn records(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let cells = |record: csv::StringRecord| record.iter().map(str::to_owned).collect();
    reader.records().map(|record| cells(record.expect("the export is not CSV"))).collect()
}

/// A book with codes and users that begin like formulas.
async fn odd_book(server: &Server) -> String {
    let book = server.book(json!({})).await;
    let rows = "code,userId,note\n'-ABC,'+34600,'=1+1\nC-1,'@ana,\"a,b\"\nC-2,,\n_C3,'-x,\n";
    let job = id_of(&server.upload(&book, rows).await.expect(202));
    let job = wait_for_job(&server.admin(), &job).await;
    assert_eq!((&job["result"]["uploadedCount"], &job["result"]["unassignedCount"]), (&json!(4), &json!(0)));
    book
}

/// Invariant I-59.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_read_again_as_an_import_with_nothing_rejected() {
    let server = Server::start().await;
    let book = odd_book(&server).await;
    for options in [
        json!({}),
        json!({"bom": true, "delimiter": ";"}),
        json!({"delimiter": "tab"}),
        json!({"delimiter": "|", "linkTemplate": "https://shop.example/c/{code}?a=1,2;3|4"}),
    ] {
        let mut body = json!({"kind": "CODES", "couponBookId": book});
        body.as_object_mut().expect("an object").extend(options.as_object().cloned().expect("an object"));
        let job = export(&server, body).await;
        assert_eq!(
            (&job["result"]["rowCount"], &job["progress"]["percent"]),
            (&json!(4), &json!(100.0)),
            "{job}"
        );
        let text = file(&server.admin(), &job, &[]).await.text;
        assert!(text.contains("'-ABC") && text.contains("'+34600") && text.contains("'@ana"), "{text}");
        // The other business has none of the codes.
        let other = server.another_admin().await;
        let target = id_of(&other.post("coupon-books", json!({"name": "Copy"})).await.expect(201));
        let path = format!("coupon-codes/upload?couponBookId={target}");
        let request = other.request(Method::POST, &path).header("Content-Type", "text/csv");
        let upload = id_of(&Reply::to(request.body(text)).await.expect(202));
        let job = wait_for_job(&other, &upload).await;
        assert_eq!((&job["status"], &job["progress"]["failed"]), (&json!("SUCCEEDED"), &json!(0)), "{job}");
        let codes = other.get(&format!("coupon-codes/book/{target}")).await.expect(200);
        let mut users: Vec<_> = codes["data"]
            .as_array()
            .expect("codes")
            .iter()
            .map(|code| (code["code"].as_str().unwrap_or_default(), code["userId"].as_str()))
            .collect();
        users.sort_unstable();
        assert_eq!(
            users,
            [("-ABC", Some("+34600")), ("C-1", Some("@ana")), ("C-2", None), ("_C3", Some("-x"))]
        );
    }
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_has_its_rows() {
    let server = Server::start().await;
    let (book, admin) = (odd_book(&server).await, server.admin());
    let other = server.book(json!({})).await;
    server.plant(&other, &["OTHER-1"]).await;
    let redeemed = admin.post("coupons/C-1/redeem", json!({"userId": "@ana", "reference": "=sale"})).await;
    let redemption = redeemed.expect(200)["redemptionId"].as_str().expect("an id").to_owned();
    let rows = async |body: Value| {
        let job = export(&server, body).await;
        let reply = file(&admin, &job, &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.text.len().to_string(), reply.header("content-length"));
        assert_eq!(job["result"]["bytes"], reply.text.len());
        assert!(job["result"]["readFrom"].as_str() <= job["result"]["readTo"].as_str(), "{job}");
        let rows = records(&reply.text);
        assert_eq!(job["result"]["rowCount"], rows.len());
        (reply.text.lines().next().unwrap_or_default().to_owned(), rows)
    };
    let (header, codes) = rows(json!({"kind": "CODES"})).await;
    assert_eq!((header.as_str(), codes.len()), (HEADER, 5), "a business-wide export has all books");
    let (_, codes) = rows(json!({"kind": "CODES", "couponBookId": book, "status": "REDEEMED"})).await;
    assert_eq!(codes.len(), 1);
    assert_eq!(codes[0][..4], ["C-1", "REDEEMED", "'@ana", "1"]);
    let (header, held) = rows(json!({"kind": "ASSIGNMENTS"})).await;
    assert_eq!((header.as_str(), held.len()), ("id,code,couponBookId,userId,status,assignedAt", 3));
    let (header, uses) = rows(json!({"kind": "REDEMPTIONS", "couponBookId": book})).await;
    assert_eq!(header, "id,code,couponBookId,userId,useNumber,reference,redeemedAt,rolledBackAt");
    assert_eq!(uses.len(), 1);
    assert_eq!(uses[0][..6], [&redemption, "C-1", &book, "'@ana", "1", "'=sale"]);
    let (header, events) = rows(json!({"kind": "EVENTS", "couponBookId": book})).await;
    assert!(
        header.starts_with("id,code,couponBookId,action,fromStatus,toStatus,userId,actor,at,"),
        "{header}"
    );
    let actions: Vec<(&str, &str)> = events.iter().map(|row| (row[1].as_str(), row[3].as_str())).collect();
    assert_eq!(actions, [("'-ABC", "ASSIGN"), ("C-1", "ASSIGN"), ("C-1", "REDEEM"), ("_C3", "ASSIGN")]);
    let (_, none) = rows(json!({"kind": "EVENTS", "to": "2020-01-01T00:00:00Z"})).await;
    assert!(none.is_empty());
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_continued_with_a_range() {
    let server = Server::start().await;
    let (book, admin) = (odd_book(&server).await, server.admin());
    let job = export(&server, json!({"kind": "CODES", "couponBookId": book})).await;
    let whole = file(&admin, &job, &[]).await;
    let (text, etag) = (whole.text.clone(), whole.header("etag").to_owned());
    assert!(whole.header("content-disposition").starts_with("attachment; filename=\"codes-"));
    assert_eq!((whole.header("accept-ranges"), etag.is_empty()), ("bytes", false));
    let bytes = text.len();
    for (range, from, to) in
        [("bytes=0-3".to_owned(), 0, 4), ("bytes=5-".into(), 5, bytes), ("bytes=-7".into(), bytes - 7, bytes)]
    {
        let part = file(&admin, &job, &[("Range", &range), ("If-Range", &etag)]).await;
        assert_eq!((part.status, part.text.as_str()), (206, &text[from..to]), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{bytes}", to - 1));
        assert_eq!(part.header("content-length"), (to - from).to_string());
    }
    for headers in [
        &[("Range", "bytes=0-1,3-4")][..],
        &[("Range", "lines=0-1")],
        &[("Range", "bytes=0-3"), ("If-Range", "\"another\"")],
    ] {
        let reply = file(&admin, &job, headers).await;
        assert_eq!((reply.status, reply.text == text), (200, true), "{headers:?}");
    }
    let beyond = file(&admin, &job, &[("Range", &format!("bytes={bytes}-"))]).await;
    assert_eq!(beyond.header("content-range"), format!("bytes */{bytes}"));
    assert_eq!(beyond.rejected(416), "range_not_satisfiable");
    let unchanged = file(&admin, &job, &[("If-None-Match", &etag)]).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, etag.as_str()));
    assert_eq!(file(&admin, &job, &[("If-None-Match", "\"another\"")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_has_a_reason() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    server.plant(&book, &["C-1"]).await;
    let import = admin.get("jobs").await.expect(200)["data"][0].clone();
    assert_eq!(file(&admin, &import, &[]).await.rejected(404), "not_found");
    let job = admin.post("exports", json!({"kind": "CODES"})).await.expect(202);
    assert_eq!(file(&admin, &job, &[]).await.rejected(409), "wrong_job_state");
    let cancelled = admin.post("exports", json!({"kind": "EVENTS"})).await.expect(202);
    admin.post(&format!("jobs/{}/cancel", id_of(&cancelled)), json!({})).await.expect(200);
    server.work().await;
    assert_eq!(file(&admin, &job, &[]).await.status, 200);
    assert_eq!(file(&admin, &cancelled, &[]).await.rejected(409), "wrong_job_state");
    let files = server.files.path().join("exports").join(id_of(&job));
    std::fs::rename(&files, files.with_extension("moved")).expect("moving the files failed");
    assert_eq!(file(&admin, &job, &[]).await.rejected(410), "export_expired");
    std::fs::rename(files.with_extension("moved"), &files).expect("moving the files failed");
    assert_eq!(file(&admin, &job, &[]).await.status, 200);
    assert_eq!(file(&server.another_admin().await, &job, &[]).await.rejected(404), "not_found");
    query("update export_file set made_at = made_at - interval '7 days'")
        .execute(server.database.pool())
        .await
        .expect("moving the files to the past failed");
    assert_eq!(file(&admin, &job, &[]).await.rejected(410), "export_expired");
    // Housekeeping deletes the files of both, and what is stored of them.
    let folder = server.files.path().join("exports").join(id_of(&job));
    assert!(folder.exists());
    server.start_worker().await;
    for table in ["export_file", "export_part", "export_book", "job_storage where export_bytes > 0"] {
        eventually("the exports to be deleted", async || {
            let count = query_scalar(AssertSqlSafe(format!("select count(*) from {table}")));
            (count.fetch_one(server.database.pool()).await.ok() == Some(0_i64)).then_some(())
        })
        .await;
    }
    assert!(!folder.exists());
    assert_eq!(file(&admin, &job, &[]).await.rejected(410), "export_expired");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_rejected() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    for (body, field) in [
        (json!({}), "kind"),
        (json!({"kind": "LEDGER"}), "kind"),
        (json!({"kind": "EVENTS", "status": "VOID"}), "status"),
        (json!({"kind": "ASSIGNMENTS", "status": "AVAILABLE"}), "status"),
        (json!({"kind": "CODES", "from": "2027-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}), "to"),
        (json!({"kind": "CODES", "delimiter": ":"}), "delimiter"),
        (json!({"kind": "CODES", "linkTemplate": "https://shop.example"}), "linkTemplate"),
        (json!({"kind": "REDEMPTIONS", "linkTemplate": "https://shop.example/{code}"}), "linkTemplate"),
        (json!({"kind": "CODES", "columns": ["code"]}), "columns"),
    ] {
        let problem = admin.post("exports", body.clone()).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], field, "{body}");
    }
    let unknown = json!({"kind": "CODES", "couponBookId": "01939f2a-0000-7000-8000-000000000000"});
    assert_eq!(admin.post("exports", unknown).await.rejected(404), "not_found");
    for query in
        ["status=NONE", "delimiter=x", "linkTemplate=x", "from=2027-01-01T00:00:00Z&to=2026-01-01T00:00:00Z"]
    {
        let reply = admin.get(&format!("coupon-codes/book/{book}/export?{query}")).await;
        assert_eq!(reply.rejected(422), "invalid", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_export_has_the_rows_of_the_file() {
    let server = Server::start().await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    // More than one page.
    let codes: Vec<String> = (0..12_000).map(|number| format!("CODE-{number}")).collect();
    let job = id_of(&server.upload(&book, format!("code\n{}", codes.join("\n"))).await.expect(202));
    wait_for_job(&admin, &job).await;
    server.give("CODE-7", "+34600").await;
    let path = format!("coupon-codes/book/{book}/export");
    let job = export(&server, json!({"kind": "CODES", "couponBookId": book})).await;
    let streamed = admin.get(&path).await;
    assert_eq!(streamed.status, 200);
    assert!(streamed.header("content-disposition").contains(&book));
    assert_eq!(streamed.text, file(&admin, &job, &[]).await.text);
    assert_eq!(records(&streamed.text).len(), codes.len());
    let query =
        "?status=ASSIGNED&bom=true&delimiter=%3B&raw=true&linkTemplate=https%3A%2F%2Fx.example%2F%7Bcode%7D";
    let text = admin.get(&format!("{path}{query}")).await.text;
    let text = text.strip_prefix('\u{feff}').expect("a byte order mark");
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!((lines.len(), lines[0]), (3, format!("{};link", HEADER.replace(',', ";")).as_str()));
    assert!(
        lines[1].starts_with("CODE-7;ASSIGNED;+34600;0;") && lines[1].ends_with(";https://x.example/CODE-7")
    );
    assert_eq!(server.another_admin().await.get(&path).await.rejected(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_limited_to_books_exports_only_them() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (ours, theirs) = (server.book(json!({})).await, server.book(json!({})).await);
    let key =
        server.admin().post("api-keys", json!({"name": "A key", "couponBookIds": [ours]})).await.expect(201);
    let client = server.anonymous().with_key(key["key"].as_str().expect("a key"));
    for body in [json!({"kind": "CODES"}), json!({"kind": "EVENTS", "couponBookId": theirs})] {
        assert_eq!(client.post("exports", body).await.rejected(403), "forbidden");
    }
    let path = format!("coupon-codes/book/{theirs}/export");
    assert_eq!(client.get(&path).await.rejected(403), "forbidden");
    let job = client.post("exports", json!({"kind": "EVENTS", "couponBookId": ours})).await.expect(202);
    let all = server.admin().post("exports", json!({"kind": "EVENTS"})).await.expect(202);
    server.work().await;
    assert_eq!(file(&client, &job, &[]).await.status, 200);
    assert_eq!(file(&client, &all, &[]).await.rejected(403), "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_a_bucket_is_a_redirect_or_is_sent() {
    let bucket = Emulator::get().await.bucket().await;
    let files = Files::in_bucket(bucket.client(), bucket.name(), "shop/one").expect("a bucket");
    let server = Server::start_with(Limits { bucket: Some(files), ..Limits::default() }).await;
    let book = odd_book(&server).await;
    let job = export(&server, json!({"kind": "CODES", "couponBookId": book})).await;
    let http =
        reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).build().expect("a client");
    let redirected = file(&server.admin().over(http.clone()), &job, &[]).await;
    assert_eq!(redirected.status, 303, "{}", redirected.text);
    let link = redirected.header("location").to_owned();
    let linked = http.get(&link).send().await.expect("the emulator does not answer");
    assert_eq!(linked.status(), 200);
    let text = linked.text().await.expect("the answer ended early");
    assert_eq!(records(&text).len(), 4);
    let path = format!("jobs/{}/file?redirect=false", id_of(&job));
    let sent = server.admin().get(&path).await;
    assert_eq!((sent.status, &sent.text), (200, &text));
    let request = server.admin().request(Method::GET, &path).header("Range", "bytes=5-9");
    let part = Reply::to(request).await;
    assert_eq!((part.status, part.text.as_str()), (206, &text[5..10]));
    let names = bucket.names().await;
    let exports = names.iter().filter(|name| name.starts_with("shop/one/exports/"));
    assert_eq!(exports.count(), 1, "the parts are not deleted: {names:?}");
}
