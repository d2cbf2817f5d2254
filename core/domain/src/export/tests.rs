use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::book::CodeKind;
use crate::id::{AssignmentId, RedemptionId};
use ExportKind::{Assignments, Codes, Events, Redemptions};

fn coupon(code: &str, user: &str) -> Coupon {
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    Coupon {
        code: code.into(),
        book: BookId(Uuid::nil()),
        kind: CodeKind::Unique,
        status: CouponStatus::Assigned,
        holder: Some(user.into()),
        assignment: Some(AssignmentId(Uuid::nil())),
        redeem_count: 0,
        max_redeems: 1,
        assigned_at: Some(at("2026-01-02T03:04:05Z")),
        locked_at: None,
        locked_until: None,
        redeemed_at: None,
        expires_at: None,
        metadata: None,
        created_at: at("2026-01-01T00:00:00.5Z"),
        suspended_at: None,
        shared: None,
    }
}

fn text_of(format: Format, coupon: &Coupon) -> String {
    let mut rows = CsvRows::new(Codes, format);
    rows.coupon(coupon);
    String::from_utf8(rows.into_bytes()).unwrap()
}

/// Invariant I-59.
#[test]
fn text_that_begins_like_a_formula_is_escaped_and_numbers_are_not() {
    for begin in ["=", "+", "-", "@", "\t", "\r"] {
        let user = format!("{begin}34");
        let line = text_of(Format::default(), &coupon("-ABC", &user));
        assert!(line.starts_with("'-ABC,ASSIGNED,"), "{line}");
        assert!(line.contains(&format!("'{user}")), "{line}");
        let raw = text_of(Format { raw: true, ..Format::default() }, &coupon("-ABC", &user));
        assert!(raw.starts_with("-ABC,ASSIGNED,") && !raw.contains('\''), "{raw}");
    }
    let redemption = Redemption {
        id: RedemptionId(Uuid::nil()),
        code: "A-1".into(),
        book: BookId(Uuid::nil()),
        user: "ana".into(),
        use_number: -1,
        reference: Some("=1+1".into()),
        metadata: None,
        redeemed_at: coupon("A", "a").created_at,
        rolled_back_at: None,
    };
    let mut rows = CsvRows::new(Redemptions, Format::default());
    rows.redemption(&redemption);
    let line = String::from_utf8(rows.into_bytes()).unwrap();
    assert!(line.contains(",ana,-1,'=1+1,2026-01-01T00:00:00.500Z,\r\n"), "{line}");
}

#[test]
fn every_row_has_the_cells_of_the_header_with_each_delimiter() {
    let mut odd = coupon("CODE", "a,b;c|d\te\"f\"");
    odd.metadata = Some(json!({"note": "a,b;c|d\t\"e\"\nf"}));
    for delimiter in Delimiter::ALL {
        let template = Some("https://shop.example/c/{code}?x=1,2;3|4".to_owned());
        let format = Format { bom: true, delimiter, raw: false, link_template: template };
        let mut rows = CsvRows::new(Codes, format);
        rows.header();
        rows.coupon(&odd);
        let bytes = rows.into_bytes();
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap();
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter.byte()).from_reader(text);
        assert_eq!(reader.headers().unwrap().len(), 14);
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(row.get(2), odd.holder.as_deref());
        assert_eq!(row.get(9).unwrap(), odd.metadata.as_ref().unwrap().to_string());
        assert_eq!(row.get(13), Some("https://shop.example/c/CODE?x=1,2;3|4"));
    }
}

#[test]
fn a_link_has_the_code_percent_encoded() {
    assert_eq!(link("https://x/{code}/{code}", "A-1_b"), "https://x/A-1_b/A-1_b");
    assert_eq!(link("https://x/{code}", "a/ñ?"), "https://x/a%2F%C3%B1%3F");
}

#[test]
fn a_request_that_makes_no_sense_has_faults() {
    let now = coupon("A", "a").created_at;
    let status = |status| Filter { status: Some(status), ..Filter::default() };
    let link = |template: &str| Format { link_template: Some(template.into()), ..Format::default() };
    let fields = |kind, filter: Filter, format: Format| {
        faults(kind, &filter, &format).into_iter().map(|fault| fault.field).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(fields(Codes, status(CouponStatus::Available), link("https://x/{code}")), none);
    assert_eq!(fields(Assignments, status(CouponStatus::Available), Format::default()), ["status"]);
    assert_eq!(
        fields(Events, status(CouponStatus::Void), link("https://x/{code}")),
        ["status", "linkTemplate"]
    );
    assert_eq!(fields(Redemptions, status(CouponStatus::Void), Format::default()), ["status"]);
    for template in ["", "x/{code}", "https://x/", "https://x/ {code}", "javascript:{code}"] {
        assert_eq!(fields(Codes, Filter::default(), link(template)), ["linkTemplate"], "{template}");
    }
    let period = Filter { from: Some(now), to: Some(now), ..Filter::default() };
    assert_eq!(fields(Events, period, Format::default()), ["to"]);
}
