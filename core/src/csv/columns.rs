//! What each column of an upload holds, as its header says; stored with the job as JSON.

use std::collections::HashSet;

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

impl Columns {
    /// Reads the first record as a header, which it is only if one of its cells says `code`.
    ///
    /// `code` and `userId` (or `user_id`) are known in any case of letters. Of columns with one name the first is
    /// used; those without a name are not.
    pub fn from_header<'a>(cells: impl Iterator<Item = &'a str>) -> Option<Self> {
        let (mut code, mut user_id, mut metadata) = (None, None, Vec::new());
        let mut seen = HashSet::new();
        for (index, cell) in cells.enumerate() {
            let name = cell.trim();
            if name.eq_ignore_ascii_case("code") {
                code = code.or(Some(index));
            } else if name.eq_ignore_ascii_case("userId") || name.eq_ignore_ascii_case("user_id") {
                user_id = user_id.or(Some(index));
            } else if !name.is_empty() && seen.insert(name) {
                metadata.push(MetadataColumn { index, name: name.to_owned() });
            }
        }
        code.map(|code| Self { code, user_id, metadata })
    }
}
