//! Import: the rows of one part of an uploaded file. Every row is imported, or rejected with a reason.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use cuponera_domain::book::CodeKind;
use cuponera_domain::coupon::code::Code;
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::csv::{Columns, Delimiter, Record, Row, RowError, RowParser, records};
use cuponera_domain::job::import::{Begin, Chunk, Spec};
use cuponera_domain::principal::{hidden_character, parse_user_id};
use cuponera_platform::files::Files;
use cuponera_store::{Claim, ClaimState, ImportPart, ImportRow, RejectedRow, RowRejection, SampleRow, Store};
use cuponera_store::{Error, Result};
use futures::FutureExt;
use serde_json::Value;

use crate::runtime::ChunkOutcome;

/// Number of rows in the sample of a dry run.
const SAMPLE_ROWS: usize = 5;

/// Imports the rows of a part, or only counts them, and finishes the chunk.
pub async fn work(
    store: &Store,
    files: &Files,
    claim: &Claim,
    spec: &Spec,
    chunk: &Chunk,
) -> Result<ChunkOutcome> {
    let bytes = files.get(&chunk.file).await?;
    let kind = if spec.is_shared { CodeKind::Shared } else { CodeKind::Unique };
    let part = parse(bytes, spec.columns.clone(), spec.delimiter, chunk.begin, kind).await?;
    let pulse = if spec.dry_run {
        store.finish_dry_run(claim, &part).await?
    } else {
        let lines = move |places: Vec<u64>| find_lines(store, files, claim, spec.delimiter, places).boxed();
        store.finish_imported(claim, &part, spec.first_position, &lines).await?
    };
    Ok(match pulse {
        ClaimState::Held => ChunkOutcome::Done,
        ClaimState::Lost => ChunkOutcome::Lost,
    })
}

/// The lines of rows of a file, by the numbers of the rows before them.
async fn find_lines(
    store: &Store,
    files: &Files,
    claim: &Claim,
    delimiter: Delimiter,
    places: Vec<u64>,
) -> Result<HashMap<u64, u64>> {
    let parts = store.import_parts(claim.job).await?;
    let mut wanted: BTreeMap<usize, HashSet<u64>> = BTreeMap::new();
    for place in places {
        let before = parts
            .partition_point(|part| matches!(part.begin, Begin::Record { record, .. } if record <= place));
        wanted.entry(before.saturating_sub(1)).or_default().insert(place);
    }
    let mut found = HashMap::new();
    for (index, places) in wanted {
        let Some(Chunk { file, begin: Begin::Record { record: first, line } }) = parts.get(index) else {
            return Err(Error::internal("a place is not in the file"));
        };
        let (bytes, first, line) = (files.get(file).await?, *first, *line);
        let lines = tokio::task::spawn_blocking(move || {
            let text = std::str::from_utf8(&bytes).map_err(Error::internal)?;
            let rows =
                (first..).zip(records(text, delimiter, line)).map(|(place, record)| (place, record.line));
            Ok::<_, Error>(rows.filter(|(place, _)| places.contains(place)).collect::<Vec<_>>())
        });
        found.extend(lines.await.map_err(Error::internal)??);
    }
    Ok(found)
}

/// Parses a part on a blocking thread. The codes of a SHARED book have limits in some columns.
pub(super) async fn parse(
    bytes: Bytes,
    columns: Columns,
    delimiter: Delimiter,
    begin: Begin,
    kind: CodeKind,
) -> Result<ImportPart> {
    let parsed = tokio::task::spawn_blocking(move || {
        let mut part = ImportPart::default();
        let text = std::str::from_utf8(&bytes).map_err(Error::internal)?;
        let mut parser = RowParser::new(&columns, delimiter);
        let mut seen = HashSet::new();
        let (first_line, first_record) = match begin {
            Begin::Line { first_line } => (first_line, None),
            Begin::Record { record, line } => (line, Some(record)),
        };
        for (index, record) in (0..).zip(records(text, delimiter, first_line)) {
            let place = first_record.map_or(record.line, |first| first + index);
            sort_in(&mut part, (place, &record), &mut parser, &mut seen, kind);
        }
        part.rows.sort_unstable_by(|a, b| a.code.cmp(&b.code));
        Ok(part)
    });
    parsed.await.map_err(Error::internal)?
}

