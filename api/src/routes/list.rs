//! Pages of lists: the parameters `limit` and `cursor`, and the response.

use cuponera_domain::page::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use cuponera_domain::rejection::Rejection;
use cuponera_store::Result;
use poem_openapi::Object;
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};

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
