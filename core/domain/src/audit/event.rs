//! The canonical lines of events, and their leaves.
//!
//! **Invariant I-67.** The canonical line of an event contains each of its stored values: personal ones as salted digests, so that a line
//! and its leaf say nothing about a person once the salt is deleted.
//!
//! The order of the fields is that of the structs below. A change of it is another form: see [`super::FORM`].

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Hash, Log, Position, hex, sha256};
use crate::coupon::state::CouponStatus;
use crate::id::{BookId, BusinessId};

/// Size of a salt. 128 random bits: without the salt, a digest does not show whether a guess is right.
pub const SALT_BYTES: usize = 16;

/// The salt of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    /// A salt of random bytes.
    pub fn new(bytes: [u8; SALT_BYTES]) -> Self {
        Self(bytes)
    }

    /// A stored salt. None if it was deleted: zeros take its place.
    pub fn from_stored(bytes: [u8; SALT_BYTES]) -> Option<Self> {
        (bytes != [0; SALT_BYTES]).then_some(Self(bytes))
    }

    /// The digest of a field: SHA-256 over the salt, the name of the field, a zero byte and the value.
    fn digest(&self, field: &str, value: &str) -> String {
        let mut hash = Sha256::new();
        for part in [&self.0, field.as_bytes(), &[0], value.as_bytes()] {
            hash.update(part);
        }
        hex(&hash.finalize())
    }

    fn digest_if_any(&self, field: &str, value: Option<&str>) -> Option<String> {
        value.map(|value| self.digest(field, value))
    }
}

/// A coupon event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct CouponEventForm {
    /// The position in the log.
    pub position: Position,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The owner of the coupon.
    pub business: BusinessId,
    /// The coupon's book.
    pub book: BookId,
    /// The coupon's position in the book.
    pub place: i32,
    /// The coupon's version after the event.
    pub version: i32,
    /// The coupon's status before the event.
    pub from: CouponStatus,
    /// The coupon's status after the event.
    pub to: CouponStatus,
    /// What was done.
    pub action: String,
    /// The number of uses.
    pub redeem_count: Option<i32>,
    /// The reason.
    pub reason: Option<String>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The holder.
    pub holder: Option<String>,
    /// The actor.
    pub actor: String,
    /// The client's address.
    pub ip: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CouponLine<'a> {
    log: &'static str,
    position: String,
    at: String,
    business: Uuid,
    book: Uuid,
    place: i32,
    version: i32,
    from: &'static str,
    to: &'static str,
    action: &'a str,
    redeem_count: Option<i32>,
    reason: Option<&'a str>,
    request_id: Option<&'a str>,
    holder: Option<String>,
    actor: String,
    ip: Option<String>,
    user_agent: Option<String>,
}

impl CouponEventForm {
    /// The canonical line.
    pub fn line(&self, salt: &Salt) -> String {
        line_of(&CouponLine {
            log: Log::Coupon.as_str(),
            position: self.position.to_string(),
            at: time(self.at),
            business: self.business.0,
            book: self.book.0,
            place: self.place,
            version: self.version,
            from: self.from.as_str(),
            to: self.to.as_str(),
            action: &self.action,
            redeem_count: self.redeem_count,
            reason: self.reason.as_deref(),
            request_id: self.request_id.as_deref(),
            holder: salt.digest_if_any("holder", self.holder.as_deref()),
            actor: salt.digest("actor", &self.actor),
            ip: salt.digest_if_any("ip", self.ip.as_deref()),
            user_agent: salt.digest_if_any("userAgent", self.user_agent.as_deref()),
        })
    }

    /// The hash of the canonical line.
    pub fn leaf(&self, salt: &Salt) -> Hash {
        sha256(self.line(salt).as_bytes())
    }
}

