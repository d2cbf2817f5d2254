//! Verifies the chain: recomputes leaves, roots, hashes and HMACs, and compares the seals with an anchor.
//!
//! **Invariant I-69.** Each sealed leaf is matched by exactly one event, and each event of a sealed range by exactly one leaf.
//!
//! Memory is bounded: a few seals, one event and one line of each archive at a time. Only an erasure and an archive change sealed ranges, and
//! they wait for a verification, so no snapshot is held; the worker may seal meanwhile.

use std::io;

use futures::TryStreamExt;
use sqlx::{PgConnection, query, query_file, query_scalar};

use cuponera_domain::audit::{
    AuditKey, Comparison, EventBits, FORM, Finding, HASH_BYTES, Hash, Log, Position, Salt, Seal, SealFault,
    SealedPage, root_of, sealed_number,
};
use cuponera_domain::id::BookId;
use uuid::Uuid;

use super::archive::is_lock_timeout;
use super::archived::{self, Archive, FileState, OpenArchive};
use super::events::{self, Event};
use super::{ERASURE_LOCK, StoredSeal, connect_to_read, end_of_log, erasure, release_lock, stored_seal};
use crate::Store;
use crate::error::{Error, Result};

/// Maximum number of findings that a verification returns; all are counted.
pub const MAX_FINDINGS: usize = 1_000;
/// Number of seals read at once: 4 MB with their leaves.
const PAGE: i64 = 32;

/// The lines of an export, in their order.
pub type AnchorLines<'a> = &'a mut (dyn Iterator<Item = io::Result<String>> + Send);

/// What is verified.
#[derive(Default)]
pub struct VerifyOptions<'a> {
    /// The key. Without it, HMACs are not checked.
    pub key: Option<&'a AuditKey>,
    /// The first seal. The seals before it are taken as they are.
    pub from: Option<i64>,
    /// Compare the leaves of coupon events of this book only. The existence of all coupon events is still checked.
    pub book: Option<BookId>,
    /// An export to compare the seals with.
    pub anchor: Option<AnchorLines<'a>>,
    /// Opens the files of archives. Without it, only the records of archives are verified.
    pub open_archive: Option<OpenArchive<'a>>,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Number of seals verified.
    pub seals: i64,
    /// The number of the last seal.
    pub last_seal: i64,
    /// Number of sealed events that were compared.
    pub events: i64,
    /// Number of sealed events that are archived.
    pub archived: i64,
    /// Number of events after the last seals.
    pub unsealed: i64,
    /// The findings, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Number of findings.
    pub found: i64,
}

impl Store {
    /// Verifies the chain, without a timeout.
    pub async fn verify_audit(&self, options: VerifyOptions<'_>) -> Result<Verification> {
        self.must_have_event_index().await?;
        let mut connection = connect_to_read(&self.pool).await?;
        // Waits until the lock timeout of the connection, 20 seconds.
        query!("select pg_advisory_lock_shared($1) as _held", ERASURE_LOCK)
            .fetch_one(&mut connection)
            .await
            .map_err(|error| {
                if is_lock_timeout(&error) {
                    Error::unavailable(
                        "an erasure or an archive is running: verify the chain when it has ended",
                    )
                } else {
                    error.into()
                }
            })?;
        let verified = verify_chain(&mut connection, options).await;
        let released = release_lock(connection).await;
        verified.and_then(|verified| released.map(|()| verified))
    }
}

/// The same, on a connection of the caller's.
pub async fn verify_chain(connection: &mut PgConnection, options: VerifyOptions<'_>) -> Result<Verification> {
    let mut verifier = Verifier::start(connection, options).await?;
    loop {
        let first = verifier.next;
        let rows = query_file!("src/sql/audit_seals_with_leaves.sql", first, PAGE)
            .fetch_all(&mut *verifier.connection)
            .await?;
        if rows.is_empty() {
            return verifier.finish().await;
        }
        for row in rows {
            let number = row.number;
            let (ids, leaves, salts) = (row.ids, row.leaves, row.salts.unwrap_or_default());
            verifier.skip_to(number);
            let Some(stored) = stored_seal!(row) else {
                verifier.find(Finding::SealBroken { seal: number, fault: SealFault::Form });
                verifier.compare_anchor(number, None)?;
                verifier.previous = None;
                continue;
            };
            verifier.check_seal(&stored, &leaves)?;
            verifier.check_events(&stored.seal, SealedPage::new(&ids, &leaves, &salts)).await?;
        }
    }
}

