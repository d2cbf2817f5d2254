//! Files that users upload, and the expected result of each import. Modeled on public bug reports and real
//! files; some are in `testkit/cases`, their variants in [`list`].
//!
//! Codes begin with `ZQ` or `zq`, which [`ImportCase::with_prefix`] replaces, so that cases do not collide
//! in one business.

mod list;

use std::borrow::Cow;

pub use list::{import_cases, import_files};

/// A file and its expected result.
#[derive(Debug, Clone)]
pub struct ImportCase {
    /// The name of the case.
    pub name: &'static str,
    /// The file.
    pub file: Cow<'static, [u8]>,
    /// The query parameters of the upload.
    pub query: &'static [(&'static str, &'static str)],
    /// The `max_codes_per_user` of the book.
    pub max_codes_per_user: Option<i32>,
    /// The expected result.
    pub expected: Expected,
}

/// The result of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// 422 with this code; nothing is stored.
    Rejected(&'static str),
    /// The imported codes, as `CODE` or `CODE=user`, and the lines of the errors file with their reasons.
    Imported(Vec<String>, Vec<(u64, &'static str)>),
}

/// The counts of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Codes imported.
    pub uploaded: usize,
    /// Codes imported without the user in their row.
    pub unassigned: usize,
    /// Rows with a code that exists or occurred before.
    pub duplicates: usize,
    /// Invalid rows.
    pub invalid: usize,
}

impl Expected {
    /// The counts of the job of an imported file.
    pub fn counts(&self) -> Option<Counts> {
        let Self::Imported(codes, rejects) = self else { return None };
        let count = |wanted: &[&str]| rejects.iter().filter(|(_, reason)| wanted.contains(reason)).count();
        let unassigned = count(&["user_limit_reached"]);
        let duplicates = count(&["duplicate_in_file", "already_exists"]);
        let invalid = rejects.len() - unassigned - duplicates;
        Some(Counts { uploaded: codes.len(), unassigned, duplicates, invalid })
    }
}

impl ImportCase {
    /// The same case with other codes: `prefix` is two letters.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let lower = prefix.to_ascii_lowercase();
        let replace = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for at in 0..bytes.len().saturating_sub(1) {
                match &bytes[at..at + 2] {
                    b"ZQ" => bytes[at..at + 2].copy_from_slice(prefix.as_bytes()),
                    b"zq" => bytes[at..at + 2].copy_from_slice(lower.as_bytes()),
                    _ => {}
                }
            }
            bytes
        };
        let expected = match &self.expected {
            Expected::Imported(codes, rejects) => Expected::Imported(
                codes.iter().map(|code| code.replace("ZQ", prefix)).collect(),
                rejects.clone(),
            ),
            rejected @ Expected::Rejected(_) => rejected.clone(),
        };
        Self { file: replace(&self.file).into(), expected, ..self.clone() }
    }

    fn limit(mut self, max_codes_per_user: i32) -> Self {
        self.max_codes_per_user = Some(max_codes_per_user);
        self
    }

    fn with(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }
}

/// A file that is imported.
fn taken(
    name: &'static str,
    file: &'static [u8],
    codes: &str,
    rejects: &[(u64, &'static str)],
) -> ImportCase {
    let codes = codes.split_whitespace().map(str::to_owned).collect();
    ImportCase {
        name,
        file: file.into(),
        query: &[],
        max_codes_per_user: None,
        expected: Expected::Imported(codes, rejects.to_vec()),
    }
}

/// A file that is rejected.
fn rejected(name: &'static str, file: &'static [u8], code: &'static str) -> ImportCase {
    ImportCase {
        name,
        file: file.into(),
        query: &[],
        max_codes_per_user: None,
        expected: Expected::Rejected(code),
    }
}
