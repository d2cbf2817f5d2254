//! Uploads: as a form in any order or as the body, too large, or interrupted.

use std::io::Write;
use std::net::TcpStream;

use cuponera_testkit::eventually;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use super::{assert_nothing_kept, counts_of, files_kept, upload_form};
use crate::support::{Limits, Reply, Server, csv_form, id_of, wait_for_job};

#[tokio::test(flavor = "multi_thread")]
async fn the_book_may_stand_before_or_after_the_file_or_in_the_query() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let file = || Part::text("code\nFORM-1\nFORM-2\n").file_name("codes.csv");
    let before = Form::new().text("couponBookId", book.clone()).part("file", file());
    let after = Form::new().part("file", file()).text("couponBookId", book.clone());
    let alone = Form::new().part("file", file());
    let query = format!("?couponBookId={book}");
    let mut counts = Vec::new();
    for (form, query) in [(before, ""), (after, ""), (alone, query.as_str())] {
        let job = upload_form(&server, query, form).await.expect(202);
        counts.push(counts_of(&wait_for_job(&server.admin(), &id_of(&job)).await));
    }
    assert_eq!(counts, [[2, 0, 0], [0, 2, 0], [0, 2, 0]]);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_lacks_or_doubles_a_field_or_has_a_strange_one_is_refused_and_nothing_is_kept() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let form = || csv_form("AAA\n");
    let cases = [
        ("couponBookId", form()),
        ("file", Form::new().text("couponBookId", book.clone())),
        (
            "file",
            form().text("couponBookId", book.clone()).part("file", Part::text("BBB").file_name("b.csv")),
        ),
        ("couponBookId", form().text("couponBookId", "no id")),
        ("dryRun", form().text("couponBookId", book.clone()).text("dryRun", "perhaps")),
        ("surprise", form().text("couponBookId", book.clone()).text("surprise", "1")),
    ];
    for (field, form) in cases {
        let problem = upload_form(&server, "", form).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_nothing_kept(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_an_unknown_another_s_or_closed_book_is_refused_and_nothing_is_kept() {
    let server = Server::start().await;
    let closed = server.book(json!({})).await;
    server.admin().patch(&format!("coupon-books/{closed}"), json!({"status": "CLOSED"})).await.expect(200);
    let other =
        server.another_admin().await.post("coupon-books", json!({"name": "Theirs"})).await.expect(201);
    for (book, status, code) in [
        (uuid::Uuid::now_v7().to_string(), 404, "not_found"),
        (id_of(&other), 404, "not_found"),
        (closed, 409, "book_closed"),
    ] {
        assert_eq!(server.upload(&book, "AAA\n").await.rejected(status), code);
        let form = csv_form("AAA\n").text("couponBookId", book);
        assert_eq!(upload_form(&server, "", form).await.rejected(status), code);
    }
    assert_nothing_kept(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_over_the_limit_is_413_and_nothing_is_kept() {
    let server = Server::start_with(Limits { upload_bytes: 1_000_000, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    // One byte over the limit: with and without a Content-Length, and as a form.
    let file = "LONG-CODE\n".repeat(100_000) + "X";
    assert_eq!(server.upload(&book, file.clone()).await.rejected(413), "too_large");
    let pieces = file.as_bytes().chunks(64 * 1024).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces.collect::<Vec<_>>()));
    assert_eq!(server.upload(&book, stream).await.rejected(413), "too_large");
    let form = csv_form(file.clone()).text("couponBookId", book.clone());
    assert_eq!(upload_form(&server, "", form).await.rejected(413), "too_large");
    assert_nothing_kept(&server).await;
    let job = server.upload(&book, file[..1_000_000].to_owned()).await.expect(202);
    assert_eq!(counts_of(&wait_for_job(&server.admin(), &id_of(&job)).await), [1, 99_999, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_over_the_quota_is_413_with_both_numbers_and_nothing_is_kept() {
    let limits = Limits { storage_bytes: 1_000_000, worker: false, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let book = server.book(json!({})).await;
    let file = "LONG-CODE\n".repeat(100_001);
    let problem = server.upload(&book, file.clone()).await.expect(413);
    assert_eq!(problem["code"], "storage_quota_exceeded");
    assert_eq!((&problem["usedBytes"], &problem["allowedBytes"]), (&json!(0), &json!(1_000_000)));
    assert_nothing_kept(&server).await;
    server.upload(&book, file[..300_000].to_owned()).await.expect(202);
    let problem = server.upload(&book, file[..800_000].to_owned()).await.expect(413);
    assert_eq!((&problem["usedBytes"], &problem["allowedBytes"]), (&json!(300_000), &json!(1_000_000)));
    server.another_admin().await.post("coupon-books", json!({"name": "Theirs"})).await.expect(201);
    // The parts of a rejected upload are deleted after its response.
    eventually("the bytes of the rejected upload to be free", async || {
        let stored = sqlx::query_scalar::<_, i64>("select sum(upload_bytes)::bigint from job_storage");
        let stored = stored.fetch_one(server.database.pool()).await.expect("the bytes cannot be read");
        (stored == 300_000).then_some(())
    })
    .await;
    server.upload(&book, file[..700_000].to_owned()).await.expect(202);
}

/// Each has a fifth of the quota.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_the_same_time_exceed_no_quota() {
    let limits = Limits { storage_bytes: 1_000_000, worker: false, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let book = server.book(json!({})).await;
    let file = "LONG-CODE\n".repeat(20_000);
    let uploads = (0..8).map(|_| server.upload(&book, file.clone()));
    let answers = futures::future::join_all(uploads).await;
    let taken = answers.iter().filter(|answer| answer.status == 202).count();
    let full = answers.iter().filter(|answer| answer.status == 413).count();
    assert_eq!((taken, full), (5, 3));
    let stored = sqlx::query_scalar::<_, i64>("select sum(upload_bytes)::bigint from job_storage");
    let stored = stored.fetch_one(server.database.pool()).await.expect("the bytes cannot be read");
    assert_eq!(stored, 1_000_000);
}

/// Whether the parts of a file are imported in order is decided during the upload.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_file_with_users_are_worked_side_by_side_if_it_repeats_no_code() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    // More than a part; the last row repeats a code of the first part in another spelling.
    let mut file =
        (0..60_000).fold("code,userId\n".to_owned(), |file, row| file + &format!("CODE-{row:06},u{row}\n"));
    for (row, is_ordered) in [("OTHER,eva\n", false), (" code-000007 ,eva\n", true)] {
        file.push_str(row);
        let job = server.upload(&book, file.clone()).await.expect(202);
        let found =
            sqlx::query_as::<_, (bool, i32)>("select ordered, chunks_total from job where id = $1::uuid");
        let found =
            found.bind(id_of(&job)).fetch_one(server.database.pool()).await.expect("the job does not exist");
        assert_eq!(found, (is_ordered, 2), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_in_the_middle_leaves_no_files() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let request =
        server.admin().request(reqwest::Method::POST, &format!("coupon-codes/upload?couponBookId={book}"));
    let request = request.build().expect("a request");
    let token = request.headers()["authorization"].to_str().expect("a token").to_owned();
    let (host, path) =
        (request.url().authority().to_owned(), format!("{}?couponBookId={book}", request.url().path()));
    let rows: String = (0..60_000).fold(String::new(), |rows, number| rows + &format!("GONE-{number:06}\n"));
    let mut connection = tokio::task::spawn_blocking(move || {
        let mut connection = TcpStream::connect(&host).expect("cannot connect to the server");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nContent-Type: text/csv\r\nContent-Length: 99999999\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).expect("sending failed");
        connection.write_all(rows.as_bytes()).expect("sending failed");
        connection
    })
    .await
    .expect("the client panicked");
    // A full part was stored, so the upload could leave a file behind.
    eventually("a stored part", async || (files_kept(&server) > 0).then_some(())).await;
    connection.flush().expect("flushing failed");
    drop(connection);
    assert_nothing_kept(&server).await;
    assert_eq!(server.codes(&book).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_under_the_same_key_is_one_import_and_another_file_is_refused() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let upload = async |file: &'static str| {
        let path = format!("coupon-codes/upload?couponBookId={book}");
        let request = server.admin().request(reqwest::Method::POST, &path);
        Reply::to(request.header("Content-Type", "text/csv").header("Idempotency-Key", "k").body(file)).await
    };
    let first = upload("code\nONE\nTWO\n").await;
    let job = wait_for_job(&server.admin(), &id_of(&first.json())).await;
    let second = upload("code\nONE\nTWO\n").await;
    assert_eq!((second.header("Idempotent-Replayed"), &second.text), ("true", &first.text));
    assert_eq!(upload("code\nONE\nTWO\nTHREE\n").await.rejected(422), "key_reused");
    assert_eq!(counts_of(&job), [2, 0, 0]);
    assert_eq!(server.codes(&book).await.len(), 2);
}