/// An admin event as it is stored. The values before and after are personal: they contain emails and user ids.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminEventForm {
    /// The position in the log.
    pub position: Position,
    /// When its transaction began.
    pub at: DateTime<Utc>,
    /// The business that it concerns.
    pub business: BusinessId,
    /// The kind of the changed object.
    pub subject: String,
    /// The id of the changed object.
    pub subject_id: String,
    /// What was done.
    pub action: String,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The recorded values before the change, as Postgres writes a `jsonb`.
    pub before: Option<String>,
    /// The same after the change.
    pub after: Option<String>,
    /// The actor.
    pub actor: String,
    /// The client's address.
    pub ip: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdminLine<'a> {
    log: &'static str,
    position: String,
    at: String,
    business: Uuid,
    subject: &'a str,
    subject_id: &'a str,
    action: &'a str,
    request_id: Option<&'a str>,
    before: Option<String>,
    after: Option<String>,
    actor: String,
    ip: Option<String>,
    user_agent: Option<String>,
}

impl AdminEventForm {
    /// The canonical line.
    pub fn line(&self, salt: &Salt) -> String {
        line_of(&AdminLine {
            log: Log::Admin.as_str(),
            position: self.position.to_string(),
            at: time(self.at),
            business: self.business.0,
            subject: &self.subject,
            subject_id: &self.subject_id,
            action: &self.action,
            request_id: self.request_id.as_deref(),
            before: salt.digest_if_any("before", self.before.as_deref()),
            after: salt.digest_if_any("after", self.after.as_deref()),
            actor: salt.digest("actor", &self.actor),
            ip: salt.digest_if_any("ip", self.ip.as_deref()),
            user_agent: salt.digest_if_any("userAgent", self.user_agent.as_deref()),
        })
    }

    /// The hash of the canonical line.
    pub fn leaf(&self, salt: &Salt) -> Hash {
        sha256(self.line(salt).as_bytes())
    }
}

/// Fields in the order of the struct, without blanks.
pub(super) fn line_of(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("texts and numbers are JSON")
}

