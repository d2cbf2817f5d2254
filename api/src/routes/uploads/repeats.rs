//! Searches an upload for repeated codes, in memory that all uploads of the process share. The parts of a file with users and
//! without repeated codes can be imported in any order.

use std::sync::Arc;

use cuponera_domain::csv::{Columns, Delimiter, Part, Repeats};
use cuponera_store::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// Maximum number of codes in memory, of all uploads: 8 bytes each, and twice that while a set grows.
pub(crate) const MAX_CODES_KEPT: usize = 4 * 1024 * 1024;

/// The search through one upload.
pub(super) struct Search {
    room: Arc<Semaphore>,
    reserved: Vec<OwnedSemaphorePermit>,
    /// None after the memory was exhausted.
    repeats: Option<Repeats>,
}

impl Search {
    pub(super) fn new(room: &Arc<Semaphore>) -> Self {
        Self { room: room.clone(), reserved: Vec::new(), repeats: Some(Repeats::default()) }
    }

    /// Adds the codes of the next part, on a blocking thread. If the memory is exhausted the search ends.
    pub(super) async fn take(&mut self, part: &Part, columns: &Columns, delimiter: Delimiter) -> Result<()> {
        if columns.user_id.is_none() {
            return Ok(());
        }
        let Some(mut repeats) = self.repeats.take() else { return Ok(()) };
        let codes = u32::try_from(part.records).unwrap_or(u32::MAX);
        let Ok(reserved) = self.room.clone().try_acquire_many_owned(codes) else {
            self.reserved.clear();
            return Ok(());
        };
        self.reserved.push(reserved);
        let (bytes, columns) = (part.bytes.clone(), columns.clone());
        let taken = spawn_blocking(move || {
            repeats.take(std::str::from_utf8(&bytes).map_err(Error::internal)?, &columns, delimiter);
            Ok::<_, Error>(repeats)
        });
        self.repeats = Some(taken.await.map_err(Error::internal)??);
        Ok(())
    }

    /// Whether a code may occur on two lines. True if the search ended early.
    pub(super) async fn may_repeat_codes(&mut self) -> Result<bool> {
        let Some(repeats) = self.repeats.take() else { return Ok(true) };
        let is_any = spawn_blocking(move || repeats.is_any()).await.map_err(Error::internal)?;
        self.reserved.clear();
        Ok(is_any)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    async fn take(search: &mut Search, rows: &'static str) {
        let records = rows.lines().count() as u64;
        let part = Part { bytes: Bytes::from(rows), first_line: 1, records, lines: records };
        let columns = Columns { user_id: Some(1), ..Columns::default() };
        search.take(&part, &columns, Delimiter::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_too_large_to_search_may_repeat_codes_and_frees_its_memory() {
        let room = Arc::new(Semaphore::new(3));
        let (mut large, mut small) = (Search::new(&room), Search::new(&room));
        take(&mut large, "AAA,1\nBBB,2\n").await;
        take(&mut large, "CCC,1\nDDD,2\n").await;
        assert_eq!(room.available_permits(), 3);
        take(&mut small, "AAA,1\nBBB,2\nCCC,3\n").await;
        assert_eq!(room.available_permits(), 0);
        assert!(large.may_repeat_codes().await.unwrap());
        assert!(!small.may_repeat_codes().await.unwrap());
        assert_eq!(room.available_permits(), 3);
    }

    #[tokio::test]
    async fn a_repeated_code_is_found_in_another_part() {
        let mut search = Search::new(&Arc::new(Semaphore::new(MAX_CODES_KEPT)));
        take(&mut search, "AAA,1\nBBB,2\n").await;
        take(&mut search, "CCC,1\naaa,2\n").await;
        assert!(search.may_repeat_codes().await.unwrap());
    }
}
