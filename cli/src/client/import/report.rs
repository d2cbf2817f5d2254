//! The report of an import, or of an upload of assignments, as text: how the file was read, the counts, and a last line with the rows not imported.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::super::show::{CellFormat, Column, count, pairs, plain, table};
use super::super::watch::Job;

/// The report of a job that succeeded. Its last line has the counts of rows and the location of the rejected rows.
pub(super) fn report(job: &Job, dry_run: bool, errors: Option<&Path>) -> String {
    let result = &job.answer.value["result"];
    let counted = |name: &str| count(job.result(name));
    let imported = if dry_run { "Would be imported" } else { "Imported" };
    let mut lines = vec![("Read as", read_as(&result["readAs"]))];
    lines.push((imported, format!("{}{}", counted("uploadedCount"), job.in_time())));
    if job.result("unassignedCount") > 0 {
        lines.push(("  without their user", counted("unassignedCount")));
    }
    lines.push(("Duplicates", counted("duplicatesCount")));
    lines.push(("Invalid rows", counted("invalidRowsCount")));
    let mut parts = vec![pairs(&lines)];
    if let Some(rows) = result["sample"].as_array().filter(|rows| !rows.is_empty()) {
        parts.push(format!("First rows\n{}", sample(rows)));
    }
    parts.push(last_line(job, dry_run, errors));
    parts.join("\n")
}

/// The report of a job that assigned codes.
pub(super) fn assigned(job: &Job, dry_run: bool, errors: Option<&Path>) -> String {
    let counted = |name: &str| count(job.result(name));
    let assigned = if dry_run { "Would be assigned" } else { "Assigned" };
    let lines = [
        ("Read as", read_as(&job.answer.value["result"]["readAs"])),
        (assigned, format!("{}{}", counted("assignedCount"), job.in_time())),
        ("Held by their users before", counted("alreadyAssignedCount")),
        ("Rejected", counted("rejectedCount")),
        ("Duplicates", counted("duplicatesCount")),
        ("Invalid rows", counted("invalidRowsCount")),
    ];
    let rejected = ["rejectedCount", "duplicatesCount", "invalidRowsCount"].map(|name| job.result(name));
    let would_be = if dry_run { "would be assigned" } else { "assigned" };
    let mut line = format!("{} {would_be}", self::counted(job.result("assignedCount"), "code", "codes"));
    add_rejected(&mut line, job, rejected.iter().sum(), errors);
    format!("{}\n{line}", pairs(&lines))
}

/// `UTF-8, delimiter ";", header; codes in "Código", users in "Cliente", metadata "Nota"; 2 lines skipped`
fn read_as(read_as: &Value) -> String {
    if read_as.is_null() {
        return "not reported by this server".to_owned();
    }
    let column = |name: &str| match &read_as[name] {
        Value::Number(number) => Some(format!("column {number}")),
        Value::String(name) => Some(quoted(name)),
        _ => None,
    };
    let delimiter = match read_as["delimiter"].as_str().unwrap_or_default() {
        "\t" => "tab".to_owned(),
        delimiter => quoted(delimiter),
    };
    let header = if read_as["header"] == true { "header" } else { "no header" };
    let mut text = format!(
        "{}, delimiter {delimiter}, {header}",
        plain(read_as["encoding"].as_str().unwrap_or("UTF-8"))
    );
    let _ = write!(text, "; codes in {}", column("codeColumn").unwrap_or_default());
    if let Some(users) = column("userColumn") {
        let _ = write!(text, ", users in {users}");
    }
    let names: Vec<String> = read_as["metadataColumns"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(quoted)
        .collect();
    if !names.is_empty() {
        let _ = write!(text, ", metadata {}", names.join(", "));
    }
    match read_as["skippedLines"].as_u64() {
        None | Some(0) => {}
        Some(1) => text.push_str("; 1 line skipped"),
        Some(lines) => {
            let _ = write!(text, "; {} lines skipped", count(lines));
        }
    }
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text))
}

fn sample(rows: &[Value]) -> String {
    const COLUMNS: [Column; 5] = [
        Column("LINE", "/line", CellFormat::Count),
        Column("CODE", "/code", CellFormat::Text),
        Column("USER", "/userId", CellFormat::Text),
        Column("METADATA", "/metadata", CellFormat::Text),
        Column("REJECTED", "/reason", CellFormat::Text),
    ];
    table(&COLUMNS, rows)
}

/// `12 codes imported, 2 of them without the user …; 3 rows rejected: see errors.csv`
fn last_line(job: &Job, dry_run: bool, errors: Option<&Path>) -> String {
    let (imported, unassigned) = (job.result("uploadedCount"), job.result("unassignedCount"));
    let rejected = job.result("duplicatesCount") + job.result("invalidRowsCount");
    let would_be = if dry_run { "would be imported" } else { "imported" };
    let mut line = format!("{} {would_be}", counted(imported, "code", "codes"));
    if unassigned > 0 {
        let unassigned = count(unassigned);
        let _ = write!(line, ", {unassigned} of them without the user that the row names (over the limit)");
    }
    if rejected > 0 {
        let _ = write!(line, "; {} rejected", counted(rejected, "row", "rows"));
    }
    if unassigned + rejected > 0 {
        let _ = write!(line, ": see {}", errors_of(job, errors));
    }
    line
}

fn add_rejected(line: &mut String, job: &Job, rejected: u64, errors: Option<&Path>) {
    if rejected > 0 {
        let rows = counted(rejected, "row", "rows");
        let _ = write!(line, "; {rows} rejected: see {}", errors_of(job, errors));
    }
}

/// Where the rejected rows of a job are.
fn errors_of(job: &Job, errors: Option<&Path>) -> String {
    match errors {
        Some(path) => plain(&path.display().to_string()),
        None => format!("cuponera jobs errors {}", job.id()),
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}
