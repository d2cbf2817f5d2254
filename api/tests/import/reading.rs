//! The parameters for reading a file, and the report of how it was read.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::{assert_nothing_kept, errors_of, upload_form, wait_for_job};
use crate::support::{Server, id_of};

/// Names and values of form fields.
type Fields<'a> = &'a [(&'a str, &'a str)];

fn form(file: &str, before: Fields<'_>, after: Fields<'_>) -> Form {
    let text = |form: Form, fields: Fields<'_>| {
        fields.iter().fold(form, |form, (name, value)| form.text((*name).to_owned(), (*value).to_owned()))
    };
    let form = text(Form::new(), before).part("file", Part::text(file.to_owned()));
    text(form, after)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_file_is_refused_with_what_was_seen_and_how_to_settle_it() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let reply = server.upload(&book, "Tarjeta;Importe\r\nA1B2;10\r\n").await;
    let problem: Value = serde_json::from_str(&reply.text).unwrap();
    assert_eq!((reply.status, &problem["code"]), (422, &json!("unclear_header")), "{problem}");
    assert_eq!(problem["firstRecord"], json!(["Tarjeta", "Importe"]), "{problem}");
    assert_eq!(problem["parameters"], json!(["header", "codeColumn", "userColumn", "delimiter"]));
    assert_eq!(problem["line"], 1);
    let detail = problem["detail"].as_str().unwrap();
    assert!(["header=true", "codeColumn"].iter().all(|said| detail.contains(said)), "{detail}");
    assert_nothing_kept(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_reports_how_the_file_was_read() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let file = "Campaña 2027;;\r\n;;\r\nCódigo;Cliente;nota\r\nA1B2;ana;x\r\n;;\r\nmal!;;\r\n";
    let fields = [("couponBookId", book.as_str()), ("dryRun", "true")];
    let job = upload_form(&server, "", form(file, &fields, &[])).await.expect(202);
    let read_as = json!({"encoding": "UTF-8", "delimiter": ";", "header": true, "codeColumn": "Código",
        "userColumn": "Cliente", "metadataColumns": ["nota"], "skippedLines": 2});
    assert_eq!(job["result"]["readAs"], read_as, "{job}");
    let job = wait_for_job(&server.admin(), &id_of(&job)).await;
    assert_eq!(job["result"]["readAs"], read_as, "{job}");
    let sample = json!([
        {"line": 4, "code": "A1B2", "userId": "ana", "metadata": {"nota": "x"}},
        {"line": 6, "code": "mal!", "reason": "bad_character"},
    ]);
    assert_eq!(job["result"]["sample"], sample, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_may_have_every_parameter_as_a_field() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let fields = [("delimiter", "|"), ("header", "true"), ("codeColumn", "Serial"), ("userColumn", "2")];
    let file = "Serial|Who\nA1B2|ana\n";
    let job =
        upload_form(&server, "", form(file, &fields, &[("couponBookId", &book), ("dryRun", "false")])).await;
    let job = wait_for_job(&server.admin(), &id_of(&job.expect(202))).await;
    assert_eq!(job["result"]["readAs"]["userColumn"], "Who", "{job}");
    assert_eq!(server.codes(&book).await[0]["userId"], "ana");
    // Empty fields count as absent.
    let fields = [("couponBookId", book.as_str()), ("delimiter", ""), ("codeColumn", "")];
    upload_form(&server, "", form("A1B3\n", &fields, &[])).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_and_form_must_say_the_same_and_say_it_before_the_file() {
    let server = Server::start().await;
    let (book, other) = (server.book(json!({})).await, server.book(json!({})).await);
    let query = format!("?couponBookId={book}&delimiter=comma&header=true&dryRun=true");
    let cases: &[(Fields<'_>, Fields<'_>, &str)] = &[
        (&[("couponBookId", &other)], &[], "couponBookId"),
        (&[], &[("couponBookId", &other)], "couponBookId"),
        (&[("delimiter", ";")], &[], "delimiter"),
        (&[("header", "false")], &[], "header"),
        (&[("dryRun", "false")], &[], "dryRun"),
        (&[], &[("codeColumn", "1")], "codeColumn"),
        (&[("codeColumn", "0")], &[], "codeColumn"),
        (&[("delimiter", "comma"), ("delimiter", "comma")], &[], "delimiter"),
        (&[("Delimiter", ",")], &[], "Delimiter"),
    ];
    for (before, after, field) in cases {
        let reply = upload_form(&server, &query, form("code\nA1B2\n", before, after)).await;
        let problem: Value = serde_json::from_str(&reply.text).unwrap();
        assert_eq!((reply.status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    assert_nothing_kept(&server).await;
    let same = [("couponBookId", book.as_str()), ("delimiter", ","), ("header", "true"), ("dryRun", "true")];
    upload_form(&server, &query, form("code\nA1B2\n", &same, &[])).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_and_another_reading_is_another_request() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let upload = async |query: &str| {
        let path = format!("coupon-codes/upload?couponBookId={book}{query}");
        let request = server.admin().request(reqwest::Method::POST, &path);
        let request = request.header("Content-Type", "text/csv").header("Idempotency-Key", "once");
        crate::support::Reply::to(request.body("FLAT\nA1B2\n")).await
    };
    let job = id_of(&upload("&header=true").await.expect(202));
    assert_eq!(id_of(&upload("&header=true").await.expect(202)), job);
    assert_eq!(upload("&header=false").await.rejected(422), "key_reused");
    wait_for_job(&server.admin(), &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_errors_file_names_the_character_that_cannot_be_seen() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let job = server.upload(&book, "code,note\nA\u{200b}1B,=x\nA 1B,\n=A1,\nA1B,x,y\n").await.expect(202);
    let job = wait_for_job(&server.admin(), &id_of(&job)).await;
    let errors = errors_of(&server, &job).await;
    let [hidden, blank, formula, stray] = &errors[..] else { panic!("{errors:?}") };
    assert!(hidden[4].contains("U+200B"), "{hidden:?}");
    assert!(blank[4].contains("a blank"), "{blank:?}");
    assert_eq!((formula[1].as_str(), formula[3].as_str()), ("'=A1", "'=A1,"));
    assert!(stray[4].contains("column 3") && stray[4].contains("2 columns"), "{stray:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_another_encoding_is_refused_with_line_byte_and_remedy() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let reply = server.upload(&book, b"code;ciudad\r\nA1B;Le\xF3n\r\n".to_vec()).await;
    for said in ["line 2", "byte 7", "0xF3", "Excel", "LibreOffice"] {
        assert!(reply.text.contains(said), "{said:?} is missing: {}", reply.text);
    }
    assert_eq!(reply.rejected(422), "not_utf8");
}
