//! The archives of a chain, as a verification reads them: their records, and the lines of their files.
//!
//! **Invariant I-76.** An event that is not in the log is valid only if the record of an archive has it: under the key of the seals, with a root
//! that an admin event has.
//!
//! Memory is bounded: of each file one piece and one line. The files are read in the order of the log, as the seals are.

use futures::TryStreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sqlx::{PgConnection, query, query_file};

use cuponera_domain::audit::{
    ArchiveRecord, ArchiveRoot, AuditKey, EventBits, FileDigest, Hash, Month, Position, hash_text,
    leaf_of_line, position_of_line,
};

use crate::error::{Error, Result};

/// The content of a file, in pieces.
pub type ArchiveContent = BoxStream<'static, Result<Vec<u8>>>;
/// Opens the file of an archive by its name. `None`: the file store does not have it.
pub type OpenArchive<'a> =
    &'a (dyn Fn(String) -> BoxFuture<'static, Result<Option<ArchiveContent>>> + Send + Sync);

/// Maximum size of a line. The free texts of an event are bounded by the size of a request.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// An archive whose record is as it was made.
pub(super) struct Archive {
    pub(super) month: Month,
    pub(super) file: String,
    /// The position of its last event.
    pub(super) through: Position,
    bytes: i64,
    sha256: Hash,
    lines: Lines,
    /// Whether a line of the file belongs to no event of the record.
    pub(super) has_other_lines: bool,
}

enum Lines {
    NotOpened,
    Absent,
    Open(Box<ArchiveLines>),
}

/// The result of reading the rest of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    /// It was not opened.
    NotRead,
    /// The file store does not have it.
    Absent,
    /// Its length and its hash are those of the record.
    AsRecorded,
    /// They are not, or a line belongs to no event.
    Changed,
}

/// The archives of the chain, and the months whose records are broken.
pub(super) async fn load(
    connection: &mut PgConnection,
    key: Option<&AuditKey>,
) -> Result<(Vec<Archive>, Vec<Month>)> {
    let rows = query_file!("src/sql/audit_archives.sql").fetch_all(&mut *connection).await?;
    let (mut archives, mut broken) = (Vec::new(), Vec::new());
    for row in rows {
        let month = Month::of_day(row.month);
        let (root, events) = root_of(connection, month).await?;
        let hashes = Hash::try_from(row.sha256).ok().zip(Hash::try_from(row.root).ok());
        let Some((sha256, stored_root)) = hashes else {
            broken.push(month);
            continue;
        };
        let record = ArchiveRecord {
            month,
            file: &row.file,
            bytes: row.bytes,
            sha256: &sha256,
            events: row.events,
            root: &root,
        };
        let is_recorded = stored_root == root
            && events == row.events
            && row.recorded_root == Some(hash_text(&root))
            && row.recorded_sha256 == Some(hash_text(&sha256))
            && key.is_none_or(|key| record.sign(key)[..] == row.hmac[..]);
        if is_recorded {
            let (file, bytes) = (row.file, row.bytes);
            let tx = row.through_tx.parse().map_err(Error::internal)?;
            let through = Position { epoch: row.through_epoch, tx, id: row.through_id };
            let lines = Lines::NotOpened;
            archives.push(Archive { month, file, through, bytes, sha256, lines, has_other_lines: false });
        } else {
            broken.push(month);
        }
    }
    Ok((archives, broken))
}

/// The root over the archived events of a month, and their number.
async fn root_of(connection: &mut PgConnection, month: Month) -> Result<(Hash, i64)> {
    let (mut root, mut events) = (ArchiveRoot::default(), 0);
    let mut rows =
        query!("select seal, events from audit_archived where month = $1 order by seal", month.first_day())
            .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let bits = EventBits::from_stored(row.events);
        root.add(row.seal, &bits);
        events += bits.count();
    }
    Ok((root.finish(), events))
}

/// The events of a seal that are archived, by month.
pub(super) async fn of_seal(connection: &mut PgConnection, seal: i64) -> Result<Vec<(Month, EventBits)>> {
    let rows = query!("select month, events from audit_archived where seal = $1 order by month", seal)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (Month::of_day(row.month), EventBits::from_stored(row.events))).collect())
}

