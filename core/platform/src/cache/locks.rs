//! Locks as keys with a TTL, and an index of locks by expiry, which the sweep uses.
//!
//! **Invariants.** No request is answered from these keys: the state of a lock is part of the coupon's row,
//! which is read anyway, and a copy cannot be proven current without reading the row. Locks that are due by
//! the index are checked in Postgres, and the state of Postgres is written back. A note contains the
//! version of the coupon's row; an older version never replaces a newer one.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use redis::pipe;
use uuid::Uuid;

use super::Cache;
use super::link::SCRIPTS;
use cuponera_domain::id::BusinessId;
use cuponera_domain::lock::{Hold, LockNote};

/// The index: members are business and code, scores are expiry times.
const INDEX: &str = "coupon:lock:expiry";
/// The id of the index, created and lost with it.
const INDEX_ID: &str = "coupon:lock:expiry:name";
/// How long the version of a released lock is remembered: longer than any note is in transit.
const RETENTION_MS: u64 = 60_000;
/// When a claimed due lock is returned again if its new state was not written back.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Maximum number of notes in a call.
const MAX_NOTES_PER_CALL: usize = 500;

/// Locks that are due by the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLocks {
    /// The id of the index. A new id means that Redis lost the earlier index.
    pub index: String,
    /// The coupons.
    pub coupons: Vec<(BusinessId, String)>,
}

impl Cache {
    /// Writes the state of locks. Lost notes are found by the scan of the agenda.
    pub async fn note_locks(&self, notes: &[LockNote]) {
        for notes in notes.chunks(MAX_NOTES_PER_CALL) {
            let mut calls = pipe();
            for LockNote { business, code, version, hold } in notes {
                let member = format!("{business}:{code}");
                let mut call = SCRIPTS.note_lock.call(&[&format!("coupon:lock:{member}"), INDEX]);
                call.arg(*version).arg(member).arg(RETENTION_MS);
                if let Some(Hold { lock, holder, until }) = hold {
                    // Rounded up: a lock is not due before it has expired.
                    call.arg(until.timestamp_millis() + 1).arg(lock.to_string()).arg(holder);
                    call.arg(until.to_rfc3339_opts(SecondsFormat::Micros, true));
                }
                calls.add_command(call);
            }
            let _: Option<Vec<u8>> = self.query_all(&calls).await;
        }
    }

    /// Up to `most` expired locks, earliest first, to be checked in Postgres and written back. `now` is the
    /// database's time.
    pub async fn claim_due_locks(&self, now: DateTime<Utc>, most: i64) -> Option<DueLocks> {
        let now = now.timestamp_millis();
        let put_off = now.saturating_add(i64::try_from(RETRY_AFTER.as_millis()).unwrap_or(i64::MAX));
        let mut call = SCRIPTS.claim_locks.call(&[INDEX, INDEX_ID]);
        call.arg(now).arg(most).arg(put_off).arg(Uuid::now_v7().to_string());
        let (index, members) = self.query::<(String, Vec<String>)>(&call).await?;
        Some(DueLocks { index, coupons: members.iter().filter_map(|member| coupon(member)).collect() })
    }
}

fn coupon(member: &str) -> Option<(BusinessId, String)> {
    let (business, code) = member.split_once(':')?;
    Some((BusinessId(business.parse().ok()?), code.to_owned()))
}
