//! Import: the rows of one part of an uploaded file. Every row is taken, or told of in the errors file.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use cuponera_core::coupon::code::Code;
use cuponera_core::csv::{Columns, Delimiter, Record, RowParser, records};
use cuponera_core::error::{Error, Result};
use cuponera_core::files::Files;
use cuponera_core::principal::parse_user_id;
use cuponera_core::store::{Claim, Finished, ImportRow, Imported, Rejected, Store, TakenBy};

use crate::runtime::Outcome;

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
    duplicates: i64,
    invalid: i64,
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
        let user = row.user.map(parse_user_id).transpose();
        let reason = match Code::parse(row.code) {
            Err(fault) => Some(fault.reason()),
            Ok(_) if user.is_err() => Some("bad_user_id"),
            Ok(code) if !seen.insert(code.as_str().to_owned()) => Some(Rejected::DuplicateInFile.reason()),
            Ok(code) => {
                self.rows.push(ImportRow {
                    code: code.into_string(),
                    line: record.line,
                    user: user.ok().flatten().map(str::to_owned),
                    metadata: row.metadata.map(str::to_owned),
                });
                None
            }
        };
        let Some(reason) = reason else { return };
        if reason == Rejected::DuplicateInFile.reason() {
            self.duplicates += 1;
        } else {
            self.invalid += 1;
        }
        let reject = Reject { code: row.code.trim().to_owned(), reason, row: record.raw.to_owned() };
        self.rejects.insert(record.line, reject);
    }

    /// What the chunk adds to its job, given what the database refused.
    fn tally(&self, refused: &TakenBy, errors_file: Option<String>) -> Result<Finished> {
        let standing = refused.values().filter(|(_, why)| *why != Rejected::UserLimitReached).count();
        let uploaded = i64::try_from(self.rows.len() - standing).map_err(Error::internal)?;
        let duplicates = self.duplicates + i64::try_from(standing).map_err(Error::internal)?;
        Ok(Finished {
            succeeded: uploaded,
            failed: duplicates + self.invalid,
            result: serde_json::json!({
                "uploadedCount": uploaded, "duplicatesCount": duplicates, "invalidRowsCount": self.invalid }),
            errors_file,
        })
    }

    /// The errors file: without a header, for those of all chunks are read as one.
    fn errors_csv(&self, refused: &TakenBy) -> Result<Vec<u8>> {
        let text = std::str::from_utf8(&self.text).map_err(Error::internal)?;
        let rows: HashMap<u64, &str> = records(text, self.delimiter, self.first_line)
            .filter(|record| refused.contains_key(&record.line))
            .map(|record| (record.line, record.raw))
            .collect();
        let mut lines: BTreeMap<u64, (&str, &str, &str)> = self
            .rejects
            .iter()
            .map(|(line, reject)| (*line, (reject.code.as_str(), reject.reason, reject.row.as_str())))
            .collect();
        // A line of another part that yields to an earlier one here is told of with its code alone.
        lines.extend(refused.iter().map(|(line, (code, why))| {
            (*line, (code.as_str(), why.reason(), rows.get(line).copied().unwrap_or(code.as_str())))
        }));
        let mut writer = csv::Writer::from_writer(Vec::new());
        for (line, (code, reason, row)) in lines {
            writer.write_record([line.to_string().as_str(), code, reason, row]).map_err(Error::internal)?;
        }
        writer.into_inner().map_err(|error| Error::internal(error.to_string()))
    }
}

/// Takes the rows and settles the chunk. What the errors file tells is written first; if the database then finds otherwise,
/// the file is written anew.
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
        let finished = part.tally(&refused, errors_file)?;
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
