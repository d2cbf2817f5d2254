//! Realistic CSV files over HTTP: the codes, holders and rejected rows of each, and the same report from a dry run.

use cuponera_testkit::{Expected, ImportCase, import_cases};
use reqwest::Method;
use serde_json::{Value, json};

use super::{errors_of, wait_for_job};
use crate::support::{Reply, Server, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn files_become_the_codes_that_their_writers_meant() {
    let server = Server::start().await;
    for (number, case) in import_cases().iter().enumerate() {
        check(&server, &case.with_prefix(&prefix(number))).await;
    }
    server.assert_invariants().await;
}

/// Two letters that are different for each case.
fn prefix(number: usize) -> String {
    let letter = |number: usize| char::from(b'A' + u8::try_from(number % 26).expect("below 26"));
    format!("{}{}", letter(number / 26), letter(number))
}

async fn check(server: &Server, case: &ImportCase) {
    let name = case.name;
    let rules = case.max_codes_per_user.map_or(json!({}), |limit| json!({"maxCodesPerUser": limit}));
    let book = server.book(rules).await;
    let (codes, rejects) = match &case.expected {
        Expected::Rejected(code) => {
            assert_eq!(upload(server, &book, case, "false").await.rejected(422), *code, "{name}");
            assert_eq!(server.codes(&book).await, Vec::<Value>::new(), "{name}");
            return;
        }
        Expected::Imported(codes, rejects) => (codes, rejects),
    };
    for dry_run in ["true", "false"] {
        let job = upload(server, &book, case, dry_run).await.expect(202);
        let job = wait_for_job(&server.admin(), &id_of(&job)).await;
        assert_counts(case, &job);
        let errors = errors_of(server, &job).await;
        let rejected: Vec<(u64, &str)> = errors
            .iter()
            .map(|[line, _, reason, ..]| (line.parse().expect("a line"), reason.as_str()))
            .collect();
        assert_eq!(rejected, *rejects, "{name}, dry run {dry_run}");
        for cell in errors.iter().flatten() {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{name}: {cell:?} begins a formula");
        }
        assert!(errors.iter().all(|[.., detail]| !detail.is_empty()), "{name}: {errors:?}");
        let is_dry = dry_run == "true";
        let mut expected = if is_dry { Vec::new() } else { codes.clone() };
        expected.sort_unstable();
        assert_eq!(holdings(server, &book).await, expected, "{name}, dry run {dry_run}");
        if is_dry {
            assert_sample(case, &job);
        }
    }
}

async fn upload(server: &Server, book: &str, case: &ImportCase, dry_run: &str) -> Reply {
    let said = [("couponBookId", book), ("dryRun", dry_run)].into_iter().chain(case.query.iter().copied());
    let url = reqwest::Url::parse_with_params("http://server", said).expect("a URL");
    let request = server
        .admin()
        .request(Method::POST, &format!("coupon-codes/upload?{}", url.query().unwrap_or_default()))
        .header("Content-Type", "text/csv")
        .body(case.file.to_vec());
    Reply::to(request).await
}

fn assert_counts(case: &ImportCase, job: &Value) {
    let (name, result) = (case.name, &job["result"]);
    let counts = case.expected.counts().expect("an imported file");
    let count = |name: &str| result[name].as_u64().and_then(|count| usize::try_from(count).ok());
    assert_eq!(job["status"], "SUCCEEDED", "{name}: {job}");
    assert_eq!(
        (
            count("uploadedCount"),
            count("unassignedCount"),
            count("duplicatesCount"),
            count("invalidRowsCount")
        ),
        (Some(counts.uploaded), Some(counts.unassigned), Some(counts.duplicates), Some(counts.invalid)),
        "{name}: {job}"
    );
    let progress = &job["progress"];
    let failed = counts.unassigned + counts.duplicates + counts.invalid;
    assert_eq!(progress["succeeded"], counts.uploaded - counts.unassigned, "{name}: {job}");
    assert_eq!(
        (&progress["failed"], &progress["processed"]),
        (&json!(failed), &progress["total"]),
        "{name}: {job}"
    );
    assert_eq!(result["readAs"]["encoding"], "UTF-8", "{name}: {job}");
}

/// The sample of a dry run has the first rows of the file, with the reasons of the errors file.
fn assert_sample(case: &ImportCase, job: &Value) {
    let Expected::Imported(_, rejects) = &case.expected else { return };
    let sample = job["result"]["sample"].as_array().unwrap_or_else(|| panic!("{}: {job}", case.name));
    let total = job["progress"]["total"].as_u64().expect("a total");
    assert_eq!(sample.len() as u64, total.min(5), "{}: {job}", case.name);
    for row in sample {
        let rejected = rejects.iter().find(|(line, _)| row["line"] == *line).map(|(_, reason)| *reason);
        assert_eq!(row["reason"].as_str(), rejected, "{}: {row}", case.name);
    }
}

/// The codes of a book, sorted, as `CODE` or `CODE=user`.
async fn holdings(server: &Server, book: &str) -> Vec<String> {
    let codes = server.codes(book).await;
    let shown = |code: &Value| {
        let name = code["code"].as_str().unwrap_or_default();
        code["userId"].as_str().map_or_else(|| name.to_owned(), |user| format!("{name}={user}"))
    };
    let mut shown: Vec<String> = codes.iter().map(shown).collect();
    shown.sort_unstable();
    shown
}
