//! Pages of lists: at most `limit` items and, if there may be more, the cursor of the next page.
//!
//! If no index serves a filter, a page examines a bounded number of rows. It may then have fewer items than
//! `limit`, or none, although a next page exists. **Invariant.** A client that follows the cursors gets
//! each item once.

/// Maximum number of items in a page. A page is built in memory.
pub const MAX_LIMIT: u32 = 500;
/// The number of items in a page if the request sets no limit.
pub const DEFAULT_LIMIT: u32 = 50;

/// One page of a list ordered by a key.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// The start of the next page; absent only at the end of the list.
    pub next_cursor: Option<String>,
    /// The number of items in the whole list, if counting is cheap.
    pub total: Option<i64>,
}

/// A row of a list whose pages examine a bounded number of rows.
#[derive(Debug, Clone)]
pub enum ExaminedRow<T> {
    /// The row is in the list.
    Found(T),
    /// The last examined row: the bound was reached here.
    Stopped(T),
}

impl<T> Page<T> {
    /// An empty list.
    pub fn empty() -> Self {
        Self { items: Vec::new(), next_cursor: None, total: None }
    }

    /// Builds a page of up to `limit` items from a walk that searched for `limit + 1`. The next page starts
    /// after the last item, or after the row at which the bound was reached.
    pub fn of_examined(rows: Vec<ExaminedRow<T>>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let (mut items, mut stopped_at) = (Vec::with_capacity(rows.len()), None);
        for row in rows {
            match row {
                ExaminedRow::Found(item) => items.push(item),
                ExaminedRow::Stopped(item) => stopped_at = Some(key(&item)),
            }
        }
        let page = Self::cut(items, limit, key);
        Self { next_cursor: page.next_cursor.or(stopped_at), ..page }
    }

    /// Builds a page of up to `limit` items from up to `limit + 1` that were read: an extra item only shows
    /// that the list continues. `key` returns an item's position in the list.
    pub fn cut(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next_cursor = if more { items.last().map(key) } else { None };
        Self { items, next_cursor, total: None }
    }

    /// The same page with each item converted.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            next_cursor: self.next_cursor,
            total: self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: Vec<ExaminedRow<u32>>) -> (Vec<u32>, Option<String>) {
        let page = Page::of_examined(rows, 2, u32::to_string);
        (page.items, page.next_cursor)
    }

    #[test]
    fn the_next_page_starts_after_the_last_item_or_where_the_bound_ended_the_walk() {
        use ExaminedRow::{Found, Stopped};
        assert_eq!(page(vec![]), (vec![], None));
        assert_eq!(page(vec![Found(1), Found(2)]), (vec![1, 2], None));
        assert_eq!(page(vec![Found(1), Found(2), Found(3)]), (vec![1, 2], Some("2".into())));
        assert_eq!(page(vec![Found(1), Found(2), Stopped(9)]), (vec![1, 2], Some("9".into())));
        assert_eq!(page(vec![Found(1), Stopped(1)]), (vec![1], Some("1".into())));
        assert_eq!(page(vec![Stopped(9)]), (vec![], Some("9".into())));
    }
}
