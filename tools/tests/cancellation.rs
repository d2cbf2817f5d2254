//! No code drops a future that begins a transaction: see `is_outside_transactions` in
//! `core/store/src/connect.rs`. Each place that can drop a future which uses the database is listed here
//! with its reason.

use std::fs;
use std::path::{Path, PathBuf};

const PACKAGES: [&str; 6] = ["core/domain", "core/store", "core/platform", "api", "worker", "cli"];
/// Calls that can drop a future before it completes.
const DROPS: [&str; 5] = ["timeout(", "timeout_at(", "run_until_cancelled(", ".abort()", "select!"];
/// Text of code that begins, or may begin, a transaction.
const MAY_BEGIN: [&str; 6] = ["store.", ".begin(", "pool.", "attempt(", "work.", "opening"];
/// Number of characters examined after such a call.
const STATEMENT: usize = 400;

/// File, text, reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "api/src/app/database_health.rs",
        "timeout(QUERY_TIMEOUT, store.ping())",
        "one statement, without a transaction",
    ),
    (
        "core/store/src/pool_metrics.rs",
        "timeout(MAX_WAIT, pool.acquire())",
        "acquires a connection; executes no statement",
    ),
    ("cli/src/up.rs", "run_until_cancelled(opening)", "the process and its connections end"),
    (
        "worker/src/runtime/slot.rs",
        "select! {",
        "waits for the aborted task; the pool checks returned connections",
    ),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The text of a file without its comments.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("the file can be read");
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The places where code may drop a future that begins a transaction.
fn places(code: &str) -> Vec<&str> {
    let starts = DROPS.iter().flat_map(|drops| code.match_indices(drops).map(|(at, _)| at));
    let statement = |at: usize| {
        let text: &str = &code[at..];
        let text = text.char_indices().nth(STATEMENT).map_or(text, |(end, _)| &text[..end]);
        if text.starts_with("select!") { text } else { text.split(";\n").next().unwrap_or(text) }
    };
    starts.map(statement).filter(|text| MAY_BEGIN.iter().any(|begins| text.contains(begins))).collect()
}

/// Invariant I-7.
#[test]
fn no_future_that_begins_a_transaction_is_dropped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = Vec::new();
    for package in PACKAGES {
        sources(&root.join(package).join("src"), &mut found);
    }
    assert!(found.len() > 100, "{found:?}");
    let mut unused: Vec<_> = ALLOWED.to_vec();
    let mut faults = Vec::new();
    for path in found.iter().filter(|path| !path.ends_with("tests.rs")) {
        let name = path.strip_prefix(root).expect("a file of the workspace").display().to_string();
        for place in places(&code_of(path)) {
            let is_it = |allowed: &(&str, &str, &str)| allowed.0 == name && place.starts_with(allowed.1);
            unused.retain(|allowed| !is_it(allowed));
            if !ALLOWED.iter().any(is_it) {
                faults.push(format!("{name}: {}", place.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
    }
    assert!(faults.is_empty(), "run these in a separate task, or add a reason here:\n{}", faults.join("\n"));
    assert!(unused.is_empty(), "these places no longer exist: {unused:?}");
}

#[test]
fn a_place_that_was_wrong_is_found() {
    let wrong = "let all = timeout(REFRESH_TIMEOUT, store.backlog()).await;\n";
    assert_eq!(places(wrong).len(), 1);
    assert!(places("let all = tokio::spawn(async move { store.backlog().await });\n").is_empty());
}
