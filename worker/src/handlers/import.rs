//! Import: the rows of one part of an uploaded file. Every row is taken, or is in the errors file with the reason.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use cuponera_core::coupon::code::Code;
use cuponera_core::csv::{Columns, Delimiter, Record, Row, RowFault, RowParser, begins_formula, records};
use cuponera_core::error::{Error, Result};
use cuponera_core::files::Files;
use cuponera_core::principal::{hidden_character, parse_user_id};
use cuponera_core::store::{Claim, Finished, ImportRow, Imported, Rejected, Store, TakenBy};

use serde::Serialize;
use serde_json::Value;

use crate::runtime::Outcome;

/// How many rows a dry run reports.
const SAMPLE_ROWS: usize = 5;
/// After so many looks the chunk waits: others keep adding and removing the same codes.
const MAX_LOOKS: usize = 20;

/// Where the rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Line `n` goes to this position plus `n`.
    Book(i32),
    /// They are only counted.
    Nowhere,
}

/// A part of a file, parsed.
#[derive(Debug, Clone)]
pub struct Part {
    text: Bytes,
    delimiter: Delimiter,
    first_line: u64,
    /// Valid rows, each code once, sorted by code.
    pub rows: Vec<ImportRow>,
    /// Rows that are not: by line.
    pub rejects: BTreeMap<u64, Reject>,
    /// The first rows, valid or not, for the report of a dry run.
    first_rows: Vec<SampleRow>,
    duplicates: i64,
    invalid: i64,
}

/// A row as a dry run reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SampleRow {
    line: u64,
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// A line of the errors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The code as it stands in the file.
    pub code: String,
    /// A stable word.
    pub reason: &'static str,
    /// The whole row.
    pub row: String,
    /// What is wrong, as a sentence.
    pub detail: Cow<'static, str>,
}

/// Parses a part, off the runtime's threads.
pub async fn parse(bytes: Bytes, columns: Columns, delimiter: Delimiter, first_line: u64) -> Result<Part> {
    let parsed = tokio::task::spawn_blocking(move || {
        let mut part = Part {
            text: bytes.clone(),
            delimiter,
            first_line,
            rows: Vec::new(),
            rejects: BTreeMap::new(),
            first_rows: Vec::new(),
            duplicates: 0,
            invalid: 0,
        };
        let text = std::str::from_utf8(&bytes).map_err(Error::internal)?;
        let mut parser = RowParser::new(&columns, delimiter);
        let mut seen = HashSet::new();
        for record in records(text, delimiter, first_line) {
            part.sort_in(&record, &mut parser, &mut seen);
        }
        part.rows.sort_unstable_by(|a, b| a.code.cmp(&b.code));
        Ok(part)
    });
    parsed.await.map_err(Error::internal)?
}

impl Part {
    /// Puts a record where it belongs: with the rows, or with the rejects.
    fn sort_in(&mut self, record: &Record<'_>, parser: &mut RowParser, seen: &mut HashSet<String>) {
        let row = parser.parse(record);
        let verdict = judge(&row, seen);
        if self.first_rows.len() < SAMPLE_ROWS {
            self.first_rows.push(SampleRow {
                line: record.line,
                code: verdict.as_ref().map_or(row.code, |valid| valid.0.as_str()).to_owned(),
                user_id: row.user.map(str::to_owned),
                metadata: row.metadata.and_then(|json| serde_json::from_str(json).ok()),
                reason: verdict.as_ref().err().map(|(reason, _)| *reason),
            });
        }
        match verdict {
            Ok((code, user)) => self.rows.push(ImportRow {
                code: code.into_string(),
                line: record.line,
                user: user.map(str::to_owned),
                metadata: row.metadata.map(str::to_owned),
            }),
            Err((reason, detail)) => {
                let is_duplicate = reason == Rejected::DuplicateInFile.reason();
                *(if is_duplicate { &mut self.duplicates } else { &mut self.invalid }) += 1;
                let reject = Reject { code: row.code.to_owned(), reason, row: record.raw.to_owned(), detail };
                self.rejects.insert(record.line, reject);
            }
        }
    }

    /// What the chunk adds to its job, given what the database refused.
    fn tally(&self, refused: &TakenBy, errors_file: Option<String>) -> Result<Finished> {
        let unassigned = refused.values().filter(|(_, why)| *why == Rejected::UserLimitReached).count();
        let standing = count(refused.len() - unassigned)?;
        let (uploaded, unassigned) = (count(self.rows.len())? - standing, count(unassigned)?);
        let duplicates = self.duplicates + standing;
        Ok(Finished {
            succeeded: uploaded - unassigned,
            failed: duplicates + self.invalid + unassigned,
            result: serde_json::json!({
                "uploadedCount": uploaded, "unassignedCount": unassigned, "duplicatesCount": duplicates,
                "invalidRowsCount": self.invalid }),
            errors_file,
        })
    }

