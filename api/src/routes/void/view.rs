//! The preview of a bulk void in responses.

use cuponera_store::VoidPreview;
use poem_openapi::Object;

use crate::routes::books::CountsView;

/// The codes that a void is about.
#[derive(Debug, Object)]
#[oai(rename = "VoidPreview", rename_all = "camelCase")]
pub(crate) struct VoidPreviewView {
    /// How many codes would be voided: those that are neither redeemed nor void.
    void_count: i64,
    /// The codes by status.
    counts: CountsView,
    /// Codes of the list that do not exist.
    not_found_count: i64,
}

impl From<VoidPreview> for VoidPreviewView {
    fn from(preview: VoidPreview) -> Self {
        let counts = preview.counts;
        Self {
            void_count: counts.available + counts.assigned + counts.locked,
            counts: counts.into(),
            not_found_count: preview.not_found,
        }
    }
}
