//! Erasure of a user: a pseudonym takes the place of the user's ids in all rows of a business.
//!
//! **Invariant I-71.** After an erasure no column of the database has the id of the user, except for what calls wrote that began after the
//! last pass had begun: they concern a new user with the same id. Free texts that clients wrote (reasons, references, metadata, names) are not searched.
//!
//! An erasure runs in passes over all places, in transactions that each change a bounded number of rows, and ends with the pass that finds
//! nothing. Before each pass but the first, all transactions that began before the end of the pass before it have ended, so their rows
//! are found. The ids and the pseudonym are in the table `erasure` until then, so an interrupted erasure continues.
//!
//! The places are listed in docs/architecture/erasure.md.

mod account;
mod holder;
mod place;

use std::time::Duration;

use rand::TryRng;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, PgTransaction, Postgres, query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::audit::{AuditKey, Log, Position};
use cuponera_domain::id::{BusinessId, JobId};
use serde_json::json;

use crate::Store;
use crate::audit_chain::{EraseLog, ErasedIds, release_lock, take_lock};
use crate::error::{Error, Result};

/// Maximum number of passes. More are needed only while clients still use the id.
const MAX_PASSES: usize = 20;
/// Interval at which an erasure checks whether earlier transactions have ended.
const POLL: Duration = Duration::from_millis(100);

/// An erasure that has begun. While it exists, no other erasure and no verification of the audit chain runs.
#[derive(Debug)]
pub struct Erasure {
    recorded: Recorded,
    lock: PgConnection,
}

/// The row of an erasure.
#[derive(Debug)]
struct Recorded {
    ids: ErasedIds,
    /// The id as the command names it.
    user_id: String,
    emails: Vec<String>,
    account: Option<Uuid>,
    is_continued: bool,
}

enum Begun {
    Recorded(Recorded),
    UnknownUser,
    ArchiveOpen,
    JobsOpen(Vec<JobId>),
}

/// The result of beginning an erasure.
#[derive(Debug)]
pub enum ErasureStart {
    /// It may continue.
    Begun(Box<Erasure>),
    /// The business has no such user.
    UnknownUser,
    /// These jobs may still write the id. Nothing was changed.
    JobsOpen(Vec<JobId>),
    /// The archive of a month of events was interrupted. Nothing was changed.
    ArchiveOpen,
    /// Another erasure, an archive, or a verification of the audit chain is running.
    Locked,
}

/// What is stored about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasurePreview {
    /// Number of coupons that the user holds or has used.
    pub coupons: i64,
    /// Those of them that have metadata.
    pub coupons_with_metadata: i64,
    /// Whether the user has an account.
    pub has_account: bool,
    /// Whether the account belongs to other businesses too, which keep it.
    pub is_shared: bool,
    /// Whether an erasure was interrupted.
    pub is_begun: bool,
}

/// The result of a complete erasure, also of what interrupted runs have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// What took the place of the ids.
    pub pseudonym: String,
    /// Number of coupon events and admin events that were changed.
    pub events: i64,
    /// Number of coupons that the user held or had used.
    pub coupons: i64,
    /// Those of them that have metadata, which was not searched.
    pub coupons_with_metadata: i64,
    /// Whether the user had an account.
    pub had_account: bool,
}

/// What an erasure has changed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasureProgress {
    /// The number of the pass, from 1.
    pub pass: usize,
    /// Number of coupons, redemptions and other rows, without events.
    pub rows: i64,
    /// Number of coupon events and admin events.
    pub events: i64,
    /// Whether it waits for transactions that began before the end of the last pass.
    pub is_waiting: bool,
}

impl Erasure {
    /// What takes the place of the ids.
    pub fn pseudonym(&self) -> &str {
        &self.recorded.ids.pseudonym
    }

    /// Whether an earlier run was interrupted, and this one continues it.
    pub fn is_continued(&self) -> bool {
        self.recorded.is_continued
    }

    /// All texts that files are searched for: the ids and the emails.
    pub fn texts(&self) -> Vec<String> {
        self.ids().user_ids.iter().chain(self.emails()).cloned().collect()
    }

    fn ids(&self) -> &ErasedIds {
        &self.recorded.ids
    }

    fn emails(&self) -> &[String] {
        &self.recorded.emails
    }

    fn account(&self) -> Option<Uuid> {
        self.recorded.account
    }
}

