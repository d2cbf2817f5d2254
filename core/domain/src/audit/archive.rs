//! Archives of months of coupon events: the record of an archive, its file, and the events of a seal that it contains.
//!
//! **Invariant I-76.** The record names the events of each seal that are archived. Its root, with the hash of the file, is under the key of the
//! seals and in an admin event.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::line_of;
use super::{AuditKey, Hash, Position, hex, sha256};

/// The beginning of the names of partitions of coupon events.
const PARTITION: &str = "coupon_event_";

/// A calendar month in UTC. The text is that of `2027-06`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(NaiveDate);

/// A text is not a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a month as in 2027-06")]
pub struct InvalidMonth;

impl Month {
    /// The month of an instant.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self::of_day(at.date_naive())
    }

    /// The month of a day.
    pub fn of_day(day: NaiveDate) -> Self {
        Self(day.with_day(1).unwrap_or(day))
    }

    /// The month of a partition of coupon events.
    pub fn of_partition(name: &str) -> Option<Self> {
        let (year, month) = name.strip_prefix(PARTITION)?.split_once('_')?;
        format!("{year}-{month}").parse().ok()
    }

    /// The name of its partition of coupon events.
    pub fn partition(self) -> String {
        format!("{PARTITION}{}", self.0.format("%Y_%m"))
    }

    /// Its first day.
    pub fn first_day(self) -> NaiveDate {
        self.0
    }

    /// Its first instant.
    pub fn start(self) -> DateTime<Utc> {
        self.0.and_time(NaiveTime::MIN).and_utc()
    }

    /// The month before.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.checked_sub_months(Months::new(1)).unwrap_or(self.0))
    }

    /// The month after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add_months(Months::new(1)).unwrap_or(self.0))
    }

    /// The name of the file of its coupon events. The hash of the content is part of it, so another content has another name.
    pub fn file_name(self, sha256: &Hash) -> String {
        format!("archive/{}-{}.jsonl", self.partition(), hex(&sha256[..8]))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

impl FromStr for Month {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Self, InvalidMonth> {
        let day = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").map_err(|_| InvalidMonth)?;
        let month = Self(day);
        if month.to_string() == text { Ok(month) } else { Err(InvalidMonth) }
    }
}

/// The record of an archive.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveRecord<'a> {
    /// The month.
    pub month: Month,
    /// The name of the file.
    pub file: &'a str,
    /// Its length.
    pub bytes: i64,
    /// Its SHA-256.
    pub sha256: &'a Hash,
    /// Number of events.
    pub events: i64,
    /// See [`ArchiveRoot`].
    pub root: &'a Hash,
}

#[derive(Serialize)]
struct ArchiveLine<'a> {
    archive: String,
    file: &'a str,
    bytes: i64,
    sha256: String,
    events: i64,
    root: String,
}

impl ArchiveRecord<'_> {
    /// The HMAC.
    pub fn sign(&self, key: &AuditKey) -> Hash {
        let Self { month, file, bytes, sha256, events, root } = *self;
        let (sha256, root) = (hex(sha256), hex(root));
        key.sign(&line_of(&ArchiveLine { archive: month.to_string(), file, bytes, sha256, events, root }))
    }
}

/// The hash over the archived events of all seals, in the order of the seals.
#[derive(Debug, Clone, Default)]
pub struct ArchiveRoot(Sha256);

