//! The body of a request for an export.

use chrono::{DateTime, Utc};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::csv::Delimiter;
use cuponera_domain::export::{ExportKind, Filter, Format, faults};
use cuponera_domain::id::BookId;
use cuponera_store::NewExport;
use poem_openapi::Object;
use uuid::Uuid;

use super::STATUSES;
use crate::http::body::{Fields, FromFields};

const KINDS: &str = "CODES, ASSIGNMENTS, REDEMPTIONS, EVENTS";

/// What an export contains, and how its file is written.
#[derive(Debug, Object)]
#[oai(rename = "NewExport", rename_all = "camelCase")]
pub(super) struct NewExportBody {
    /// `CODES`, `ASSIGNMENTS`, `REDEMPTIONS` or `EVENTS`.
    kind: String,
    /// Only of this book; of all books if absent.
    coupon_book_id: Option<Uuid>,
    /// Only from this time on: of the creation of a code, of an assignment, of a redemption, of an event.
    from: Option<DateTime<Utc>>,
    /// Only before this time.
    to: Option<DateTime<Utc>>,
    /// For `CODES` and `ASSIGNMENTS`: only with this status.
    status: Option<String>,
    /// Begin with a byte order mark, which some spreadsheets need to recognize UTF-8.
    bom: Option<bool>,
    /// `,` (if absent), `;`, `tab` or `|`.
    delimiter: Option<String>,
    /// Leave text that begins like a formula as it is. A spreadsheet may then run it.
    raw: Option<bool>,
    /// For `CODES` and `ASSIGNMENTS`: a URL with `{code}`, such as `https://shop.example/c/{code}`. Adds a column `link`.
    #[oai(validator(max_length = 1000))]
    link_template: Option<String>,
}

/// A request for an export.
#[derive(Debug)]
pub(super) struct ExportToSubmit(pub(super) NewExport);

impl FromFields for ExportToSubmit {
    fn read(fields: &mut Fields) -> Option<Self> {
        let kind = fields.required::<String>("kind");
        let kind = kind.and_then(|kind| fields.word("kind", &kind, ExportKind::parse, KINDS));
        let book = fields.optional("couponBookId").map(BookId);
        let (from, to) = (fields.optional("from"), fields.optional("to"));
        let status = fields.optional::<String>("status");
        let status = status.and_then(|status| fields.word("status", &status, CouponStatus::parse, STATUSES));
        let bom = fields.optional("bom").unwrap_or(false);
        let delimiter = fields.optional::<String>("delimiter");
        let delimiter = delimiter
            .and_then(|text| fields.word("delimiter", &text, |text| text.parse().ok(), Delimiter::EXPECTED))
            .unwrap_or_default();
        let raw = fields.optional("raw").unwrap_or(false);
        let link_template = fields.optional("linkTemplate");
        let (filter, format) = (Filter { status, from, to }, Format { bom, delimiter, raw, link_template });
        let kind = kind?;
        for fault in faults(kind, &filter, &format) {
            fields.fault(&fault.field, fault.message);
        }
        Some(Self(NewExport { kind, book, filter, format }))
    }
}