struct Verifier<'c, 'a> {
    connection: &'c mut PgConnection,
    key: Option<&'a AuditKey>,
    book: Option<BookId>,
    anchor: Option<Anchor<'a>>,
    open_archive: Option<OpenArchive<'a>>,
    archives: Vec<Archive>,
    /// The first seal that is verified.
    first: i64,
    /// The expected number of the next seal.
    next: i64,
    /// The hash of the previous seal; `None` if that is missing or cannot be read.
    previous: Option<Hash>,
    /// Where the seals of each log end, in the order of [`Log::ALL`].
    ends: [Position; 2],
    /// Whether versions of coupons may be missing or repeated.
    may_lack_versions: bool,
    result: Verification,
}

impl<'c, 'a> Verifier<'c, 'a> {
    async fn start(connection: &'c mut PgConnection, options: VerifyOptions<'a>) -> Result<Self> {
        let first = options.from.unwrap_or(1).max(1);
        let mut ends = [Position::default(); 2];
        for (log, end) in Log::ALL.into_iter().zip(&mut ends) {
            *end = end_of_log(&mut *connection, log, first).await?.unwrap_or_default();
        }
        let mut verifier = Self {
            connection,
            key: options.key,
            book: options.book,
            anchor: None,
            open_archive: options.open_archive,
            archives: Vec::new(),
            first,
            next: first,
            previous: (first == 1).then_some([0; HASH_BYTES]),
            ends,
            may_lack_versions: false,
            result: Verification { last_seal: first - 1, ..Verification::default() },
        };
        if first > 1 {
            verifier.previous = verifier.hash_of(first - 1).await?;
        }
        let (archives, broken) = archived::load(verifier.connection, verifier.key).await?;
        verifier.archives = archives;
        for month in broken {
            verifier.find(Finding::ArchiveBroken { month: month.to_string() });
        }
        if let Some(lines) = options.anchor {
            verifier.anchor = Some(Anchor::start(lines, first)?);
        }
        Ok(verifier)
    }

    /// The hash of a seal. `None` if it is missing.
    async fn hash_of(&mut self, number: i64) -> Result<Option<Hash>> {
        let row =
            query_file!("src/sql/audit_seals.sql", number, 1).fetch_optional(&mut *self.connection).await?;
        let Some(row) = row.filter(|row| row.number == number) else {
            self.find(Finding::SealsMissing { first: number, last: number });
            return Ok(None);
        };
        let stored: Option<StoredSeal> = stored_seal!(row);
        Ok(stored.map(|stored| stored.seal.hash()))
    }

    fn find(&mut self, finding: Finding) {
        self.result.found += 1;
        if self.result.findings.len() < MAX_FINDINGS {
            self.result.findings.push(finding);
        }
    }

    /// Reports the seals before this one that are missing.
    fn skip_to(&mut self, number: i64) {
        if number > self.next {
            self.find(Finding::SealsMissing { first: self.next, last: number - 1 });
            self.previous = None;
        }
        self.next = number + 1;
        self.result.seals += 1;
        self.result.last_seal = number;
    }

    fn check_seal(&mut self, StoredSeal { seal, hmac }: &StoredSeal, leaves: &[u8]) -> Result<()> {
        let number = seal.number;
        let end = &mut self.ends[usize::from(seal.log == Log::Admin)];
        let follows = seal.from == *end && seal.through > seal.from;
        *end = seal.through.max(*end);
        let faults = [
            (seal.form != FORM, SealFault::Form),
            (self.previous.is_some_and(|previous| previous != seal.previous), SealFault::Previous),
            (!follows, SealFault::Range),
            (root_of(leaves) != seal.root, SealFault::Root),
            (self.key.is_some_and(|key| key.fingerprint() != seal.key), SealFault::Key),
            (
                self.key.is_some_and(|key| key.fingerprint() == seal.key && seal.sign(key)[..] != hmac[..]),
                SealFault::Hmac,
            ),
        ];
        for (_, fault) in faults.into_iter().filter(|(is_found, _)| *is_found) {
            self.find(Finding::SealBroken { seal: number, fault });
        }
        self.previous = Some(seal.hash());
        self.compare_anchor(number, Some(&seal.exported(hmac)))
    }