/// Adds a record to the rows or to the rejections.
fn sort_in(
    part: &mut ImportPart,
    (place, record): (u64, &Record<'_>),
    parser: &mut RowParser,
    seen: &mut HashSet<String>,
    kind: CodeKind,
) {
    let row = parser.parse(record);
    let verdict = validate(&row, kind, seen);
    if part.sample.len() < SAMPLE_ROWS {
        part.sample.push(SampleRow {
            line: record.line,
            code: verdict.as_ref().map_or(row.code, |valid| valid.0.as_str()).to_owned(),
            user_id: row.user.map(str::to_owned),
            metadata: row.metadata.and_then(|json| serde_json::from_str(json).ok()),
            reason: verdict.as_ref().err().map(|(reason, _)| (*reason).to_owned()),
        });
    }
    match verdict {
        Ok((code, user, other)) => part.rows.push(ImportRow {
            code: code.into_string(),
            line: record.line,
            place,
            user: user.map(str::to_owned),
            metadata: other.metadata,
            limits: other.limits,
            text: record.raw.to_owned(),
        }),
        Err((reason, detail)) => part.rejections.push(RejectedRow {
            line: record.line,
            code: row.code.to_owned(),
            reason: reason.into(),
            detail,
            row: record.raw.to_owned(),
        }),
    }
}

/// Why a row is rejected: a stable code and an explanation.
type Reason = (&'static str, Cow<'static, str>);

/// The columns of a row that are neither its code nor its user.
struct OtherColumns {
    metadata: Option<String>,
    limits: SharedLimits,
}

/// The other columns of a row. Of a SHARED book, some of them are limits.
fn other_columns(row: &Row<'_>, kind: CodeKind) -> std::result::Result<OtherColumns, Reason> {
    let Some(Value::Object(mut columns)) =
        row.metadata.filter(|_| kind == CodeKind::Shared).and_then(|json| serde_json::from_str(json).ok())
    else {
        let metadata = row.metadata.map(str::to_owned);
        return Ok(OtherColumns { metadata, limits: SharedLimits::default() });
    };
    let limits = SharedLimits::take_from(&mut columns).map_err(|fault| ("bad_limit", fault.into()))?;
    let metadata = (!columns.is_empty()).then(|| Value::Object(columns).to_string());
    Ok(OtherColumns { metadata, limits })
}

/// The code, the user and the other columns of a valid row whose code has not occurred before, or the reason of the rejection.
fn validate<'a>(
    row: &Row<'a>,
    kind: CodeKind,
    seen: &mut HashSet<String>,
) -> std::result::Result<(Code, Option<&'a str>, OtherColumns), Reason> {
    let reason = |fault: RowError| (fault.reason(), fault.detail().into());
    if let Some(fault @ (RowError::RepeatedHeader | RowError::TooManyCells { .. })) = row.fault {
        return Err(reason(fault));
    }
    let code = Code::parse(row.code).map_err(|fault| (fault.reason(), fault.detail().into()))?;
    if let Some(fault) = row.fault {
        return Err(reason(fault));
    }
    let user = row.user.map(parse_user_id).transpose();
    let user = user.map_err(|fault| ("bad_user_id", bad_user_id(row.user.unwrap_or_default(), fault)))?;
    if user.is_some() && kind == CodeKind::Shared {
        return Err(("not_assignable", "the codes of a SHARED book are not assigned, and the row names a user".into()));
    }
    let other = other_columns(row, kind)?;
    if !seen.insert(code.as_str().to_owned()) {
        return Err((RowRejection::DuplicateInFile.reason(), RowRejection::DuplicateInFile.detail().into()));
    }
    Ok((code, user, other))
}

/// The explanation of an invalid user id. It names the first hidden character.
pub(super) fn bad_user_id(user: &str, fault: &str) -> Cow<'static, str> {
    let hidden = hidden_character(user).map(|character| format!(": it has U+{:04X}", u32::from(character)));
    format!("the user id {fault}{}", hidden.unwrap_or_default()).into()
}