/// A time with the precision of the database.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    pub(crate) const SALT: Salt = Salt([7; SALT_BYTES]);

    pub(crate) fn coupon_event(id: u128) -> CouponEventForm {
        CouponEventForm {
            position: Position { epoch: 1, tx: 4711, id: Uuid::from_u128(id) },
            at: "2027-06-01T10:00:00.123456Z".parse().unwrap(),
            business: BusinessId(Uuid::from_u128(1)),
            book: BookId(Uuid::from_u128(2)),
            place: 3,
            version: 4,
            from: CouponStatus::Assigned,
            to: CouponStatus::Redeemed,
            action: "REDEEM".to_owned(),
            redeem_count: Some(1),
            reason: Some("a \"quoted\" reason\nñ".to_owned()),
            request_id: Some("request-1".to_owned()),
            holder: Some("ana".to_owned()),
            actor: "service:till".to_owned(),
            ip: Some("203.0.113.7/32".to_owned()),
            user_agent: Some("a browser".to_owned()),
        }
    }

    fn admin_event() -> AdminEventForm {
        let CouponEventForm { position, at, business, request_id, actor, ip, user_agent, .. } =
            coupon_event(5);
        AdminEventForm {
            position,
            at,
            business,
            subject: "USER".to_owned(),
            subject_id: Uuid::from_u128(6).to_string(),
            action: "UPDATE".to_owned(),
            request_id,
            before: Some(r#"{"email": "ana@shop.test"}"#.to_owned()),
            after: Some(r#"{"email": "eva@shop.test"}"#.to_owned()),
            actor,
            ip,
            user_agent,
        }
    }

    /// The forms are stored as hashes, so a change of a line makes all earlier seals invalid.
    #[test]
    fn the_lines_of_form_1_are_as_they_were() {
        let line = coupon_event(5).line(&SALT);
        let (known, digests) = line.split_at(line.find(r#""holder""#).unwrap());
        assert_eq!(
            known,
            "{\"log\":\"COUPON\",\"position\":\"1.4711.00000000-0000-0000-0000-000000000005\",\"at\":\"2027-06-01T10:00:00.123456Z\",\
             \"business\":\"00000000-0000-0000-0000-000000000001\",\"book\":\"00000000-0000-0000-0000-000000000002\",\"place\":3,\
             \"version\":4,\"from\":\"ASSIGNED\",\"to\":\"REDEEMED\",\"action\":\"REDEEM\",\"redeemCount\":1,\
             \"reason\":\"a \\\"quoted\\\" reason\\nñ\",\"requestId\":\"request-1\","
        );
        let keys: Vec<&str> = digests.split('"').skip(1).step_by(4).collect();
        assert_eq!(keys, ["holder", "actor", "ip", "userAgent"]);
        assert_eq!(hex(&coupon_event(5).leaf(&SALT)), LEAF_OF_COUPON_EVENT);
        assert_eq!(hex(&admin_event().leaf(&SALT)), LEAF_OF_ADMIN_EVENT);
    }

    const LEAF_OF_COUPON_EVENT: &str = "1c6daef137fe0995722656b635e868cffa9d5a33f9982da620815658c44aa40b";
    const LEAF_OF_ADMIN_EVENT: &str = "4a15b36e5f689296ad183e69e77739eeb6cde4445b3cb406d6eec0d88ff59f43";

    /// Invariant I-67.
    #[test]
    fn a_change_of_any_value_changes_the_leaf() {
        let changes: [fn(&mut CouponEventForm); 17] = [
            |event| event.position.epoch += 1,
            |event| event.position.tx += 1,
            |event| event.position.id = Uuid::max(),
            |event| event.at += chrono::TimeDelta::microseconds(1),
            |event| event.business = BusinessId(Uuid::nil()),
            |event| event.book = BookId(Uuid::nil()),
            |event| event.place += 1,
            |event| event.version += 1,
            |event| event.from = CouponStatus::Locked,
            |event| event.to = CouponStatus::Assigned,
            |event| event.action.push('X'),
            |event| event.redeem_count = None,
            |event| event.reason = None,
            |event| event.request_id = None,
            |event| event.holder = event.user_agent.clone(),
            |event| event.ip = None,
            |event| event.user_agent = Some(String::new()),
        ];
        let mut leaves: BTreeSet<Hash> = changes
            .iter()
            .map(|change| {
                let mut event = coupon_event(5);
                change(&mut event);
                event.leaf(&SALT)
            })
            .collect();
        leaves.insert(coupon_event(5).leaf(&SALT));
        leaves.insert(CouponEventForm { actor: "sql".to_owned(), ..coupon_event(5) }.leaf(&SALT));
        assert_eq!(leaves.len(), changes.len() + 2);

        let changes: [fn(&mut AdminEventForm); 9] = [
            |event| event.subject.push('X'),
            |event| event.subject_id.push('X'),
            |event| event.action.push('X'),
            |event| event.before = None,
            |event| event.after = event.before.clone(),
            |event| event.actor.push('X'),
            |event| event.request_id = None,
            |event| event.ip = None,
            |event| std::mem::swap(&mut event.before, &mut event.after),
        ];
        let mut leaves: BTreeSet<Hash> = changes
            .iter()
            .map(|change| {
                let mut event = admin_event();
                change(&mut event);
                event.leaf(&SALT)
            })
            .collect();
        leaves.insert(admin_event().leaf(&SALT));
        assert_eq!(leaves.len(), changes.len() + 1);
    }

    /// Invariant I-67.
    #[test]
    fn a_line_contains_no_personal_value_and_depends_on_the_salt() {
        let lines = [coupon_event(5).line(&SALT), admin_event().line(&SALT)];
        for value in ["ana", "eva", "till", "203.0.113", "browser", "email"] {
            assert!(lines.iter().all(|line| !line.contains(value)), "{value}");
        }
        assert_ne!(coupon_event(5).leaf(&SALT), coupon_event(5).leaf(&Salt([8; SALT_BYTES])));
        // Equal values of two fields have different digests.
        assert_ne!(SALT.digest("holder", "ana"), SALT.digest("actor", "ana"));
        assert_eq!(Salt::from_stored([0; SALT_BYTES]), None);
        assert_eq!(Salt::from_stored([7; SALT_BYTES]), Some(SALT));
    }
}