    async fn check_events(&mut self, seal: &Seal, page: Option<SealedPage>) -> Result<()> {
        let Some(mut page) = page.filter(|page| page.len() == usize::try_from(seal.count).unwrap_or(0))
        else {
            self.find(Finding::SealBroken { seal: seal.number, fault: SealFault::Count });
            return Ok(());
        };
        if seal.form != FORM || self.book.is_some() && seal.log == Log::Admin {
            return Ok(());
        }
        self.add_erasures(seal, &mut page).await?;
        let in_archives = self.add_archived(seal, &mut page).await?;
        let mut found = Vec::new();
        let mut events = events::events(self.connection, seal.log, seal.from, seal.through);
        while let Some(event) = events.try_next().await? {
            let is_wanted = self.book.is_none() || event.book() == self.book;
            let leaf_of = is_wanted.then_some(|salt: &Salt| event.leaf(salt));
            self.result.events += i64::from(is_wanted);
            let comparison = page.compare(event.id(), leaf_of);
            if comparison != Comparison::Same {
                self.result.found += 1;
                if found.len() < MAX_FINDINGS {
                    found.push(finding_of(seal.number, &event, comparison));
                }
            }
        }
        drop(events);
        for id in page.missing() {
            self.result.found += 1;
            if found.len() < MAX_FINDINGS {
                found.push(Finding::EventMissing { seal: seal.number, log: seal.log.as_str(), id });
            }
        }
        self.may_lack_versions |= seal.log == Log::Coupon && !found.is_empty();
        let room = MAX_FINDINGS - self.result.findings.len();
        self.result.findings.extend(found.into_iter().take(room));
        self.compare_lines(seal, &mut page, &in_archives).await?;
        if seal.log == Log::Coupon { self.finish_archives(seal.through).await } else { Ok(()) }
    }

    /// Adds the events of the seal that erasures have changed, if they are recorded in the chain.
    async fn add_erasures(&mut self, seal: &Seal, page: &mut SealedPage) -> Result<()> {
        let key = self.key.filter(|key| key.fingerprint() == seal.key);
        for erased in erasure::of_seal(self.connection, seal.number).await? {
            if !erased.is_recorded(key) || !page.add_erased(&erased.ids, &erased.leaves, &erased.salts) {
                self.find(Finding::ErasureBroken { seal: seal.number, pseudonym: erased.pseudonym });
            }
        }
        Ok(())
    }

    /// Marks the events of the seal that are archived. Returns them, with the index of each archive.
    async fn add_archived(&mut self, seal: &Seal, page: &mut SealedPage) -> Result<Vec<(usize, EventBits)>> {
        let mut added = Vec::new();
        if seal.log != Log::Coupon || self.archives.is_empty() {
            return Ok(added);
        }
        for (month, events) in archived::of_seal(self.connection, seal.number).await? {
            let Some(index) = self.archives.iter().position(|archive| archive.month == month) else {
                continue;
            };
            if page.add_archived(&events) {
                self.result.archived += events.count();
                added.push((index, events));
            } else {
                self.find(Finding::ArchiveBroken { month: month.to_string() });
            }
        }
        Ok(added)
    }

    /// Compares the archived events of the seal with the lines of the files.
    async fn compare_lines(
        &mut self,
        seal: &Seal,
        page: &mut SealedPage,
        in_archives: &[(usize, EventBits)],
    ) -> Result<()> {
        let Some(open) = self.open_archive else { return Ok(()) };
        // Of a file that is read from its beginning, no line is skipped.
        let after = if self.first == 1 { Position::default() } else { seal.from };
        for (index, events) in in_archives {
            let archive = &mut self.archives[*index];
            if !archive.open(open, after).await? {
                continue;
            }
            let (seal, from, through, mut found) = (seal.number, seal.from, seal.through, Vec::new());
            while let Some(line) = archive.next_up_to(through).await? {
                // Of a seal that is missing or broken.
                if line.position <= from {
                    continue;
                }
                let (month, id) = (archive.month.to_string(), line.position.id);
                match page.compare_line(events, id, &line.leaf) {
                    Comparison::Same => {}
                    Comparison::Changed => found.push(Finding::ArchivedEventChanged { seal, month, id }),
                    Comparison::WithoutSalt | Comparison::Inserted | Comparison::Repeated => {
                        archive.has_other_lines = true;
                    }
                }
            }
            let month = archive.month.to_string();
            let missing = page.missing_lines(events);
            found.extend(missing.map(|id| Finding::ArchivedEventMissing { seal, month: month.clone(), id }));
            for finding in found {
                self.find(finding);
            }
        }
        Ok(())
    }

    /// Reads the rest of the files of archives that end at a position or before, and compares their hashes. So no file is open for longer than
    /// the seals of its events are read.
    async fn finish_archives(&mut self, through: Position) -> Result<()> {
        let mut found = Vec::new();
        for archive in self.archives.iter_mut().filter(|archive| archive.through <= through) {
            let is_whole = self.first == 1 || archive.has_other_lines;
            let (month, file) = (archive.month.to_string(), archive.file.clone());
            match archive.finish().await? {
                FileState::NotRead | FileState::AsRecorded => {}
                FileState::Absent => found.push(Finding::ArchiveFileAbsent { month, file }),
                FileState::Changed if !is_whole => {}
                FileState::Changed => found.push(Finding::ArchiveFileChanged { month, file }),
            }
        }
        for finding in found {
            self.find(finding);
        }
        Ok(())
    }