impl ArchiveRoot {
    /// Adds the archived events of the next seal.
    pub fn add(&mut self, seal: i64, events: &EventBits) {
        self.0.update(seal.to_be_bytes());
        self.0.update(u64::try_from(events.0.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(&events.0);
    }

    /// The root.
    pub fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Some of the events of a seal: one bit for each event of the seal, from the highest bit of the first byte on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBits(Vec<u8>);

impl EventBits {
    /// None of this number of events.
    pub fn none_of(events: usize) -> Self {
        Self(vec![0; events.div_ceil(8)])
    }

    /// As they are stored.
    pub fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds an event.
    pub fn add(&mut self, index: usize) {
        if let Some(byte) = self.0.get_mut(index / 8) {
            *byte |= 128 >> (index % 8);
        }
    }

    /// Whether they have the event.
    pub fn has(&self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|byte| byte & (128 >> (index % 8)) != 0)
    }

    /// Number of events.
    pub fn count(&self) -> i64 {
        self.0.iter().map(|byte| i64::from(byte.count_ones())).sum()
    }

    /// Whether they can be events of a seal of this size.
    pub(super) fn fit(&self, events: usize) -> bool {
        self.0.len() == events.div_ceil(8) && (events..self.0.len() * 8).all(|index| !self.has(index))
    }
}

/// The length and the SHA-256 of a file, of which the next bytes are added.
#[derive(Debug, Clone, Default)]
pub struct FileDigest {
    hash: Sha256,
    bytes: i64,
}

impl FileDigest {
    /// Adds the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes = self.bytes.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    }

    /// The length and the hash.
    pub fn finish(self) -> (i64, Hash) {
        (self.bytes, self.hash.finalize().into())
    }
}

/// A hash as text.
pub fn hash_text(hash: &Hash) -> String {
    hex(hash)
}

/// The leaf of a canonical line, without the end of the line.
pub fn leaf_of_line(line: &[u8]) -> Hash {
    sha256(line)
}

/// The position of the event of a canonical line. None if it is not one.
pub fn position_of_line(line: &[u8]) -> Option<Position> {
    #[derive(Deserialize)]
    struct Positioned {
        position: String,
    }
    let Positioned { position } = serde_json::from_slice(line).ok()?;
    let mut parts = position.splitn(3, '.');
    let (epoch, tx, id) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Position { epoch: epoch.parse().ok()?, tx: tx.parse().ok()?, id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::event::tests::{SALT, coupon_event};
    use super::*;

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    #[test]
    fn a_month_is_read_as_it_is_written_and_has_a_partition() {
        assert_eq!(month("2027-06").to_string(), "2027-06");
        for text in ["", "2027", "2027-6", "2027-13", "2027-00", "27-06", "2027-06-01", " 2027-06"] {
            assert_eq!(text.parse::<Month>(), Err(InvalidMonth), "{text}");
        }
        assert_eq!(month("2027-06").partition(), "coupon_event_2027_06");
        assert_eq!(Month::of_partition("coupon_event_2027_06"), Some(month("2027-06")));
        assert_eq!(Month::of_partition("coupon_event_rest"), None);
        assert_eq!(month("2027-01").previous(), month("2026-12"));
        assert_eq!(month("2026-12").next(), month("2027-01"));
        assert_eq!(Month::of("2027-06-30T23:59:59.999999Z".parse().unwrap()), month("2027-06"));
        assert_eq!(month("2027-06").start().to_rfc3339(), "2027-06-01T00:00:00+00:00");
        assert_eq!(
            month("2027-06").file_name(&[171; 32]),
            "archive/coupon_event_2027_06-abababababababab.jsonl"
        );
    }

    /// Invariant I-76.
    #[test]
    fn the_hmac_of_an_archive_covers_each_value_and_the_root_each_bit() {
        let mut events = EventBits::none_of(9);
        events.add(8);
        assert_eq!((events.as_bytes(), events.count()), (&[0, 128][..], 1));
        assert!(events.has(8) && !events.has(0) && events.fit(9) && events.fit(16));
        assert!(!events.fit(8) && !events.fit(17) && !EventBits::from_stored(vec![0, 64]).fit(9));
        let root = |parts: &[(i64, Vec<u8>)]| {
            let mut root = ArchiveRoot::default();
            for (seal, bytes) in parts {
                root.add(*seal, &EventBits::from_stored(bytes.clone()));
            }
            root.finish()
        };
        let roots: BTreeSet<Hash> = [
            root(&[(1, vec![128]), (2, vec![1])]),
            root(&[(1, vec![128]), (3, vec![1])]),
            root(&[(1, vec![128]), (2, vec![3])]),
            root(&[(1, vec![128])]),
            root(&[(1, vec![128, 0, 0, 0, 0, 0, 0, 0, 2, 1])]),
        ]
        .into();
        assert_eq!(roots.len(), 5);
        let keys = ["01", "02"].map(|pair| pair.repeat(32).parse::<AuditKey>().unwrap());
        let record = ArchiveRecord {
            month: month("2027-06"),
            file: "a",
            bytes: 1,
            sha256: &[1; 32],
            events: 1,
            root: &[2; 32],
        };
        let hmacs: BTreeSet<Hash> = [
            record.sign(&keys[0]),
            record.sign(&keys[1]),
            ArchiveRecord { month: month("2027-07"), ..record }.sign(&keys[0]),
            ArchiveRecord { file: "b", ..record }.sign(&keys[0]),
            ArchiveRecord { bytes: 2, ..record }.sign(&keys[0]),
            ArchiveRecord { sha256: &[3; 32], ..record }.sign(&keys[0]),
            ArchiveRecord { events: 2, ..record }.sign(&keys[0]),
            ArchiveRecord { root: &[3; 32], ..record }.sign(&keys[0]),
        ]
        .into();
        assert_eq!(hmacs.len(), 8);
    }

    #[test]
    fn a_line_of_an_archive_has_the_leaf_and_the_position_of_its_event() {
        let event = coupon_event(5);
        let line = event.line(&SALT);
        assert_eq!(leaf_of_line(line.as_bytes()), event.leaf(&SALT));
        assert_eq!(position_of_line(line.as_bytes()), Some(event.position));
        for line in ["", "{}", r#"{"position":"1.2"}"#, r#"{"position":"1.2.3"}"#] {
            assert_eq!(position_of_line(line.as_bytes()), None, "{line}");
        }
        let mut digest = FileDigest::default();
        digest.add(b"a");
        digest.add(b"b");
        assert_eq!(digest.finish(), (2, leaf_of_line(b"ab")));
    }
}
