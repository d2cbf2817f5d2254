//! A parsed part of an import file: its valid rows, the rejected rows, and what they add to the job.

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgTransaction;

use crate::error::Result;
use crate::job::claim::Claim;
use crate::job::finish::{Finished, finish_if_held};
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::job::{JobStatus, Task};

use super::rejection::{self, RejectedRow};
use super::space::as_i64;

/// A valid row; no other row of its part has its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// The code.
    pub code: String,
    /// The physical line it starts on.
    pub line: u64,
    /// Its place in the file, which decides on its position.
    pub place: u64,
    /// The user to assign the code to.
    pub user: Option<String>,
    /// The other columns, as JSON.
    pub metadata: Option<String>,
    /// The limits of the code, in a SHARED book.
    pub limits: SharedLimits,
    /// The whole row as it is in the file.
    pub text: String,
}

/// A part of a file, parsed.
#[derive(Debug, Clone, Default)]
pub struct ImportPart {
    /// The valid rows, each code once, sorted by code.
    pub rows: Vec<ImportRow>,
    /// The other rows.
    pub rejections: Vec<RejectedRow>,
    /// The first rows, for the report of a dry run.
    pub sample: Vec<SampleRow>,
}

/// A row as a dry run reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleRow {
    /// The physical line it starts on.
    pub line: u64,
    /// The code as it would be imported.
    pub code: String,
    /// The user to assign it to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The other columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// Why it would not be imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why a valid row is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowRejection {
    /// An earlier line of the file has the code.
    DuplicateInFile,
    /// The business has the code already.
    AlreadyExists,
    /// The code was imported, but its user may not hold one more: it is free.
    UserLimitReached,
    /// The code belongs to another book of the business.
    OtherBook,
}

impl RowRejection {
    /// The stable name of the reason, in the errors file.
    pub fn reason(self) -> &'static str {
        match self {
            Self::DuplicateInFile => "duplicate_in_file",
            Self::AlreadyExists => "already_exists",
            Self::UserLimitReached => "user_limit_reached",
            Self::OtherBook => "other_book",
        }
    }

    /// The reason as a sentence.
    pub fn detail(self) -> &'static str {
        match self {
            Self::DuplicateInFile => "an earlier line of the file has this code",
            Self::AlreadyExists => "the business has this code already",
            Self::UserLimitReached => {
                "the code is imported and free: its user may hold no more codes of the book"
            }
            Self::OtherBook => "the code belongs to another coupon book",
        }
    }

    pub(super) fn at(self, line: u64, code: &str, row: &str) -> RejectedRow {
        let (reason, detail) = (self.reason().into(), self.detail().into());
        RejectedRow { line, code: code.to_owned(), reason, detail, row: row.to_owned() }
    }

    pub(super) fn of(self, row: &ImportRow) -> RejectedRow {
        self.at(row.line, &row.code, &row.text)
    }
}

impl ImportPart {
    /// Writes the rejections of the part and those that the database found, and finishes the chunk. `None` if this worker
    /// no longer holds the chunk or the job was stopped.
    pub(super) async fn finish(
        &self,
        transaction: &mut PgTransaction<'_>,
        storage_quota: Option<u64>,
        claim: &Claim,
        found: &[RejectedRow],
    ) -> Result<Option<JobStatus>> {
        rejection::write(transaction, storage_quota, claim, [&self.rejections, found]).await?;
        finish_if_held(transaction, claim, &self.finished(claim, found)).await
    }

    /// The counts and the result that the chunk adds to its job.
    fn finished(&self, claim: &Claim, found: &[RejectedRow]) -> Finished {
        let count = |rows: usize| as_i64(rows as u64);
        let of_reason = |rejections: &[RejectedRow], why: RowRejection| {
            count(rejections.iter().filter(|rejection| rejection.reason == why.reason()).count())
        };
        let repeated = of_reason(&self.rejections, RowRejection::DuplicateInFile);
        let unassigned = of_reason(found, RowRejection::UserLimitReached);
        let existing = count(found.len()) - unassigned;
        let uploaded = count(self.rows.len()) - existing;
        let invalid = count(self.rejections.len()) - repeated;
        let mut result = json!({
            "uploadedCount": uploaded, "unassignedCount": unassigned, "duplicatesCount": repeated + existing,
            "invalidRowsCount": invalid });
        if claim.number == 0 && matches!(&claim.task, Task::ImportCodes(spec, _) if spec.dry_run) {
            result["sample"] = json!(self.sample_with(found));
        }
        let failed = count(self.rejections.len() + found.len());
        Finished { succeeded: uploaded - unassigned, failed, result, ..Finished::default() }
    }

    /// The first rows, with the rejections that the database found.
    fn sample_with(&self, found: &[RejectedRow]) -> Vec<SampleRow> {
        let with_reason = |row: &SampleRow| {
            let found = found.iter().find(|rejection| rejection.line == row.line);
            let reason = row.reason.clone().or(found.map(|rejection| rejection.reason.to_string()));
            SampleRow { reason, ..row.clone() }
        };
        self.sample.iter().map(with_reason).collect()
    }
}
