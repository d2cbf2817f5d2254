//! The input of the oracles: the history, and the events and jobs of the database.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, query_as};

use crate::Result;
use crate::followers::Followers;
use crate::history::{Entry, Response};
use crate::installation::Installation;
use crate::plan::Strike;
use crate::receivers::Receivers;
use crate::world::World;

/// All evidence, read when the work is done.
pub(crate) struct Evidence<'a> {
    pub(crate) installation: &'a Installation,
    pub(crate) world: &'a World,
    pub(crate) history: &'a [Entry],
    pub(crate) strikes: &'a [Strike],
    /// Errors of faults: a program that did not stop or did not recover.
    pub(crate) unrecovered: &'a [String],
    pub(crate) followers: &'a Followers,
    pub(crate) receivers: &'a Receivers,
    /// Ordered by coupon and version.
    pub(crate) events: Vec<Event>,
    pub(crate) jobs: Vec<Job>,
}

/// An event of a coupon.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Event {
    pub(crate) business: String,
    pub(crate) book: String,
    pub(crate) code: String,
    pub(crate) version: i32,
    pub(crate) action: String,
    pub(crate) from_status: String,
    pub(crate) to_status: String,
    pub(crate) user_id: Option<String>,
    pub(crate) redeem_count: Option<i32>,
    pub(crate) request_id: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// A row of `job`.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) book: Option<String>,
    pub(crate) status: String,
    pub(crate) succeeded: i64,
    /// The code of the job's error.
    pub(crate) error: Option<String>,
    /// The job's error, and its chunks that are not done.
    pub(crate) story: String,
}

impl<'a> Evidence<'a> {
    pub(crate) async fn read(
        installation: &'a Installation,
        (world, followers, receivers): (&'a World, &'a Followers, &'a Receivers),
        history: &'a [Entry],
        (strikes, unrecovered): (&'a [Strike], &'a [String]),
        database: &mut PgConnection,
    ) -> Result<Self> {
        let events = "select c.business_id::text as business, c.book_id::text as book, c.code, e.version, e.action,
                             e.from_status::text, e.to_status::text, e.user_id, e.redeem_count, e.request_id, e.at
                      from coupon_event e join coupon c on c.book_id = e.book_id and c.position = e.position
                      order by c.business_id, c.code, e.version";
        let events = query_as(events).fetch_all(&mut *database).await?;
        let jobs = "select j.id::text, j.kind, j.book_id::text as book, j.status, j.succeeded,
                    j.error ->> 'code' as error, concat(j.error::text, (
                      select json_agg(json_build_object('number', c.number, 'status', c.status, 'worker', c.worker,
                               'attempts', c.attempts, 'runs_in', c.run_at - clock_timestamp(),
                               'lease', c.lease_until - clock_timestamp(), 'error', c.error, 'rescues', c.rescues,
                               'unsent', (select count(*) from outbox o where o.job_id = j.id)))
                      from job_chunk c where c.job_id = j.id and c.status <> 'DONE')) as story
                    from job j order by j.id";
        let jobs = query_as(jobs).fetch_all(&mut *database).await?;
        Ok(Self { installation, world, history, strikes, unrecovered, followers, receivers, events, jobs })
    }

    /// The index of a business.
    pub(crate) fn tenant(&self, business: &str) -> Option<usize> {
        self.world.tenants.iter().position(|tenant| tenant.id == business)
    }

    /// The entries of each idempotency key. Keys are unique to a client, so each key has one request.
    pub(crate) fn by_key(&self) -> HashMap<&str, Vec<&'a Entry>> {
        let mut by_key: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in self.history {
            if let Some(key) = &entry.ask.key {
                by_key.entry(key).or_default().push(entry);
            }
        }
        by_key
    }

    /// The answer of each request, even if only a repetition received it.
    pub(crate) fn answers(&self) -> HashMap<&str, &'a Response> {
        let of_keys: HashMap<&str, &Response> = self
            .by_key()
            .into_iter()
            .filter_map(|(key, entries)| Some((key, entries.into_iter().find_map(Entry::verdict)?)))
            .collect();
        let answer = |entry: &'a Entry| {
            let of_key = entry.ask.key.as_deref().and_then(|key| of_keys.get(key).copied());
            Some((entry.request_id.as_str(), entry.verdict().or(of_key)?))
        };
        self.history.iter().filter_map(answer).collect()
    }
}