impl Store {
    /// What is stored about a user. None if there is nothing.
    pub async fn preview_erasure(&self, business: BusinessId, user: &str) -> Result<Option<ErasurePreview>> {
        let ids = query_scalar!(
            r#"select array(select $2 union select stored from stored_user_id where business_id = $1 and user_id = $2) as "ids!""#,
            business.0,
            user
        )
        .fetch_one(&self.pool)
        .await?;
        let row = query_file!("src/sql/erasure_preview.sql", business.0, user, &ids)
            .fetch_one(&self.reports)
            .await?;
        let exists = row.coupons > 0 || row.has_account || row.is_begun || row.is_known;
        Ok(exists.then_some(ErasurePreview {
            coupons: row.coupons,
            coupons_with_metadata: row.with_metadata,
            has_account: row.has_account,
            is_shared: row.is_shared,
            is_begun: row.is_begun,
        }))
    }

    /// Begins the erasure of a user, or continues one that was interrupted. Erases the account of a user in the same transaction: its
    /// logins end. Rejected for the last enabled admin of a business. With `is_forced` also if nothing is known of the user: rejected
    /// rows, reports and files may have the id.
    pub async fn begin_erasure(
        &self,
        business: BusinessId,
        user: &str,
        is_forced: bool,
    ) -> Result<ErasureStart> {
        self.must_have_event_index().await?;
        let Some(lock) = take_lock(&self.pool).await? else { return Ok(ErasureStart::Locked) };
        let not_begun = match self.begin_locked(business, user, is_forced).await {
            Ok(Begun::Recorded(recorded)) => {
                return Ok(ErasureStart::Begun(Box::new(Erasure { recorded, lock })));
            }
            Ok(Begun::UnknownUser) => Ok(ErasureStart::UnknownUser),
            Ok(Begun::ArchiveOpen) => Ok(ErasureStart::ArchiveOpen),
            Ok(Begun::JobsOpen(jobs)) => Ok(ErasureStart::JobsOpen(jobs)),
            Err(error) => Err(error),
        };
        release_lock(lock).await?;
        not_begun
    }

    /// The same, with the lock.
    async fn begin_locked(&self, business: BusinessId, user: &str, is_forced: bool) -> Result<Begun> {
        if !is_forced && self.preview_erasure(business, user).await?.is_none() {
            return Ok(Begun::UnknownUser);
        }
        // Its file has the events as they are, and their salts remain until it is complete.
        if self.find_open_archive().await?.is_some() {
            return Ok(Begun::ArchiveOpen);
        }
        let open = self.open_jobs_of_users(business).await?;
        if !open.is_empty() {
            return Ok(Begun::JobsOpen(open));
        }
        let mut transaction = self.begin().await?;
        let is_continued = query_scalar!(
            r#"select exists (select from erasure where business_id = $1 and user_id = $2) as "exists!""#,
            business.0,
            user
        )
        .fetch_one(&mut *transaction)
        .await?;
        if !is_continued {
            account::begin(&mut transaction, business, user, &new_pseudonym()?).await?;
        }
        let row = query!(
            "select pseudonym, user_ids, account_id, emails from erasure where business_id = $1 and user_id = $2",
            business.0,
            user
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Begun::Recorded(Recorded {
            ids: erased_ids(business, row.pseudonym, row.user_ids, row.account_id, &row.emails),
            user_id: user.to_owned(),
            emails: row.emails,
            account: row.account_id,
            is_continued,
        }))
    }

