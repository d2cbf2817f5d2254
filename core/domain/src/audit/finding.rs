//! What a verification of the chain reports.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

/// A difference between the chain and the database, or the anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Finding {
    /// A value of an event, or its salt, was changed after it was sealed.
    EventChanged {
        /// The seal that covers it.
        seal: i64,
        /// The event.
        event: EventName,
    },
    /// A sealed event does not exist at its position.
    EventMissing {
        /// The seal that covers it.
        seal: i64,
        /// Its log.
        log: &'static str,
        /// Its id.
        id: Uuid,
    },
    /// An event in a sealed range is not sealed.
    EventInserted {
        /// The seal whose range has it.
        seal: i64,
        /// The event.
        event: EventName,
    },
    /// A sealed event exists more than once.
    EventRepeated {
        /// The seal that covers it.
        seal: i64,
        /// The event.
        event: EventName,
    },
    /// The salt of an event is missing, so it cannot be compared, and no erasure is recorded.
    EventWithoutSalt {
        /// The seal that covers it.
        seal: i64,
        /// The event.
        event: EventName,
    },
    /// The record of an erasure is not that of the chain, so it proves no event.
    ErasureBroken {
        /// The seal whose events were erased.
        seal: i64,
        /// The pseudonym of the user.
        pseudonym: String,
    },
    /// The record of an archive is not that of the chain, so it proves no event.
    ArchiveBroken {
        /// The archived month.
        month: String,
    },
    /// The file of an archive has another length, hash or line than was recorded.
    ArchiveFileChanged {
        /// The archived month.
        month: String,
        /// The name of the file.
        file: String,
    },
    /// The file store does not have the file of an archive.
    ArchiveFileAbsent {
        /// The archived month.
        month: String,
        /// The name of the file.
        file: String,
    },
    /// The line of an event in an archive is not the sealed one.
    ArchivedEventChanged {
        /// The seal that covers it.
        seal: i64,
        /// The archived month.
        month: String,
        /// The id of the event.
        id: Uuid,
    },
    /// The file of an archive lacks an event.
    ArchivedEventMissing {
        /// The seal that covers it.
        seal: i64,
        /// The archived month.
        month: String,
        /// The id of the event.
        id: Uuid,
    },
    /// A coupon lacks the events of some versions.
    VersionsMissing {
        /// The coupon's book.
        book: Uuid,
        /// The coupon's position in the book.
        place: i32,
        /// The first missing version.
        first: i32,
        /// The last missing version.
        last: i32,
    },
    /// A coupon has more than one event of a version.
    VersionRepeated {
        /// The coupon's book.
        book: Uuid,
        /// The coupon's position in the book.
        place: i32,
        /// The version.
        version: i32,
    },
    /// A seal is not as it was made.
    SealBroken {
        /// The seal.
        seal: i64,
        /// What is wrong.
        fault: SealFault,
    },
    /// Seals between two others are missing.
    SealsMissing {
        /// The first missing seal.
        first: i64,
        /// The last missing seal.
        last: i64,
    },
    /// The anchor has a seal that the database lacks.
    AnchoredSealMissing {
        /// The seal.
        seal: i64,
    },
    /// The seal of the database is not that of the anchor.
    AnchoredSealDiffers {
        /// The seal.
        seal: i64,
    },
}

/// Why a seal is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SealFault {
    /// The HMAC is not that of the key and the content.
    Hmac,
    /// It was made with another key.
    Key,
    /// It does not contain the hash of the seal before it.
    Previous,
    /// It does not begin where the seal before it of the same log ends.
    Range,
    /// The root is not that of its leaves.
    Root,
    /// Ids and leaves do not agree with the count.
    Count,
    /// It has a form, or a log, that this version does not know.
    Form,
}

impl SealFault {
    fn meaning(self) -> &'static str {
        match self {
            Self::Hmac => "its HMAC is wrong",
            Self::Key => "it was made with another key",
            Self::Previous => "it does not follow the seal before it",
            Self::Range => "it does not begin where the seal before it of its log ends",
            Self::Root => "its root is not that of its leaves",
            Self::Count => "its leaves do not agree with its count",
            Self::Form => "a newer version made it, or its log is unknown",
        }
    }
}

