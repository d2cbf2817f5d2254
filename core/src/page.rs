//! Lists come in pages: at most `limit` items and, if there are more, the cursor of the next page.

/// The most items a page may have: a page is held in memory whole.
pub const MAX_LIMIT: u32 = 500;
/// How many items a page has if nobody says.
pub const DEFAULT_LIMIT: u32 = 50;

/// One page of a list ordered by a key.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last one.
    pub next_cursor: Option<String>,
    /// How many items the whole list has, where counting is cheap.
    pub total: Option<i64>,
}

impl<T> Page<T> {
    /// Makes a page of up to `limit` items out of the `limit + 1` that were read: the extra one only says that the
    /// list goes on. `key` names an item's place in the list.
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
