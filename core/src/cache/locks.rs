//! Locks, with their own time to live, and an index of them by expiry that drives the tidying-up.
//!
//! **Invariants.** Nobody is answered from here: a lock's state is part of the coupon's row, which is read anyway, and no
//! copy of it can be proven fresh without asking the row. What the index says is due is looked at in Postgres, and noted
//! back as Postgres has it. A note carries the version of the coupon's row, and an older one never replaces a newer one.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use redis::pipe;
use uuid::Uuid;

use super::Cache;
use super::link::SCRIPTS;
use crate::id::{BusinessId, LockId};

/// The index: members are business and code, scores are when their locks run out.
const INDEX: &str = "coupon:lock:expiry";
/// The index's name, made up with it and lost with it.
const INDEX_NAME: &str = "coupon:lock:expiry:name";
/// How long the version of a lock that is gone is remembered: longer than any note is on its way.
const REMEMBERED_MS: u64 = 60_000;
/// When a lock that was handed out is handed out again if nobody has noted what became of it.
const PUT_OFF: Duration = Duration::from_secs(2);
/// How many notes are sent at once.
const NOTES_AT_ONCE: usize = 500;

/// How the lock of a coupon stands as of a version of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockNote {
    /// The owner.
    pub business: BusinessId,
    /// The code.
    pub code: String,
    /// The version of the coupon's row.
    pub version: i32,
    /// The lock, if there is one.
    pub hold: Option<Hold>,
}

impl LockNote {
    /// That a coupon has no lock as of a version; nothing where there is no version, because nothing was changed.
    pub(crate) fn of_none(business: BusinessId, code: &str, version: i32) -> Option<Self> {
        (version > 0).then(|| Self { business, code: code.to_owned(), version, hold: None })
    }
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Which one.
    pub lock: LockId,
    /// Whose.
    pub holder: String,
    /// When it runs out.
    pub until: DateTime<Utc>,
}

/// Locks that have run out, by the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLocks {
    /// What the index is called: another name is another index, which knows nothing of what was noted before.
    pub index: String,
    /// The coupons.
    pub coupons: Vec<(BusinessId, String)>,
}

impl Cache {
    /// Notes how locks stand. What is lost on the way is found by the scan of the agenda.
    pub async fn note_locks(&self, notes: &[LockNote]) {
        for notes in notes.chunks(NOTES_AT_ONCE) {
            let mut calls = pipe();
            for LockNote { business, code, version, hold } in notes {
                let member = format!("{business}:{code}");
                let mut call = SCRIPTS.note_lock.call(&[&format!("coupon:lock:{member}"), INDEX]);
                call.arg(*version).arg(member).arg(REMEMBERED_MS);
                if let Some(Hold { lock, holder, until }) = hold {
                    // Rounded up: a lock is not looked at before it has run out.
                    call.arg(until.timestamp_millis() + 1).arg(lock.to_string()).arg(holder);
                    call.arg(until.to_rfc3339_opts(SecondsFormat::Micros, true));
                }
                calls.add_command(call);
            }
            let _: Option<Vec<u8>> = self.ask_all(&calls).await;
        }
    }

    /// Up to `most` locks that have run out, earliest first; to be looked at in Postgres and noted anew. `now` is the
    /// database's time.
    pub async fn claim_due_locks(&self, now: DateTime<Utc>, most: i64) -> Option<DueLocks> {
        let now = now.timestamp_millis();
        let put_off = now.saturating_add(i64::try_from(PUT_OFF.as_millis()).unwrap_or(i64::MAX));
        let mut call = SCRIPTS.claim_locks.call(&[INDEX, INDEX_NAME]);
        call.arg(now).arg(most).arg(put_off).arg(Uuid::now_v7().to_string());
        let (index, members) = self.ask::<(String, Vec<String>)>(&call).await?;
        Some(DueLocks { index, coupons: members.iter().filter_map(|member| coupon(member)).collect() })
    }
}

fn coupon(member: &str) -> Option<(BusinessId, String)> {
    let (business, code) = member.split_once(':')?;
    Some((BusinessId(business.parse().ok()?), code.to_owned()))
}
