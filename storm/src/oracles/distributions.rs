//! A distribution gives each member what its report says, and a take-back takes only what a distribution gave.

use futures::FutureExt;
use sqlx::{AssertSqlSafe, PgConnection, query_as};

use super::{Oracle, Verdict};
use crate::Result;
use crate::evidence::Evidence;
use crate::world::{MAX_FLYERS_PER_USER, MAX_GIVEN_PER_USER};

pub(super) const DISTRIBUTIONS: Oracle =
    Oracle { name: "distributions", check: |evidence, database| check(evidence, database).boxed_local() };

/// Rules, and the jobs, users or codes that violate them.
const RULES: &[(&str, &str)] = &[
    (
        "the report of a distribution has the number of codes of its result",
        "select j.id::text, concat(j.result ->> 'given', ' ', g.given, ' ', j.succeeded) from job j
         left join (select job_id, sum(given) as given from distribution_given group by job_id) g on g.job_id = j.id
         where j.kind = 'DISTRIBUTE'
           and ((j.result ->> 'given')::bigint <> coalesce(g.given, 0) or j.succeeded <> coalesce(g.given, 0))",
    ),
    (
        "EQUAL gives members without a limit or a note numbers that differ by at most one",
        "select j.id::text, concat(min(m.given), ' to ', max(m.given)) from job j
         cross join lateral (
           select m.ordinal, coalesce(sum(g.given), 0) as given from distribution_member m
           left join distribution_given g on g.job_id = m.job_id and g.ordinal = m.ordinal
           where m.job_id = j.id group by m.ordinal, m.room
           having count(g.note) = 0 and (m.room is null or m.room > coalesce(sum(g.given), 0))) m
         where j.kind = 'DISTRIBUTE' and j.status = 'SUCCEEDED' and j.work -> 'rules' ->> 'mode' = 'EQUAL'
         group by j.id having max(m.given) - min(m.given) > 1",
    ),
    (
        "a distribution that was started once gives no code twice",
        "select g.job_id::text, c.code from distribution_given g join job j on j.id = g.job_id
         cross join lateral unnest(string_to_array(g.codes, ' ')) c (code)
         where g.given > 0 and j.attempts = 1 group by g.job_id, c.code having count(*) > 1",
    ),
    (
        "a take-back leaves only codes that it reports as rejected",
        "select b.id::text, concat(count(*), ' left, ', b.failed, ' rejected') from job b
         join job d on d.id = (b.work ->> 'distribution')::uuid and d.finished_at < b.created_at
         join coupon c on c.book_id = d.book_id and c.status in ('ASSIGNED', 'LOCKED', 'REDEEMED')
         cross join lateral (
           select actor from coupon_event e where e.book_id = c.book_id and e.position = c.position and e.action = 'ASSIGN'
           order by e.version desc limit 1) e
         where b.kind = 'TAKE_BACK' and b.status = 'SUCCEEDED' and e.actor = 'job:' || d.id
         group by b.id having count(*) > b.failed",
    ),
    (
        "a take-back revokes only assignments of its distribution",
        "select b.id::text, concat(c.code, ' of ', a.actor) from job b
         join coupon_event e on e.actor = 'job:' || b.id and e.action = 'REVOKE'
         join coupon c on c.book_id = e.book_id and c.position = e.position
         cross join lateral (
           select actor from coupon_event a
           where a.book_id = e.book_id and a.position = e.position and a.action = 'ASSIGN' and a.version < e.version
           order by a.version desc limit 1) a
         where b.kind = 'TAKE_BACK' and a.actor <> 'job:' || (b.work ->> 'distribution')",
    ),
    (
        "a take-back counts the codes that it revoked",
        "select b.id::text, concat(b.result ->> 'takenBackCount', ' counted, ', count(e.id), ' revoked') from job b
         left join coupon_event e on e.actor = 'job:' || b.id and e.action = 'REVOKE'
         where b.kind = 'TAKE_BACK' group by b.id having (b.result ->> 'takenBackCount')::bigint <> count(e.id)",
    ),
];

/// The users that hold more codes of a book than it allows.
const OVER_LIMIT: &str = "select c.holder, count(*)::text from coupon c
    where c.book_id = $1::text::uuid and c.holder is not null and c.status <> 'VOID'
    group by c.holder having count(*) > $2";

async fn check(evidence: &Evidence<'_>, database: &mut PgConnection) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let checked = evidence.jobs.iter().filter(|job| matches!(job.kind.as_str(), "DISTRIBUTE" | "TAKE_BACK"));
    verdict.checks = checked.count();
    for (rule, offenders) in RULES {
        let found: Vec<(String, String)> =
            query_as(AssertSqlSafe(*offenders)).fetch_all(&mut *database).await?;
        verdict.check(found.is_empty(), || format!("{rule}: {found:?}"));
    }
    for tenant in &evidence.world.tenants {
        let flyers = tenant.flyers.as_ref().map(|book| (book, MAX_FLYERS_PER_USER));
        for (book, limit) in [(&tenant.given, MAX_GIVEN_PER_USER)].into_iter().chain(flyers) {
            let found: Vec<(String, String)> =
                query_as(OVER_LIMIT).bind(book).bind(i64::try_from(limit)?).fetch_all(&mut *database).await?;
            verdict.check(found.is_empty(), || format!("users over the limit of the book: {found:?}"));
        }
    }
    Ok(verdict)
}
