//! The layout of a file that assigns codes to users: that of a file of codes, with a column of users.

use super::ReadOptions;
use super::columns::{ColumnLabel, Layout};
use super::sample::Sample;
use crate::csv::CutError;

/// Completes the layout of a file of codes. Without a header, a file with two columns has the users in the other column. Otherwise a file
/// without a known column of users is rejected. Columns that would become metadata are not used.
pub(super) fn with_users(
    mut layout: Layout,
    samples: &[Sample],
    options: &ReadOptions,
) -> Result<Layout, CutError> {
    layout.columns.metadata.clear();
    layout.read_as.metadata_columns.clear();
    if layout.columns.user_id.is_some() {
        return Ok(layout);
    }
    let sample = samples.iter().find(|sample| sample.delimiter == layout.delimiter);
    let records = sample.map_or(&[][..], |sample| &sample.records);
    let Some(first) = records.first() else { return Ok(layout) };
    let has_two_columns = records.iter().all(|record| record.cells.len() == 2 || record.is_comment());
    if layout.read_as.header || !has_two_columns || layout.columns.code > 1 || options.user_column.is_some() {
        return Err(first.unclear("the file has no known column of users: name it with userColumn"));
    }
    let user = 1 - layout.columns.code;
    layout.columns.user_id = Some(user);
    layout.read_as.user_column = Some(ColumnLabel::Number(user + 1));
    Ok(layout)
}