    /// Jobs that have not ended and may read or write ids of users.
    pub async fn open_jobs_of_users(&self, business: BusinessId) -> Result<Vec<JobId>> {
        let jobs = query_scalar!(
            "select id from job where business_id = $1 and status in ('QUEUED', 'RUNNING')
               and kind not in ('GENERATE_CODES', 'VOID_CODES', 'DELETE_BOOK') order by id",
            business.0
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(jobs.into_iter().map(JobId).collect())
    }

    /// Runs passes until one finds nothing. `report` is called after each batch. The key is needed if events are sealed.
    pub async fn erase_rows(
        &self,
        erasure: &Erasure,
        key: Option<&AuditKey>,
        mut report: impl FnMut(ErasureProgress) + Send,
    ) -> Result<ErasureProgress> {
        let mut logs = Log::ALL.map(|log| EraseLog { log, erased_through: Position::default() });
        let mut progress = ErasureProgress::default();
        while progress.pass < MAX_PASSES {
            progress.pass += 1;
            let before = progress;
            // Such a job may have read the id, and write it after this pass has searched the place.
            let has_open_jobs = !self.open_jobs_of_users(erasure.ids().business).await?.is_empty();
            for place in place::ALL {
                progress.rows += self.erase_place(erasure, place).await?;
                report(progress);
            }
            for log in &mut logs {
                while let Some(events) = self.erase_events(erasure.ids(), key, log).await? {
                    progress.events += events;
                    report(progress);
                }
            }
            let has_found = (progress.rows, progress.events) != (before.rows, before.events);
            if progress.pass > 1 && !has_found && !has_open_jobs {
                return Ok(progress);
            }
            report(ErasureProgress { is_waiting: true, ..progress });
            self.wait_for_earlier_transactions().await?;
        }
        Err(Error::unavailable(format!(
            "the id was found again in each of {MAX_PASSES} passes, or jobs that may write it were open: clients still use it"
        )))
    }

    /// Ends an erasure: adds its record to the admin events, and deletes the ids that were searched for.
    pub async fn finish_erasure(&self, erasure: Erasure) -> Result<Erased> {
        let Erasure { recorded: Recorded { ids, user_id, account, .. }, lock } = erasure;
        let (business, pseudonym) = (ids.business.0, ids.pseudonym);
        let held = query!(
            r#"select count(*) as "coupons!", count(metadata) as "with_metadata!" from coupon where business_id = $1 and holder = $2"#,
            business,
            pseudonym
        )
        .fetch_one(&self.reports)
        .await?;
        let mut transaction = self.begin().await?;
        let events = query_scalar!(
            "delete from erasure where business_id = $1 and user_id = $2 returning events",
            business,
            user_id
        )
        .fetch_one(&mut *transaction)
        .await?;
        query!(
            "insert into admin_event (business_id, subject, subject_id, action, after, actor)
             values ($1, 'USER', $2, 'ERASE', $3, coalesce(nullif(current_setting('cuponera.audit', true), '')::jsonb ->> 'actor', 'system'))",
            business,
            pseudonym,
            json!({"events": events, "coupons": held.coupons})
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        release_lock(lock).await?;
        Ok(Erased {
            pseudonym,
            events,
            coupons: held.coupons,
            coupons_with_metadata: held.with_metadata,
            had_account: account.is_some(),
        })
    }

    /// Waits until the transactions of this database that began before now have ended, and all that have written.
    async fn wait_for_earlier_transactions(&self) -> Result<()> {
        let now = query!(
            r#"select clock_timestamp() as "at!", pg_current_xact_id()::text as "tx!", pg_backend_pid() as "pid!""#
        )
        .fetch_one(&self.pool)
        .await?;
        loop {
            // A statement may have read before it writes: until then it has no transaction id.
            let is_over = query_scalar!(
                r#"select pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8
                     and not exists (select from pg_stat_activity
                                     where datname = current_database() and pid <> pg_backend_pid()
                                       and application_name ~ '^(cuponera$|chunk )' and xact_start < $2) as "is_over!""#,
                now.tx,
                now.at
            )
            .fetch_one(&self.pool)
            .await?;
            if is_over {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A pseudonym is a valid user id, is random, and does not depend on the id.
fn new_pseudonym() -> Result<String> {
    let mut bytes = [0; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(Error::internal)?;
    Ok(format!("erased-{}", uuid::Builder::from_random_bytes(bytes).into_uuid()))
}

fn erased_ids(
    business: BusinessId,
    pseudonym: String,
    user_ids: Vec<String>,
    account: Option<Uuid>,
    emails: &[String],
) -> ErasedIds {
    let account = account.map(|account| account.to_string());
    let identifiers = user_ids.iter().chain(&account).chain(emails).cloned().collect();
    let as_users = user_ids.iter().map(|id| (format!("user:{id}"), format!("user:{pseudonym}")));
    let as_admin = account.iter().map(|id| (format!("admin:{id}"), format!("admin:{pseudonym}")));
    let (actors, erased_actors) = as_users.chain(as_admin).unzip();
    ErasedIds { business, pseudonym, user_ids, identifiers, actors, erased_actors }
}

async fn execute(
    transaction: &mut PgTransaction<'static>,
    statement: Query<'_, Postgres, PgArguments>,
) -> Result<i64> {
    let done = statement.execute(&mut **transaction).await?;
    i64::try_from(done.rows_affected()).map_err(Error::internal)
}
