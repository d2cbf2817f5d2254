//! Pages of lists: the parameters `limit` and `cursor`, ranges of times, and the response.

use chrono::{DateTime, Utc};
use cuponera_domain::page::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::time_range::TimeRange;
use cuponera_platform::credential::CursorSeal;
use cuponera_store::Result;
use poem_openapi::Object;
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};

use crate::auth::caller::Caller;
use crate::http::time::is_storable;

/// One page of a list.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(crate) struct List<T: Type + ToJSON + ParseFromJSON> {
    /// The items.
    data: Vec<T>,
    /// Send it as `cursor` to get the next page. Null only at the end of the list.
    next_cursor: Option<String>,
    /// The number of items on all pages. Absent where it is expensive to count.
    #[oai(skip_serializing_if_is_none)]
    total: Option<i64>,
}

impl<T: Type + ToJSON + ParseFromJSON> List<T> {
    /// A page as a list.
    pub(crate) fn of<I>(page: Page<I>, view: impl FnMut(I) -> T) -> Self {
        let page = page.map(view);
        Self { data: page.items, next_cursor: page.next_cursor, total: page.total }
    }
}

/// The number of items of a page.
pub(super) fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(_) => Err(Rejection::invalid("limit", "must be from 1 to 500").into()),
    }
}

/// Parses the cursor of an earlier page.
pub(super) fn cursor<T>(text: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    match text {
        None => Ok(None),
        Some(text) => match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Rejection::invalid("cursor", "must be the nextCursor of an earlier page").into()),
        },
    }
}

/// Parses the cursor of a list that [`sealed`] may have sealed.
pub(super) fn sealed_cursor<T>(
    caller: &Caller,
    text: Option<String>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let seal = caller.app.tokens.cursors();
    cursor(text, |text| {
        if CursorSeal::is_sealed(text) { parse(&seal.open(caller.business(), text)?) } else { parse(text) }
    })
}

/// Seals the cursor of a list that examines coupons of all books, if the caller may not access all of them: the cursor may name a
/// coupon of another book.
pub(super) fn sealed<T>(caller: &Caller, mut page: Page<T>) -> Result<Page<T>> {
    if caller.books().is_some()
        && let Some(cursor) = page.next_cursor.take()
    {
        page.next_cursor = Some(caller.app.tokens.cursors().seal(caller.business(), &cursor)?);
    }
    Ok(page)
}

/// The range from one parameter to another. A range that ends before it begins is rejected.
pub(super) fn time_range(
    from: (&str, Option<DateTime<Utc>>),
    to: (&str, Option<DateTime<Utc>>),
) -> Result<TimeRange> {
    let range = TimeRange { from: time(from.0, from.1)?, to: time(to.0, to.1)? };
    if range.is_reversed() {
        return Err(Rejection::invalid(to.0, format!("must not be before `{}`", from.0)).into());
    }
    Ok(range)
}

/// Rejects a time that cannot be stored.
pub(super) fn time(name: &str, time: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>> {
    match time {
        Some(time) if !is_storable(time) => {
            Err(Rejection::invalid(name, "must be a time as in RFC 3339, in the years 0 to 9999").into())
        }
        time => Ok(time),
    }
}

/// Parses the first part of a cursor, `microseconds.rest`. Returns the time and the rest.
pub(super) fn time_and_rest(text: &str) -> Option<(DateTime<Utc>, &str)> {
    let (micros, rest) = text.split_once('.')?;
    let at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
    is_storable(at).then_some((at, rest))
}