    /// The first rows of the part, with what the database refused of them.
    fn sample(&self, refused: &TakenBy) -> Vec<SampleRow> {
        let with_reason = |row: &SampleRow| {
            let reason = refused.get(&row.line).map(|(_, why)| why.reason());
            SampleRow { reason: row.reason.or(reason), ..row.clone() }
        };
        self.first_rows.iter().map(with_reason).collect()
    }

    /// The errors file: without a header, for those of all chunks are read as one.
    fn errors_csv(&self, refused: &TakenBy) -> Result<Vec<u8>> {
        let text = std::str::from_utf8(&self.text).map_err(Error::internal)?;
        let rows: HashMap<u64, &str> = records(text, self.delimiter, self.first_line)
            .filter(|record| refused.contains_key(&record.line))
            .map(|record| (record.line, record.raw))
            .collect();
        let mut lines: BTreeMap<u64, [&str; 4]> = self
            .rejects
            .iter()
            .map(|(line, reject)| (*line, [&reject.code, reject.reason, &reject.row, &reject.detail]))
            .collect();
        // Of a line of another part that yields to an earlier one here, only the code is known.
        lines.extend(refused.iter().map(|(line, (code, why))| {
            let row = rows.get(line).copied().unwrap_or(code.as_str());
            (*line, [code.as_str(), why.reason(), row, why.detail()])
        }));
        let mut writer = csv::Writer::from_writer(Vec::new());
        for (line, [code, reason, row, detail]) in lines {
            let (code, row) = (without_formula(code), without_formula(row));
            writer
                .write_record([&line.to_string(), &*code, reason, &*row, detail])
                .map_err(Error::internal)?;
        }
        writer.into_inner().map_err(|error| Error::internal(error.to_string()))
    }
}

/// Why a row is refused: a stable word, and a sentence.
type Refused = (&'static str, Cow<'static, str>);

/// The code and the user of a valid row whose code was not seen before; or a stable word for what is wrong with it, and a
/// sentence.
fn judge<'a>(
    row: &Row<'a>,
    seen: &mut HashSet<String>,
) -> std::result::Result<(Code, Option<&'a str>), Refused> {
    let refused = |fault: RowFault| (fault.reason(), fault.detail().into());
    if let Some(fault @ (RowFault::RepeatedHeader | RowFault::TooManyCells { .. })) = row.fault {
        return Err(refused(fault));
    }
    let code = Code::parse(row.code).map_err(|fault| (fault.reason(), fault.detail().into()))?;
    if let Some(fault) = row.fault {
        return Err(refused(fault));
    }
    let user = row.user.map(parse_user_id).transpose();
    let user = user.map_err(|fault| ("bad_user_id", bad_user_id(row.user.unwrap_or_default(), fault)))?;
    if !seen.insert(code.as_str().to_owned()) {
        return Err((Rejected::DuplicateInFile.reason(), Rejected::DuplicateInFile.detail().into()));
    }
    Ok((code, user))
}

/// What is wrong with a user id, with the character that nobody can see in it.
fn bad_user_id(user: &str, fault: &str) -> Cow<'static, str> {
    let hidden = hidden_character(user).map(|character| format!(": it has U+{:04X}", u32::from(character)));
    format!("the user id {fault}{}", hidden.unwrap_or_default()).into()
}

/// The text with an apostrophe before it if a spreadsheet would take it for a formula.
fn without_formula(text: &str) -> Cow<'_, str> {
    if begins_formula(text) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

fn count(rows: usize) -> Result<i64> {
    i64::try_from(rows).map_err(Error::internal)
}

/// Takes the rows and settles the chunk. The errors file is written first; if the database then refuses other rows, it is
/// written again.
pub async fn import(
    store: &Store,
    files: &Files,
    claim: &Claim,
    part: &Part,
    target: Target,
) -> Result<Outcome> {
    let mut refused = TakenBy::new();
    for _ in 0..MAX_LOOKS {
        let errors_file = if part.rejects.is_empty() && refused.is_empty() {
            None
        } else {
            let name = Files::errors_name(claim.job, claim.number, claim.epoch);
            files.put(&name, part.errors_csv(&refused)?.into()).await?;
            Some(name)
        };
        let mut finished = part.tally(&refused, errors_file)?;
        if target == Target::Nowhere && claim.number == 0 {
            finished.result["sample"] =
                serde_json::to_value(part.sample(&refused)).map_err(Error::internal)?;
        }
        let imported = match target {
            Target::Book(first_position) => {
                store.settle_imported(claim, &part.rows, first_position, &refused, &finished).await?
            }
            Target::Nowhere => store.settle_dry_run(claim, &part.rows, &refused, &finished).await?,
        };
        match imported {
            Imported::Settled => return Ok(Outcome::Done),
            Imported::Lost => return Ok(Outcome::Lost),
            Imported::Differs(found) => refused = found,
        }
    }
    Err(Error::unavailable("others keep changing the codes of this part"))
}