impl Archive {
    /// Opens the file, if it is not open, and skips the lines up to a position. False if it is absent.
    pub(super) async fn open(&mut self, open: OpenArchive<'_>, after: Position) -> Result<bool> {
        if matches!(self.lines, Lines::NotOpened) {
            self.lines = match open(self.file.clone()).await? {
                None => Lines::Absent,
                Some(content) => {
                    let mut lines = Box::new(ArchiveLines::new(content));
                    while lines.next_up_to(after).await?.is_some() {}
                    Lines::Open(lines)
                }
            };
        }
        Ok(matches!(self.lines, Lines::Open(_)))
    }

    /// The next line of an event up to a position.
    pub(super) async fn next_up_to(&mut self, through: Position) -> Result<Option<Line>> {
        match &mut self.lines {
            Lines::Open(lines) => lines.next_up_to(through).await,
            Lines::NotOpened | Lines::Absent => Ok(None),
        }
    }

    /// Reads the rest of the file. Length and hash are only those of the whole file if no line was skipped.
    pub(super) async fn finish(&mut self) -> Result<FileState> {
        let lines = match std::mem::replace(&mut self.lines, Lines::NotOpened) {
            Lines::NotOpened => return Ok(FileState::NotRead),
            Lines::Absent => return Ok(FileState::Absent),
            Lines::Open(lines) => lines,
        };
        let is_as_recorded = lines.finish().await? == (self.bytes, self.sha256) && !self.has_other_lines;
        Ok(if is_as_recorded { FileState::AsRecorded } else { FileState::Changed })
    }
}

/// A line of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) position: Position,
    pub(super) leaf: Hash,
}

/// The lines of a file, with one line read ahead.
struct ArchiveLines {
    content: ArchiveContent,
    digest: FileDigest,
    buffer: Vec<u8>,
    /// Where the next line begins in the buffer.
    next: usize,
    ahead: Option<Line>,
    is_over: bool,
}

impl ArchiveLines {
    fn new(content: ArchiveContent) -> Self {
        let digest = FileDigest::default();
        Self { content, digest, buffer: Vec::new(), next: 0, ahead: None, is_over: false }
    }

    /// The next line, if its position is not after this one. Lines without a position are skipped: the hash of the file is another one then.
    async fn next_up_to(&mut self, through: Position) -> Result<Option<Line>> {
        while self.ahead.is_none() && !self.is_over {
            self.ahead = self.read_line().await?;
        }
        Ok(self.ahead.take_if(|line| line.position <= through))
    }

    /// Reads a line. `None` at the end, which `is_over` tells, and for a line without a position.
    async fn read_line(&mut self) -> Result<Option<Line>> {
        let mut searched = self.next;
        loop {
            let end = self.buffer[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| searched + end) {
                let line = &self.buffer[self.next..end];
                let read = position_of_line(line).map(|position| Line { position, leaf: leaf_of_line(line) });
                self.next = end + 1;
                return Ok(read);
            }
            self.buffer.drain(..self.next);
            self.next = 0;
            searched = self.buffer.len();
            if searched > MAX_LINE_BYTES || !self.read_piece().await? {
                self.is_over = true;
                return Ok(None);
            }
        }
    }

    async fn read_piece(&mut self) -> Result<bool> {
        let Some(piece) = self.content.try_next().await? else { return Ok(false) };
        self.digest.add(&piece);
        self.buffer.extend_from_slice(&piece);
        Ok(true)
    }

    /// The length and the hash of the file.
    async fn finish(mut self) -> Result<(i64, Hash)> {
        while self.read_piece().await? {
            self.buffer.clear();
        }
        Ok(self.digest.finish())
    }
}

/// An event of a seal cannot be archived.
pub(super) fn unproved(month: Month, seal: i64) -> Error {
    Error::internal(format!(
        "the events of {month} cannot be archived, because seal {seal} does not prove them: run `cuponera audit verify`"
    ))
}