    /// Compares a seal with the anchor; `None` cannot be equal.
    fn compare_anchor(&mut self, number: i64, exported: Option<&str>) -> Result<()> {
        let Some(anchor) = &mut self.anchor else { return Ok(()) };
        let mut found = Vec::new();
        while let Some((anchored, line)) = anchor.next_up_to(number)? {
            if anchored < number {
                found.push(Finding::AnchoredSealMissing { seal: anchored });
            } else if exported != Some(line.as_str()) {
                found.push(Finding::AnchoredSealDiffers { seal: number });
            }
        }
        for finding in found {
            self.find(finding);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Verification> {
        while let Some(anchor) = &mut self.anchor {
            let Some((seal, _)) = anchor.next_up_to(i64::MAX)? else { break };
            self.find(Finding::AnchoredSealMissing { seal });
        }
        let end = Position { epoch: i16::MAX, tx: u64::MAX, id: Uuid::max() };
        self.finish_archives(end).await?;
        for (log, end) in Log::ALL.into_iter().zip(self.ends) {
            self.result.unsealed += count_after(self.connection, log, end).await?;
        }
        if self.may_lack_versions {
            self.check_versions().await?;
        }
        Ok(self.result)
    }

    /// Names the coupons that lack events, or have too many: a leaf alone does not tell its coupon.
    async fn check_versions(&mut self) -> Result<()> {
        let book = self.book.map(|book| book.0);
        let rows = query_file!("src/sql/audit_versions.sql", book).fetch_all(&mut *self.connection).await?;
        for row in rows {
            let (book, place) = (row.book_id, row.position);
            self.find(match row.last {
                Some(last) => Finding::VersionsMissing { book, place, first: row.first, last },
                None => Finding::VersionRepeated { book, place, version: row.first },
            });
        }
        Ok(())
    }
}

fn finding_of(seal: i64, event: &Event, comparison: Comparison) -> Finding {
    let event = event.name();
    match comparison {
        Comparison::WithoutSalt => Finding::EventWithoutSalt { seal, event },
        Comparison::Inserted => Finding::EventInserted { seal, event },
        Comparison::Repeated => Finding::EventRepeated { seal, event },
        Comparison::Same | Comparison::Changed => Finding::EventChanged { seal, event },
    }
}

async fn count_after(connection: &mut PgConnection, log: Log, end: Position) -> Result<i64> {
    let (epoch, tx, id) = (end.epoch, end.tx.to_string(), end.id);
    let count = match log {
        Log::Coupon => {
            query_scalar!(
                r#"select count(*) as "count!" from coupon_event where (epoch, tx, id) > ($1, $2::text::xid8, $3)"#,
                epoch,
                tx,
                id
            )
            .fetch_one(connection)
            .await?
        }
        Log::Admin => {
            query_scalar!(
                r#"select count(*) as "count!" from admin_event where (epoch, tx, id) > ($1, $2::text::xid8, $3)"#,
                epoch,
                tx,
                id
            )
            .fetch_one(connection)
            .await?
        }
    };
    Ok(count)
}

/// The lines of an anchor, with one line read ahead.
struct Anchor<'a> {
    lines: AnchorLines<'a>,
    ahead: Option<(i64, String)>,
    last: i64,
}

impl<'a> Anchor<'a> {
    /// Skips the seals before the first one.
    fn start(lines: AnchorLines<'a>, first: i64) -> Result<Self> {
        let mut anchor = Self { lines, ahead: None, last: 0 };
        while let Some(line) = anchor.read()? {
            if line.0 >= first {
                anchor.ahead = Some(line);
                break;
            }
        }
        Ok(anchor)
    }

    /// The next seal, if its number is not above this one.
    fn next_up_to(&mut self, number: i64) -> Result<Option<(i64, String)>> {
        if self.ahead.is_none() {
            self.ahead = self.read()?;
        }
        Ok(self.ahead.take_if(|(anchored, _)| *anchored <= number))
    }

    fn read(&mut self) -> Result<Option<(i64, String)>> {
        for line in &mut self.lines {
            let line = line.map_err(Error::internal)?;
            if line.trim().is_empty() {
                continue;
            }
            let number = sealed_number(&line).filter(|number| *number > self.last);
            let number = number.ok_or_else(|| Error::internal("the anchor is not an export of seals"))?;
            self.last = number;
            return Ok(Some((number, line.trim().to_owned())));
        }
        Ok(None)
    }
}
