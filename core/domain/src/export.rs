//! Exports: the kinds, their columns, and the cells of a row as CSV (RFC 4180, UTF-8, CRLF).
//!
//! **Invariant.** A text cell that a spreadsheet would treat as a formula gets an apostrophe, which an import removes. Numbers, ids and
//! times are never changed.

use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::coupon::redemption::Redemption;
use crate::coupon::state::{Coupon, CouponEvent, CouponStatus};
use crate::csv::{Delimiter, begins_formula};
use crate::id::BookId;
use crate::rejection::FieldError;

/// How many days the file of an export is kept.
pub const FILE_DAYS: u32 = 7;
/// What a link template must contain; each code takes its place.
pub const CODE_PLACE: &str = "{code}";
/// Maximum length of a link template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1_000;

/// What an export contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExportKind {
    /// Codes with their state.
    Codes,
    /// Codes that are assigned now, as assignments.
    Assignments,
    /// Uses of codes.
    Redemptions,
    /// What happened to codes.
    Events,
}

/// Which rows an export contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Only with this effective status.
    #[serde(default)]
    pub status: Option<CouponStatus>,
    /// Only from this time on: of the creation of a code, of an assignment, of a redemption, of an event.
    #[serde(default)]
    pub from: Option<DateTime<Utc>>,
    /// Only before this time.
    #[serde(default)]
    pub to: Option<DateTime<Utc>>,
}

/// How the file is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Format {
    /// Whether the file begins with a byte order mark.
    #[serde(default)]
    pub bom: bool,
    /// The character between the cells.
    #[serde(default)]
    pub delimiter: Delimiter,
    /// Whether text that begins like a formula stays as it is.
    #[serde(default)]
    pub raw: bool,
    /// The link of each code, with [`CODE_PLACE`].
    #[serde(default)]
    pub link_template: Option<String>,
}

impl ExportKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Codes, Self::Assignments, Self::Redemptions, Self::Events];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Codes => "CODES",
            Self::Assignments => "ASSIGNMENTS",
            Self::Redemptions => "REDEMPTIONS",
            Self::Events => "EVENTS",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The columns, in the order of the cells, without that of the link.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Codes => &[
                "code",
                "status",
                "userId",
                "redeemCount",
                "assignedAt",
                "lockedUntil",
                "redeemedAt",
                "expiresAt",
                "createdAt",
                "metadata",
                "maxRedemptions",
                "maxRedeemsPerUser",
                "startsAt",
            ],
            Self::Assignments => &["id", "code", "couponBookId", "userId", "status", "assignedAt"],
            Self::Redemptions => &[
                "id",
                "code",
                "couponBookId",
                "userId",
                "useNumber",
                "reference",
                "redeemedAt",
                "rolledBackAt",
            ],
            Self::Events => &[
                "id",
                "code",
                "couponBookId",
                "action",
                "fromStatus",
                "toStatus",
                "userId",
                "actor",
                "at",
                "ip",
                "userAgent",
                "requestId",
                "reason",
                "redeemCount",
            ],
        }
    }

    /// Whether the rows are the state of codes, as opposed to an append-only log.
    pub fn is_of_codes(self) -> bool {
        matches!(self, Self::Codes | Self::Assignments)
    }
}

impl Filter {
    /// Whether a code is in an export of this kind.
    pub fn has_coupon(&self, kind: ExportKind, coupon: &Coupon) -> bool {
        let at = match kind {
            ExportKind::Assignments if coupon.holder.is_none() => return false,
            ExportKind::Assignments => coupon.assigned_at,
            ExportKind::Codes | ExportKind::Redemptions | ExportKind::Events => Some(coupon.created_at),
        };
        self.status.is_none_or(|status| coupon.status == status)
            && self.from.is_none_or(|from| at.is_some_and(|at| at >= from))
            && self.to.is_none_or(|to| at.is_some_and(|at| at < to))
    }

    /// Whether it excludes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The faults of a request for an export, by field.
pub fn faults(kind: ExportKind, filter: &Filter, format: &Format) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if filter.status.is_some() && !kind.is_of_codes() {
        let message = format!("is for exports of CODES or ASSIGNMENTS, not of {}", kind.as_str());
        faults.push(FieldError::new("status", message));
    }
    if kind == ExportKind::Assignments && filter.status == Some(CouponStatus::Available) {
        faults.push(FieldError::new("status", "AVAILABLE codes have no assignment"));
    }
    if let (Some(from), Some(to)) = (filter.from, filter.to)
        && from >= to
    {
        faults.push(FieldError::new("to", "must be after `from`"));
    }
    if let Some(template) = &format.link_template {
        if !kind.is_of_codes() {
            let message = format!("is for exports of CODES or ASSIGNMENTS, not of {}", kind.as_str());
            faults.push(FieldError::new("linkTemplate", message));
        } else if !is_template(template) {
            let message =
                format!("must be a URL with {CODE_PLACE}, such as https://shop.example/c/{CODE_PLACE}");
            faults.push(FieldError::new("linkTemplate", message));
        }
    }
    faults
}

fn is_template(template: &str) -> bool {
    let is_url = template.starts_with("https://") || template.starts_with("http://");
    let is_plain = !template.contains(|char: char| char.is_whitespace() || char.is_control());
    is_url && is_plain && template.len() <= MAX_TEMPLATE_BYTES && template.contains(CODE_PLACE)
}

