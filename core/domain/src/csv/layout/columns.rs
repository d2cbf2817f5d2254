//! How a file is read: the options of the uploader, the meaning of each column (stored with the job as JSON), and the
//! description for the owner of the job.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::record::Delimiter;
use super::names::fold;
use crate::text;

/// Columns by index, from 0. The default is a file without a header: codes in the first column, others
/// unused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Columns {
    /// The code.
    pub code: usize,
    /// The user to assign it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<usize>,
    /// The columns that become metadata, in the order of the header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataColumn>,
    /// The folded names of the header, up to the last non-empty one; empty without a header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    /// No row at the start of the file had a code, so no later row may create one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub creates_nothing: bool,
    /// The file was detected to have no header, so a row whose code is a column name is the header of a
    /// later section.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_names: bool,
}

/// A column whose cells become a key of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataColumn {
    /// Its index.
    pub index: usize,
    /// The key: the header's cell, trimmed.
    pub name: String,
}

/// How a file was read, for the job's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadAs {
    /// Always `UTF-8`.
    pub encoding: &'static str,
    /// The delimiter of the cells.
    pub delimiter: Delimiter,
    /// Whether a record was read as the header.
    pub header: bool,
    /// The column of codes.
    pub code_column: ColumnLabel,
    /// The column of users.
    pub user_column: Option<ColumnLabel>,
    /// The columns that become metadata.
    pub metadata_columns: Vec<String>,
    /// Physical lines before the header; without a header, before the first record.
    pub skipped_lines: u64,
}

/// A column by its name, or by its number from 1 if it has no name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ColumnLabel {
    /// The header's cell, trimmed.
    Name(String),
    /// From 1.
    Number(usize),
}

/// The uploader's options for reading the file. Absent options are detected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadOptions {
    /// The delimiter of the cells.
    pub delimiter: Option<Delimiter>,
    /// Whether there is a header.
    pub header: Option<bool>,
    /// The column of codes.
    pub code_column: Option<ColumnLabel>,
    /// The column of users.
    pub user_column: Option<ColumnLabel>,
    /// The content of the rows.
    #[serde(skip)]
    pub content: Content,
}

/// The content of the rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// Codes, perhaps with users.
    #[default]
    Codes,
    /// Users. Their column is the column of codes in [`Columns`].
    Users,
    /// Codes with users: a file without a column of users is rejected, and other columns are not used.
    Assignments,
}

impl FromStr for ColumnLabel {
    type Err = &'static str;

    /// Parses a number from 1, or a name.
    fn from_str(label: &str) -> Result<Self, &'static str> {
        match label.trim().parse::<usize>() {
            Ok(0) => Err("must be the name of a column, or its number from 1"),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if fold(label).is_empty() => Err("must be the name of a column, or its number from 1"),
            Err(_) => Ok(Self::Name(text::trim(label).to_owned())),
        }
    }
}

/// How a file is read.
#[derive(Debug)]
pub(in crate::csv) struct Layout {
    pub(in crate::csv) delimiter: Delimiter,
    pub(in crate::csv) columns: Columns,
    pub(in crate::csv) read_as: ReadAs,
    /// The start of the rows, as a byte offset in the examined text.
    pub(in crate::csv) start: usize,
    /// The physical line of that byte.
    pub(in crate::csv) line: u64,
}
