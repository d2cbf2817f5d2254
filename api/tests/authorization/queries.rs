//! Unknown and repeated query parameters: rejected by every operation of the document, after credentials and role,
//! before the body is read.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::table::{Row, TABLE};
use super::world::World;
use super::{WHO, operations};
use crate::support::{self, Reply, Server, csv_form, document, id_of};

/// The operations under `/api/v1`, each with its method and path.
fn rows() -> impl Iterator<Item = (&'static Row, (String, String))> {
    let mut operations = operations();
    TABLE.iter().filter_map(move |row| {
        let (method, path) = operations.remove(row.operation)?;
        path.starts_with("/api/v1/").then_some((row, (method, path)))
    })
}

/// The names of the query parameters of each operation.
fn parameters() -> BTreeMap<String, Vec<String>> {
    let document = document();
    let of_operation = |(_, _, operation): (&str, &str, &Value)| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_query = parameters.filter(|parameter| parameter["in"] == "query");
        let names = in_query.map(|parameter| parameter["name"].as_str().expect("a name").to_owned());
        (operation["operationId"].as_str().expect("an id").to_owned(), names.collect())
    };
    support::operations(&document).map(of_operation).collect()
}

/// The expected status for a caller, by column of the table, and a query with a fault.
fn expected(row: &Row, place: usize) -> u16 {
    // If one USER is allowed, another USER has the role too; that it names a different user is detected later.
    let has_role = row.statuses[place] != 403 || place == 2 && row.statuses[1] != 403;
    match place {
        0 if row.statuses[0] == 401 => 401,
        _ if has_role => 422,
        _ => 403,
    }
}

/// The faults of a 422, as `field message`.
fn faults(reply: &Reply) -> Vec<String> {
    let problem = reply.json();
    let errors = problem["errors"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    errors.map(|error| format!("{} {}", text(&error["field"]), text(&error["message"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_parameter_of_any_operation_is_422_after_credentials_and_role() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for (row, (method, path)) in rows() {
        for (place, client) in world.everybody().into_iter().enumerate() {
            let reply = world.ask_with(client, &method, &path, row, "?surprise=1").await;
            let expected = expected(row, place);
            let is_named =
                expected != 422 || faults(&reply).iter().all(|fault| fault.starts_with("surprise is not"));
            if reply.status != expected || !is_named {
                wrong.push(format!("{} by {}: not {expected}: {}", row.operation, WHO[place], reply.text));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    world.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_parameter_may_be_given_once_and_only_as_it_is_written() {
    let world = World::new().await;
    let parameters = parameters();
    let mut seen = 0;
    for (row, (method, path)) in rows() {
        for name in &parameters[row.operation] {
            let ask =
                async |query: &str| world.ask_with(world.server.admin(), &method, &path, row, query).await;
            for query in
                [format!("?{name}=&{name}="), format!("?{name}=1&%{:02X}{}", name.as_bytes()[0], &name[1..])]
            {
                let reply = ask(&query).await;
                assert_eq!(reply.status, 422, "{} {query}: {}", row.operation, reply.text);
                assert_eq!(
                    faults(&reply),
                    [format!("{name} must be given only once")],
                    "{} {query}",
                    row.operation
                );
            }
            let upper = name.to_uppercase();
            let reply = ask(&format!("?{upper}=")).await;
            let faults = faults(&reply);
            let suggestion = format!("{upper} is not known; did you mean {name}? known are: ");
            assert_eq!((reply.status, faults.len()), (422, 1), "{} {upper}: {}", row.operation, reply.text);
            assert!(faults[0].starts_with(&suggestion), "{} {faults:?}", row.operation);
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} parameters were tested");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_with_a_misspelled_parameter_stores_nothing_and_is_not_kept_under_its_key() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let upload = |query: &str| {
        let path = format!("coupon-codes/upload?couponBookId={book}{query}");
        server.admin().request(Method::POST, &path).header("Idempotency-Key", "one key")
    };
    for query in ["&dryrun=true", "&DRYRUN=", "&dry_run=true", "&dryRun=true&dryRun=true"] {
        let csv = upload(query).header("Content-Type", "text/csv").body("ABC-1\n");
        assert_eq!(Reply::to(csv).await.rejected(422), "invalid", "{query}");
        assert_eq!(
            Reply::to(upload(query).multipart(csv_form("ABC-1\n"))).await.rejected(422),
            "invalid",
            "{query}"
        );
    }
    let jobs = server.admin().get("jobs").await.expect(200);
    assert_eq!(jobs["data"], json!([]));
    assert_eq!(stored_files(server.files.path()), 0);
    let csv = upload("").header("Content-Type", "text/csv").body("ABC-1\n");
    let job = id_of(&Reply::to(csv).await.expect(202));
    support::wait_for_job(&server.admin(), &job).await;
    assert_eq!(server.codes(&book).await.len(), 1);
}

/// The number of files in a folder, at any depth.
fn stored_files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("the folder exists").filter_map(Result::ok);
    entries.map(|entry| if entry.path().is_dir() { stored_files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelled_upload_is_refused_before_its_body_is_sent() {
    let server = Server::start().await;
    let path = format!("coupon-codes/upload?dryrun=true&couponBookId={}", server.book(json!({})).await);
    // The body never arrives, so an answer shows that the server did not wait for it.
    let body = reqwest::Body::wrap_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = server.admin().request(Method::POST, &path).header("Content-Type", "text/csv").body(body);
    let reply = tokio::time::timeout(std::time::Duration::from_secs(30), Reply::to(request)).await;
    let reply = reply.expect("the server waited for the body");
    assert_eq!(reply.rejected(422), "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_decides_before_the_body_is_read() {
    let server = Server::start().await;
    let user = server.user("ann");
    for (path, media, body) in [
        ("coupon-books", "application/json", "{\"name\": 7}"),
        ("coupon-books", "application/json", "no JSON"),
        ("coupon-books", "text/plain", "{}"),
        ("coupon-codes/upload", "application/json", "{}"),
        ("users", "application/json", "{}"),
        ("assignments/ABC", "application/json", "{}"),
    ] {
        let request = user.request(Method::POST, path).header("Content-Type", media).body(body);
        assert_eq!(Reply::to(request).await.rejected(403), "forbidden", "{path} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_the_api_and_where_there_is_no_operation_parameters_change_nothing() {
    let server = Server::start().await;
    let admin = server.admin();
    for path in
        ["/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/errors", "/metrics"]
    {
        assert_eq!(admin.get(&format!("{path}?surprise=1&surprise=2")).await.status, 200, "{path}");
    }
    assert_eq!(admin.get("nothing?surprise=1").await.rejected(404), "not_found");
    let wrong_method = admin.request(Method::PATCH, "jobs?surprise=1");
    assert_eq!(Reply::to(wrong_method).await.rejected(405), "method_not_allowed");
    assert_eq!(server.anonymous().get("jobs?surprise=1").await.rejected(401), "unauthorized");
    for query in ["?", "?&", "?limit=1", "?limit=1&"] {
        admin.get(&format!("jobs{query}")).await.expect(200);
    }
    assert_eq!(
        faults(&admin.get("jobs?=x").await),
        [" is not known; known are: cursor, kind, limit, status"]
    );
}