/// The link of a code.
pub fn link(template: &str, code: &str) -> String {
    let mut encoded = String::with_capacity(code.len());
    for byte in code.bytes() {
        // The unreserved characters of RFC 3986.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            for digit in [byte >> 4, byte & 15] {
                encoded.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
            }
            encoded.insert(encoded.len() - 2, '%');
        }
    }
    template.replace(CODE_PLACE, &encoded)
}

/// The rows of a file as CSV.
#[derive(Debug)]
pub struct CsvRows {
    kind: ExportKind,
    format: Format,
    bytes: Vec<u8>,
    is_in_row: bool,
}

impl CsvRows {
    /// No rows yet.
    pub fn new(kind: ExportKind, format: Format) -> Self {
        Self { kind, format, bytes: Vec::new(), is_in_row: false }
    }

    /// The byte order mark, if there is one, and the header. They begin the file.
    pub fn header(&mut self) {
        if self.format.bom {
            self.bytes.extend_from_slice("\u{feff}".as_bytes());
        }
        for column in self.kind.columns() {
            self.plain(column);
        }
        if self.format.link_template.is_some() {
            self.plain("link");
        }
        self.end();
    }

    /// The row of a code or of its assignment.
    pub fn coupon(&mut self, coupon: &Coupon) {
        if self.kind == ExportKind::Assignments {
            self.display(coupon.assignment);
            self.text(Some(&coupon.code));
            self.display(Some(coupon.book));
            self.text(coupon.holder.as_deref());
            self.plain(coupon.status.as_str());
            self.time(coupon.assigned_at);
        } else {
            self.text(Some(&coupon.code));
            self.plain(coupon.status.as_str());
            self.text(coupon.holder.as_deref());
            self.display(Some(coupon.redeem_count));
            for at in [coupon.assigned_at, coupon.locked_until, coupon.redeemed_at, coupon.expires_at] {
                self.time(at);
            }
            self.time(Some(coupon.created_at));
            self.text(coupon.metadata.as_ref().map(ToString::to_string).as_deref());
            let shared = coupon.shared.as_ref();
            self.display(shared.and_then(|shared| shared.max_redemptions));
            self.display(shared.map(|shared| shared.max_redeems_per_user));
            self.time(shared.and_then(|shared| shared.starts_at));
        }
        if let Some(link) = self.format.link_template.as_deref().map(|template| link(template, &coupon.code))
        {
            self.text(Some(&link));
        }
        self.end();
    }

    /// The row of a redemption.
    pub fn redemption(&mut self, redemption: &Redemption) {
        self.display(Some(redemption.id));
        self.text(Some(&redemption.code));
        self.display(Some(redemption.book));
        self.text(Some(&redemption.user));
        self.display(Some(redemption.use_number));
        self.text(redemption.reference.as_deref());
        self.time(Some(redemption.redeemed_at));
        self.time(redemption.rolled_back_at);
        self.end();
    }

    /// The row of an event of a code.
    pub fn event(&mut self, code: &str, book: BookId, event: &CouponEvent) {
        self.display(Some(event.id));
        self.text(Some(code));
        self.display(Some(book));
        self.plain(&event.action);
        self.plain(event.from_status.as_str());
        self.plain(event.to_status.as_str());
        self.text(event.user.as_deref());
        self.text(Some(&event.actor));
        self.time(Some(event.at));
        for text in [&event.ip, &event.user_agent, &event.request_id, &event.reason] {
            self.text(text.as_deref());
        }
        self.display(event.redeem_count);
        self.end();
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A cell with text of users.
    fn text(&mut self, text: Option<&str>) {
        let text = text.unwrap_or_default();
        let escape = !self.format.raw && begins_formula(text);
        self.cell(if escape { "'" } else { "" }, text);
    }

    /// A cell whose text is a name, a number, an id or a time.
    fn plain(&mut self, text: &str) {
        self.cell("", text);
    }

    fn display(&mut self, value: Option<impl std::fmt::Display>) {
        self.begin_cell();
        if let Some(value) = value {
            write!(self.bytes, "{value}").expect("memory takes any text");
        }
    }

    fn time(&mut self, at: Option<DateTime<Utc>>) {
        self.display(at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
    }

    fn begin_cell(&mut self) {
        if self.is_in_row {
            self.bytes.push(self.format.delimiter.byte());
        }
        self.is_in_row = true;
    }

    fn cell(&mut self, prefix: &str, text: &str) {
        self.begin_cell();
        let delimiter = self.format.delimiter.byte();
        let needs_quotes = |byte| byte == delimiter || matches!(byte, b'"' | b'\r' | b'\n');
        if !text.bytes().any(needs_quotes) {
            self.bytes.extend_from_slice(prefix.as_bytes());
            self.bytes.extend_from_slice(text.as_bytes());
            return;
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(prefix.as_bytes());
        for byte in text.bytes() {
            if byte == b'"' {
                self.bytes.push(b'"');
            }
            self.bytes.push(byte);
        }
        self.bytes.push(b'"');
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
        self.is_in_row = false;
    }
}

#[cfg(test)]
mod tests;
