//! That the catalog has what the code can answer, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use cuponera_domain::coupon::code::CodeError;
use cuponera_domain::csv::{CutError, RowError};
use cuponera_domain::rejection::{FieldError, Rejection, RejectionClass};
use cuponera_store::RowRejection;

use super::*;
use crate::http::problem::Problem;

/// The names of all refusals, as the function has them that names each.
fn refusal_names() -> Vec<String> {
    let source = include_str!("../../../../core/domain/src/rejection.rs");
    let (_, names) = source.split_once("pub fn code(&self) -> &str {").unwrap();
    let (names, _) = names.split_once("Self::Unknown").unwrap();
    names.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// One of each rejection. The object has the fields of all of them.
fn refusals() -> Vec<Rejection> {
    let make = |name: String| {
        serde_json::from_value(json!({
            "code": name, "what": "book", "reason": "r", "faults": [], "limit": 1, "from": "A", "to": "B",
            "locked_until": examples::LATER, "remaining": 1, "status": "FAILED", "hint": "h", "fault": "empty_file",
            "detail": "d", "line": 1, "limit_bytes": 1,
            "used_bytes": 1, "allowed_bytes": 1, "needed": 1, "available": 1, "month": "2027-06",
        }))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let all: Vec<Rejection> = refusal_names().into_iter().map(make).collect();
    let unknown = all.iter().find(|rejection| matches!(rejection, Rejection::Unknown { .. }));
    assert!(unknown.is_none(), "a field of it is missing above: {unknown:?}");
    all
}

fn cut_errors() -> [CutError; 8] {
    let line = 1;
    // Here so that a new fault of a file does not compile before it is added below.
    let _ = |error: CutError| match error {
        CutError::NotUtf8 { .. }
        | CutError::Utf16
        | CutError::ZeroByte { .. }
        | CutError::Empty { .. }
        | CutError::UnclearHeader { .. }
        | CutError::UnknownDelimiter { .. }
        | CutError::RecordTooLong { .. }
        | CutError::UnclosedQuote { .. } => {}
    };
    [
        CutError::NotUtf8 { line, byte: 1, value: 0xF3 },
        CutError::Utf16,
        CutError::ZeroByte { line },
        CutError::Empty { has_header: false },
        CutError::UnclearHeader { line, why: "w".into(), first_record: vec![] },
        CutError::UnknownDelimiter { named: ':' },
        CutError::RecordTooLong { line, inside_quotes: false },
        CutError::UnclosedQuote { line },
    ]
}

/// The codes and statuses that problems are made with under a folder, wherever both are written out.
fn problems_in(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            problems_in(&entry.path(), found);
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for constructor in ["Problem::new(", "Self::new("] {
            for call in text.split(constructor).skip(1) {
                let arguments = call.split('"').collect::<Vec<_>>();
                let status = arguments[0]
                    .trim()
                    .strip_prefix("StatusCode::")
                    .and_then(|rest| rest.trim_end().strip_suffix(','));
                if let (Some(status), Some(code)) = (status, arguments.get(1)) {
                    found.insert((*code).to_owned(), status.to_owned());
                }
            }
        }
    }
}

fn problems_of_the_edge() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    problems_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

#[test]
fn every_refusal_of_core_stands_here_with_the_status_it_is_answered_with() {
    let all = refusals();
    assert!(all.len() > 25, "{all:?}");
    for rejection in all {
        let name = format!("{rejection:?}");
        let problem = Problem::from(rejection).to_string();
        let stands = KINDS.iter().any(|kind| problem == format!("{} {}", kind.status, kind.code));
        assert!(stands, "{name} is answered as {problem}, which is not in the catalog");
    }
    for error in cut_errors() {
        assert_eq!(find(error.code()).map(|kind| kind.status), Some(422), "{error:?}");
    }
}

#[test]
fn every_problem_of_the_edge_stands_here_with_its_status() {
    let found = problems_of_the_edge();
    assert!(found.len() > 8, "{found:?}");
    for (code, status) in found {
        let kind = find(&code).unwrap_or_else(|| panic!("{code} is not in the catalog"));
        let reason = StatusCode::from_u16(kind.status).unwrap().canonical_reason().unwrap();
        assert_eq!(reason.to_uppercase().replace(' ', "_"), status, "{code}");
    }
}

/// Invariant I-41.
#[test]
fn nothing_stands_here_that_is_never_answered() {
    let refusals = refusals();
    let refusals: Vec<_> = refusals.iter().map(Rejection::code).collect();
    let (files, edge) = (cut_errors().map(|error| error.code()), problems_of_the_edge());
    for kind in KINDS {
        let answered = refusals.contains(&kind.code) || files.contains(&kind.code);
        assert!(answered || edge.contains_key(kind.code), "nothing answers {}", kind.code);
    }
}

#[test]
fn every_problem_has_a_sentence_in_spanish_with_its_values() {
    let mut problems: Vec<Problem> = refusals().into_iter().map(Problem::from).collect();
    let of_core: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for kind in KINDS {
        let status = StatusCode::from_u16(kind.status).unwrap();
        if !of_core.contains(&format!("{} {}", kind.status, kind.code)) {
            let fault = FieldError::new("userId", "is required");
            problems
                .push(Problem::new(status, kind.code, kind.detail).with_faults(&[fault]).with_retry_after(7));
        }
    }
    let of_files =
        |problem: &Problem| cut_errors().iter().any(|error| problem.to_string().ends_with(error.code()));
    for problem in problems.iter().filter(|problem| !of_files(problem)) {
        let sentence = problem.in_spanish();
        assert!(sentence.is_some_and(|sentence| !sentence.contains(['{', '}'])), "{problem}");
    }
    for error in cut_errors() {
        let (fault, detail, line) = (error.code().to_owned(), error.to_string(), error.line());
        let first_record = (fault == "unclear_header").then(|| vec!["Type".to_owned()]);
        let problem = Problem::from(Rejection::BadFile { fault, detail, line, first_record });
        assert!(problem.in_spanish().is_some(), "{error:?}");
    }
    let limit = Problem::from(Rejection::UserLimitReached { limit: 3 }).in_spanish().unwrap();
    assert_eq!(limit, "El usuario ya tiene 3 códigos de este libro de cupones, el máximo por usuario.");
    let faults = vec![FieldError::new("userId", "is required"), FieldError::new("code", "is empty")];
    let invalid = Problem::from(Rejection::Invalid { faults }).in_spanish().unwrap();
    assert_eq!(invalid, "La petición no es válida. Campos que hay que corregir: userId, code.");
    let newer = Rejection::Unknown { code: "newer".into(), class: RejectionClass::Gone, detail: "d".into() };
    assert_eq!(Problem::from(newer).in_spanish(), None);
}

#[test]
fn every_code_stands_once_and_belongs_to_an_operation() {
    let document = &crate::document::DOCUMENT.value;
    let all: Vec<_> = crate::document::operations_of(document)
        .into_iter()
        .flat_map(|(_, _, operation)| crate::document::codes_of(document, operation))
        .collect();
    for kind in KINDS {
        assert_eq!(KINDS.iter().filter(|other| other.code == kind.code).count(), 1, "{}", kind.code);
        // It is for methods that no operation has.
        if kind.code != "method_not_allowed" {
            assert!(all.contains(&kind.code), "no operation answers {}", kind.code);
        }
    }
}

#[test]
fn every_reason_of_a_refused_row_stands_here() {
    let of_codes = [CodeError::Empty, CodeError::TooShort, CodeError::TooLong, CodeError::BadCharacter(' ')];
    let of_rows = [
        RowRejection::DuplicateInFile,
        RowRejection::AlreadyExists,
        RowRejection::UserLimitReached,
        RowRejection::OtherBook,
    ];
    let mut reasons: Vec<_> = of_codes.map(CodeError::reason).to_vec();
    reasons.extend(of_rows.map(RowRejection::reason));
    let of_header =
        [RowError::TooManyCells { cells: 2, columns: 1 }, RowError::RepeatedHeader, RowError::NoCodeAtStart];
    reasons.extend(of_header.map(RowError::reason));
    reasons.extend(["already_member", "bad_limit", "bad_user_id", "no_user", "not_assignable"]);
    reasons.sort_unstable();
    assert_eq!(reasons, ROW_REASONS.iter().map(|(reason, _)| *reason).collect::<Vec<_>>());
}