/// The event that a finding concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "log", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum EventName {
    /// An event of a coupon.
    Coupon {
        /// The id.
        id: Uuid,
        /// The coupon's book.
        book: Uuid,
        /// The coupon's position in the book.
        place: i32,
        /// The coupon's version after the event.
        version: i32,
    },
    /// An admin event.
    Admin {
        /// The id.
        id: Uuid,
        /// The kind of the changed object.
        subject: String,
        /// The id of the changed object.
        subject_id: String,
        /// What was done.
        action: String,
    },
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coupon { id, book, place, version } => {
                write!(f, "event {id} (book {book}, position {place}, version {version})")
            }
            Self::Admin { id, subject, subject_id, action } => {
                write!(f, "admin event {id} ({action} of {subject} {subject_id})")
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EventChanged { seal, event } => write!(f, "seal {seal}: {event} was changed"),
            Self::EventMissing { seal, log: "ADMIN", id } => {
                write!(f, "seal {seal}: admin event {id} is missing")
            }
            Self::EventMissing { seal, id, .. } => write!(f, "seal {seal}: event {id} is missing"),
            Self::EventInserted { seal, event } => {
                write!(f, "seal {seal}: {event} was inserted, or moved here, after the range was sealed")
            }
            Self::EventRepeated { seal, event } => write!(f, "seal {seal}: {event} exists more than once"),
            Self::EventWithoutSalt { seal, event } => {
                write!(f, "seal {seal}: {event} has no salt, and no erasure is recorded")
            }
            Self::ErasureBroken { seal, pseudonym } => {
                write!(
                    f,
                    "seal {seal}: the erasure of {pseudonym} is not as it was recorded, or its admin event is missing"
                )
            }
            Self::ArchiveBroken { month } => {
                write!(f, "the archive of {month} is not as it was recorded, or its admin event is missing")
            }
            Self::ArchiveFileChanged { month, file } => {
                write!(f, "the file {file} of the archive of {month} is not as it was written")
            }
            Self::ArchiveFileAbsent { month, file } => {
                write!(f, "the file {file} of the archive of {month} is not in the file store")
            }
            Self::ArchivedEventChanged { seal, month, id } => {
                write!(f, "seal {seal}: event {id} was changed in the archive of {month}")
            }
            Self::ArchivedEventMissing { seal, month, id } => {
                write!(f, "seal {seal}: event {id} is missing in the archive of {month}")
            }
            Self::VersionsMissing { book, place, first, last } => {
                let versions = if first == last {
                    format!("version {first}")
                } else {
                    format!("versions {first} to {last}")
                };
                write!(f, "the coupon at position {place} of book {book} lacks the events of {versions}")
            }
            Self::VersionRepeated { book, place, version } => {
                write!(
                    f,
                    "the coupon at position {place} of book {book} has more than one event of version {version}"
                )
            }
            Self::SealBroken { seal, fault } => write!(f, "seal {seal} is broken: {}", fault.meaning()),
            Self::SealsMissing { first, last } if first == last => write!(f, "seal {first} is missing"),
            Self::SealsMissing { first, last } => write!(f, "seals {first} to {last} are missing"),
            Self::AnchoredSealMissing { seal } => {
                write!(f, "seal {seal} is in the anchor and not in the database")
            }
            Self::AnchoredSealDiffers { seal } => {
                write!(f, "seal {seal} differs from that in the anchor")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finding_names_the_event_in_text_and_in_json() {
        let (id, book) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let finding =
            Finding::EventChanged { seal: 3, event: EventName::Coupon { id, book, place: 4, version: 5 } };
        assert_eq!(
            finding.to_string(),
            format!("seal 3: event {id} (book {book}, position 4, version 5) was changed")
        );
        let shown = serde_json::to_value(&finding).unwrap();
        let event = json!({"log": "COUPON", "id": id, "book": book, "place": 4, "version": 5});
        assert_eq!(shown, json!({"finding": "EVENT_CHANGED", "seal": 3, "event": event}));
        let finding = Finding::SealBroken { seal: 1, fault: SealFault::Hmac };
        assert_eq!(
            serde_json::to_value(&finding).unwrap(),
            json!({"finding": "SEAL_BROKEN", "seal": 1, "fault": "HMAC"})
        );
    }
}
