//! What each column of an upload holds; stored with the job as JSON.

use serde::{Deserialize, Serialize};

/// Columns by their index, from 0. The default is that of a file without a header: codes first, the rest unused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Columns {
    /// The code.
    pub code: usize,
    /// The user to assign it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<usize>,
    /// What becomes metadata, in the order of the header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataColumn>,
    /// The names of the header as they are compared, up to the last that is not empty; none without a header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    /// Nothing at the start of the file was a code, so no later row may become one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub creates_nothing: bool,
    /// The file was found to have no header, so a row whose code is the name of a column is a header of a later part of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_names: bool,
}

/// A column whose cells become one key of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataColumn {
    /// Where it stands.
    pub index: usize,
    /// The key: the header's cell as written, trimmed.
    pub name: String,
}

/// How a file was read, as its job reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadAs {
    /// Always `UTF-8`.
    pub encoding: &'static str,
    /// What separates the cells.
    pub delimiter: super::Delimiter,
    /// Whether a record was read as the header.
    pub header: bool,
    /// The column of codes.
    pub code_column: ColumnLabel,
    /// The column of users.
    pub user_column: Option<ColumnLabel>,
    /// The columns that become metadata.
    pub metadata_columns: Vec<String>,
    /// Physical lines before the header, or before the first record of a file without one.
    pub skipped_lines: u64,
}

/// A column by its name, or by its number from 1 where it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ColumnLabel {
    /// As the header writes it, trimmed.
    Name(String),
    /// From 1.
    Number(usize),
}

/// How the uploader wants the file to be read. What is absent is detected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadOptions {
    /// What separates the cells.
    pub delimiter: Option<super::Delimiter>,
    /// Whether there is a header.
    pub header: Option<bool>,
    /// The column of codes.
    pub code_column: Option<ColumnLabel>,
    /// The column of users.
    pub user_column: Option<ColumnLabel>,
}

impl std::str::FromStr for ColumnLabel {
    type Err = &'static str;

    /// Reads a number from 1, or a name.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.trim().parse::<usize>() {
            Ok(0) => Err("must be the name of a column, or its number from 1"),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if super::names::fold(text).is_empty() => {
                Err("must be the name of a column, or its number from 1")
            }
            Err(_) => Ok(Self::Name(crate::text::trim(text).to_owned())),
        }
    }
}
