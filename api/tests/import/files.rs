//! The content of files, and the result of their import.

use serde_json::json;
use sqlx::query;

use super::{assert_nothing_kept, counts_of, errors_of, import};
use crate::support::{Server, id_of};

/// A name, a file, its counts (uploaded, duplicates, invalid), and the rejected lines with code and reason.
type Case = (&'static str, &'static str, [i64; 3], &'static [(&'static str, &'static str, &'static str)]);

/// The database already has `TAKEN-1`. The codes of the files are distinct.
const MESSY: &[Case] = &[
    ("plain", "AA1\nAA2\n", [2, 0, 0], &[]),
    ("headerless with a second column", "AB1,valid\nAB2,valid\n", [2, 0, 0], &[]),
    ("byte order mark and header", "\u{feff}code\nAC1\n", [1, 0, 0], &[]),
    ("crlf", "code\r\nAD1\r\nAD2\r\n", [2, 0, 0], &[]),
    ("lone cr", "AE1\rAE2\rAE1", [2, 1, 0], &[("3", "AE1", "duplicate_in_file")]),
    ("semicolons", "note;code\nx,y;AF1\n;AF2\n", [2, 0, 0], &[]),
    (
        "lower case and blanks around",
        " af3 \n\"  af4\"\nAf3\n",
        [2, 1, 0],
        &[("3", "Af3", "duplicate_in_file")],
    ),
    ("blank lines", "\n\nAG1\n \t\n\nAG1\n", [1, 1, 0], &[("6", "AG1", "duplicate_in_file")]),
    (
        "a quoted line break moves the lines behind it",
        "code,note\nAH1,\"one\ntwo\nthree\"\nA!1,\nAH1,\n",
        [1, 1, 1],
        &[("5", "A!1", "bad_character"), ("6", "AH1", "duplicate_in_file")],
    ),
    ("in the database already", "AI1\ntaken-1\n", [1, 1, 0], &[("2", "TAKEN-1", "already_exists")]),
    (
        "every kind of bad code",
        "code,note\n,no code\nAB,too short\nÑANDU,\nAJ 1,blank inside\nAJ1,good\nAJ+1,\n",
        [1, 0, 5],
        &[
            ("2", "", "empty"),
            ("3", "AB", "too_short"),
            ("4", "ÑANDU", "bad_character"),
            ("5", "AJ 1", "bad_character"),
            ("7", "AJ+1", "bad_character"),
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn messy_files_come_to_exact_counts_and_each_refused_row_is_told_with_its_line() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["TAKEN-1"]).await;
    let mut total = 1;
    for (name, file, counts, rejected) in MESSY {
        let job = import(&server, &book, *file).await;
        assert_eq!(counts_of(&job), *counts, "{name}");
        let errors = errors_of(&server, &job).await;
        let errors: Vec<_> = errors
            .iter()
            .map(|[line, code, reason, ..]| (line.as_str(), code.as_str(), reason.as_str()))
            .collect();
        assert_eq!(errors, *rejected, "{name}");
        total += counts[0];
    }
    let book = server.admin().get(&format!("coupon-books/{book}")).await.expect(200);
    assert_eq!(book["generatedCount"], total);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_of_64_characters_are_taken_and_of_65_refused() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let (longest, too_long) = ("L".repeat(64), "L".repeat(65));
    let job = import(&server, &book, format!("code\n{longest}\n{too_long}\n")).await;
    assert_eq!(counts_of(&job), [1, 0, 1]);
    let [[line, code, reason, row, _]] = &errors_of(&server, &job).await[..] else { panic!("not one error") };
    assert_eq!((line.as_str(), reason.as_str()), ("3", "too_long"));
    assert_eq!((code, row), (&too_long, &too_long));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_columns_become_metadata_and_the_errors_file_has_the_whole_row() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let file = "shop,code,\"how much\"\nBerlin,MD-1,\"1,50\"\n,MD-2,\n\"a \"\"b\"\"\",x,2\n";
    let job = import(&server, &book, file).await;
    assert_eq!(counts_of(&job), [2, 0, 1]);
    let coupon = server.admin().get("coupons/md-1").await.expect(200);
    assert_eq!(coupon["metadata"], json!({"shop": "Berlin", "how much": "1,50"}));
    assert!(server.admin().get("coupons/MD-2").await.expect(200).get("metadata").is_none());
    let errors = errors_of(&server, &job).await;
    assert_eq!(errors[0][3], "\"a \"\"b\"\"\",x,2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_column_assigns_within_the_limits_and_the_rest_stays_free_and_is_told() {
    let server = Server::start().await;
    let book = server.book(json!({"maxCodesPerUser": 2})).await;
    let long = "u".repeat(129);
    let file = format!("code,userId\nU-1,ann\nU-2,ann\nU-3,ann\nU-4,bob\nU-5,\nU-6,{long}\nU-7,c\u{202e}y\n");
    let job = import(&server, &book, file).await;
    assert_eq!(counts_of(&job), [5, 0, 2]);
    let errors = errors_of(&server, &job).await;
    let told: Vec<_> = errors.iter().map(|[line, code, reason, ..]| [line.as_str(), code, reason]).collect();
    let bad = |line, code| [line, code, "bad_user_id"];
    assert_eq!(told, [["4", "U-3", "user_limit_reached"], bad("7", "U-6"), bad("8", "U-7")]);
    assert!(errors[2][4].ends_with("it has U+202E"), "{:?}", errors[2]);
    for (code, status, holder) in [
        ("U-1", "ASSIGNED", "ann"),
        ("U-3", "AVAILABLE", ""),
        ("U-4", "ASSIGNED", "bob"),
        ("U-5", "AVAILABLE", ""),
    ] {
        let coupon = server.admin().get(&format!("coupons/{code}")).await.expect(200);
        assert_eq!(
            (coupon["status"].as_str(), coupon["userId"].as_str().unwrap_or("")),
            (Some(status), holder),
            "{code}"
        );
    }
    let history = server.admin().get("coupons/U-1/history").await.expect(200);
    let actor = format!("job:{}", id_of(&job));
    assert_eq!(
        (&history["data"][0]["action"], &history["data"][0]["actor"]),
        (&json!("ASSIGN"), &json!(actor))
    );
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_refused_with_its_line_and_nothing_is_kept() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let utf16: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain("code\nAB1\n".bytes().flat_map(|byte| [byte, 0])).collect();
    let endless = format!("code\nOK-1\n\"{}", "x".repeat(70_000));
    let cases: [(&str, Vec<u8>, &str, Option<u64>); 8] = [
        ("unclosed quote", b"code\nOK-1\n\"OK-2\nOK-3\n".to_vec(), "unclosed_quote", Some(3)),
        ("unclosed quote in a long file", endless.into_bytes(), "record_too_long", Some(3)),
        ("utf-16", utf16, "not_utf8", Some(1)),
        ("latin-1", b"code\nOK-1\nCAF\xC9\n".to_vec(), "not_utf8", Some(3)),
        ("zero byte", b"code\nOK-1\nA\0B\n".to_vec(), "not_utf8", Some(3)),
        ("empty", Vec::new(), "empty_file", None),
        ("byte order mark alone", b"\xEF\xBB\xBF".to_vec(), "empty_file", None),
        ("blank lines alone", b"\n \n\r\n".to_vec(), "empty_file", None),
    ];
    for (name, file, code, line) in cases {
        let problem = server.upload(&book, file).await.expect(422);
        assert_eq!(
            (problem["code"].as_str(), problem["line"].as_u64()),
            (Some(code), line),
            "{name}: {problem}"
        );
    }
    assert_nothing_kept(&server).await;
    assert_eq!(server.codes(&book).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_the_same_and_writes_nothing() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["TAKEN-1"]).await;
    let file = "code\nDRY-1\nDRY-2\ndry-1\nTAKEN-1\n!\n";
    let path = format!("coupon-codes/upload?couponBookId={book}&dryRun=true");
    let request = server.admin().request(reqwest::Method::POST, &path).header("Content-Type", "text/csv");
    let job = crate::support::Reply::to(request.body(file)).await.expect(202);
    let dry = crate::support::wait_for_job(&server.admin(), &id_of(&job)).await;
    assert_eq!(counts_of(&dry), [2, 2, 1]);
    assert_eq!(server.codes(&book).await.len(), 1, "a dry run wrote codes");
    let real = import(&server, &book, file).await;
    assert_eq!(counts_of(&real), counts_of(&dry));
    assert_eq!(errors_of(&server, &real).await, errors_of(&server, &dry).await);
    server.assert_invariants().await;
}

/// Chunks that an earlier version finished have an errors file; chunks that this version finished have rows.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_an_earlier_version_wrote_into_a_file_are_listed_with_those_in_the_database() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let job = import(&server, &book, "code\nOLD-1\n=1+2\n").await;
    let name = format!("errors/{}/000000-1.csv", id_of(&job));
    let path = server.files.path().join(&name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("cannot create the folder");
    std::fs::write(&path, "9,x,empty,x,a sentence\n").expect("cannot write the file");
    query("update job_chunk set errors_file = $2 where job_id = $1::uuid")
        .bind(id_of(&job))
        .bind(&name)
        .execute(server.database.pool())
        .await
        .expect("cannot change the chunk");
    let errors = errors_of(&server, &job).await;
    assert_eq!(errors[0], ["9", "x", "empty", "x", "a sentence"]);
    assert_eq!(errors[1][..4], ["3", "'=1+2", "bad_character", "'=1+2"]);
    assert_eq!(errors.len(), 2);
}
