//! The invariants of each database between two commits, checked in one snapshot.

mod shared;

use cuponera_domain::audit::AuditKey;
use cuponera_store::{VerifyOptions, compare_statistics, verify_chain};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row, query, query_scalar};

/// Fails if an invariant is violated. The message lists each with its first violating rows.
pub async fn assert_invariants(pool: &PgPool) {
    let broken = invariant_violations(pool).await;
    assert!(broken.is_empty(), "violated invariants:\n{}", broken.join("\n"));
}

/// The statistics that differ from a recount. An earlier schema has none, and after an upgrade they are not complete yet.
async fn wrong_statistics(snapshot: &mut PgConnection) -> Vec<String> {
    let exists = query_scalar::<_, bool>("select to_regclass('stat_bucket') is not null");
    if !exists.fetch_one(&mut *snapshot).await.expect("looking for a table failed") {
        return Vec::new();
    }
    let is_counting =
        query_scalar::<_, bool>("select exists (select from stat_backfill where counted_from is not null)");
    if is_counting.fetch_one(&mut *snapshot).await.expect("reading a row failed") {
        return Vec::new();
    }
    let differences = compare_statistics(snapshot, None).await.expect("recounting the statistics failed");
    differences.iter().take(3).map(|difference| format!("statistics are exact: {difference:?}")).collect()
}

/// The differences between the sealed events and the logs. An earlier schema has no seals, no erasures, or no archives.
async fn wrong_seals(snapshot: &mut PgConnection) -> Vec<String> {
    let exists = query_scalar::<_, bool>("select to_regclass('audit_archive') is not null");
    if !exists.fetch_one(&mut *snapshot).await.expect("looking for a table failed") {
        return Vec::new();
    }
    let verified =
        verify_chain(snapshot, VerifyOptions::default()).await.expect("verifying the seals failed");
    verified.findings.iter().take(3).map(|finding| format!("seals are valid: {finding}")).collect()
}

/// Verifies the seals with their key. Returns the number of seals and the findings.
pub async fn seal_findings(connection: &mut PgConnection, key: &str) -> (i64, Vec<String>) {
    let key: AuditKey = key.parse().expect("the key is 64 hexadecimal digits");
    let options = VerifyOptions { key: Some(&key), ..VerifyOptions::default() };
    let verified = verify_chain(connection, options).await.expect("verifying the seals failed");
    (verified.seals, verified.findings.iter().map(ToString::to_string).collect())
}

/// The violated invariants, one line each.
pub async fn invariant_violations(pool: &PgPool) -> Vec<String> {
    let mut snapshot = pool.begin().await.expect("beginning the transaction failed");
    let one_view = "set transaction isolation level repeatable read, read only";
    query(one_view).execute(&mut *snapshot).await.expect("taking a snapshot failed");
    let mut broken = Vec::new();
    let has_rollbacks = query_scalar(
        "select exists (select from pg_attribute where attrelid = 'coupon'::regclass and attname = 'rollback_count')",
    );
    let has_rollbacks: bool =
        has_rollbacks.fetch_one(&mut *snapshot).await.expect("looking for a column failed");
    let of_redemptions = if has_rollbacks { INVARIANTS_WITH_ROLLBACKS } else { INVARIANTS_WITHOUT_ROLLBACKS };
    let mut invariants: Vec<&(&str, &str)> = INVARIANTS.iter().chain(of_redemptions).collect();
    for (table, of_table) in [
        ("import_rejection", std::slice::from_ref(&INVARIANT_OF_REJECTED_ROWS)),
        ("distribution_slice", INVARIANTS_OF_DISTRIBUTIONS),
        ("webhook_delivery", INVARIANTS_OF_WEBHOOKS),
        ("shared_use", shared::INVARIANTS),
    ] {
        let exists: bool = query_scalar("select to_regclass($1) is not null")
            .bind(table)
            .fetch_one(&mut *snapshot)
            .await
            .expect("looking for a table failed");
        invariants.extend(of_table.iter().filter(|_| exists));
    }
    let kept_from = events_kept_from(&mut snapshot).await;
    let shared_books = shared::books(&mut snapshot).await;
    for (promise, offenders) in invariants {
        let offenders = offenders.replace("$kept_from", &kept_from).replace("$shared_books", shared_books);
        let sql =
            format!("select row_to_json(offender)::text as offender from ({offenders}) offender limit 3");
        let rows = query(AssertSqlSafe(sql)).fetch_all(&mut *snapshot).await;
        let rows = rows.unwrap_or_else(|error| panic!("checking {promise:?} failed: {error}"));
        if !rows.is_empty() {
            let rows: Vec<String> = rows.iter().map(|row| row.get("offender")).collect();
            broken.push(format!("{promise}: {}", rows.join(" ")));
        }
    }
    broken.extend(wrong_statistics(&mut snapshot).await);
    broken.extend(wrong_seals(&mut snapshot).await);
    broken
}

/// The time from which on all events are in the log, as a literal. Earlier ones may be archived.
async fn events_kept_from(snapshot: &mut PgConnection) -> String {
    let exists = query_scalar::<_, bool>("select to_regprocedure('coupon_events_kept_from()') is not null");
    if !exists.fetch_one(&mut *snapshot).await.expect("looking for a function failed") {
        return "'-infinity'::timestamptz".to_owned();
    }
    query_scalar("select quote_literal(coupon_events_kept_from()) || '::timestamptz'")
        .fetch_one(&mut *snapshot)
        .await
        .expect("reading the time failed")
}

/// Each invariant, and a query for the rows that violate it. `$kept_from` is the time from which on all events are in the log,
/// `$shared_books` the ids of the SHARED books.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "a coupon's events are numbered from 1, or from its first event that is not archived, to its version without a gap",
        "select c.code, c.version, e.events, e.last from coupon c
         left join (select book_id, position, count(*) events, count(distinct version) versions, min(version) first, max(version) last
                    from coupon_event group by book_id, position) e using (book_id, position)
         where case when c.created_at >= $kept_from
           then coalesce(e.events, 0) <> c.version or coalesce(e.versions, 0) <> c.version or coalesce(e.last, 0) <> c.version
             or e.first <> 1
           else e.versions <> e.events or e.events <> e.last - e.first + 1 or e.last <> c.version end",
    ),
    (
        "each event starts in the state in which the previous event ended; the first starts as AVAILABLE",
        "select * from (
           select book_id, position, version, action, from_status,
                  coalesce(lag(to_status) over (partition by book_id, position order by version),
                           case when version = 1 or $kept_from = '-infinity' then 'AVAILABLE' else from_status end) as before
           from coupon_event) e where from_status <> before",
    ),
    (
        "a coupon is in the state in which its last event ended",
        "select c.code, c.status, e.to_status from coupon c
         join coupon_event e on e.book_id = c.book_id and e.position = c.position and e.version = c.version
         where e.to_status <> c.status",
    ),
    (
        "every event belongs to a coupon of the same business",
        "select e.id, e.action from coupon_event e
         left join coupon c on c.book_id = e.book_id and c.position = e.position
         where c.business_id is distinct from e.business_id and exists (select from coupon_book b where b.id = e.book_id)",
    ),
    (
        "every event is a transition of the state diagram",
        "select id, action, from_status, to_status from coupon_event
         where (action, from_status::text, to_status::text) not in (
           ('ASSIGN', 'AVAILABLE', 'ASSIGNED'), ('LOCK', 'ASSIGNED', 'LOCKED'), ('LOCK', 'LOCKED', 'LOCKED'),
           ('UNLOCK', 'LOCKED', 'ASSIGNED'), ('EXPIRE', 'LOCKED', 'ASSIGNED'),
           ('REDEEM', 'ASSIGNED', 'ASSIGNED'), ('REDEEM', 'ASSIGNED', 'REDEEMED'),
           ('REDEEM', 'LOCKED', 'ASSIGNED'), ('REDEEM', 'LOCKED', 'REDEEMED'),
           ('REVOKE', 'ASSIGNED', 'AVAILABLE'), ('ROLLBACK', 'ASSIGNED', 'ASSIGNED'), ('ROLLBACK', 'LOCKED', 'LOCKED'),
           ('ROLLBACK', 'REDEEMED', 'ASSIGNED'), ('ROLLBACK', 'VOID', 'VOID'), ('VOID', 'AVAILABLE', 'VOID'),
           ('VOID', 'ASSIGNED', 'VOID'), ('VOID', 'LOCKED', 'VOID'))
           and not (action = 'UPDATE' and from_status = to_status and from_status <> 'VOID')
           and not (book_id in $shared_books and (action, from_status::text, to_status::text) in (
             ('LOCK', 'AVAILABLE', 'AVAILABLE'), ('UNLOCK', 'AVAILABLE', 'AVAILABLE'), ('EXPIRE', 'AVAILABLE', 'AVAILABLE'),
             ('EXPIRE', 'REDEEMED', 'REDEEMED'), ('REDEEM', 'AVAILABLE', 'AVAILABLE'), ('REDEEM', 'AVAILABLE', 'REDEEMED'),
             ('ROLLBACK', 'AVAILABLE', 'AVAILABLE'), ('ROLLBACK', 'REDEEMED', 'AVAILABLE'), ('UPDATE', 'AVAILABLE', 'REDEEMED'),
             ('UPDATE', 'REDEEMED', 'AVAILABLE')))",
    ),
    (
        "no coupon is redeemed more often than its book allows",
        "select c.code, c.redeem_count, b.max_redeems_per_user from coupon c join coupon_book b on b.id = c.book_id
         where c.redeem_count > b.max_redeems_per_user and c.book_id not in $shared_books",
    ),
    (
        "a coupon has a REDEEM event for each redemption, including those that were rolled back",
        "select c.code, c.redeem_count, e.uses from coupon c
         left join (select book_id, position, count(*) filter (where action = 'REDEEM')
                           - count(*) filter (where action = 'ROLLBACK') as uses
                    from coupon_event group by book_id, position) e using (book_id, position)
         where coalesce(e.uses, 0) <> c.redeem_count and c.created_at >= $kept_from",
    ),
    (
        "every redemption is of its coupon's book and business and by its holder",
        "select r.id, r.code, r.user_id, c.holder from redemption r
         left join coupon c on c.business_id = r.business_id and c.code = r.code
         where c.book_id is distinct from r.book_id
            or c.holder is distinct from r.user_id and c.book_id not in $shared_books",
    ),
    (
        "a user's quota is the number of codes that the user holds or has redeemed",
        "select * from user_quota q
         full join (select book_id, holder as user_id, count(*) as holds from coupon
                    where holder is not null and status <> 'VOID' group by book_id, holder) h using (book_id, user_id)
         where coalesce(q.held, 0) <> coalesce(h.holds, 0)",
    ),
    (
        "a book's counts, including those not rolled up yet, equal the table of coupons",
        "with counted as (
           select book_id, sum(generated) generated, sum(available) available, sum(assigned) assigned, sum(locked) locked,
                  sum(redeemed) redeemed, sum(void) void
           from (select book_id, generated, available, assigned, locked, redeemed, void from book_count
                 union all select book_id, generated, available, assigned, locked, redeemed, void from book_delta) both_parts
           group by book_id),
         standing as (
           select book_id, count(*) generated, count(*) filter (where status = 'AVAILABLE') available,
                  count(*) filter (where status = 'ASSIGNED') assigned, count(*) filter (where status = 'LOCKED') locked,
                  count(*) filter (where status = 'REDEEMED') redeemed, count(*) filter (where status = 'VOID') void
           from coupon group by book_id)
         select book_id, c as counted, s as standing from counted c full join standing s using (book_id)
         where (coalesce(c.generated, 0), coalesce(c.available, 0), coalesce(c.assigned, 0), coalesce(c.locked, 0),
                coalesce(c.redeemed, 0), coalesce(c.void, 0))
            <> (coalesce(s.generated, 0), coalesce(s.available, 0), coalesce(s.assigned, 0), coalesce(s.locked, 0),
                coalesce(s.redeemed, 0), coalesce(s.void, 0))",
    ),
    (
        "every coupon's position is below its book's next position, in a book of its business",
        "select c.code, c.position, b.next_position from coupon c left join coupon_book b on b.id = c.book_id
         where b.business_id is distinct from c.business_id or c.position >= b.next_position or c.position < 0",
    ),
    (
        "every lock is in lock_agenda, where the sweep finds it",
        "select c.code, c.lock_id, c.locked_until from coupon c
         where c.status = 'LOCKED' and not exists (
           select from lock_agenda a where a.business_id = c.business_id and a.code = c.code and a.lock_id = c.lock_id
           and a.locked_until = c.locked_until)",
    ),
    (
        "the redemption of a stored answer exists, and no two stored answers have made the same redemption",
        "with stored as (
           select id, answer, answer -> 'Ok' ->> 'redemption' as redemption, coalesce(answer -> 'Ok' -> 'replayed' = 'true', false) as is_replay
           from request_key where answer -> 'Ok' ? 'redemption')
         select k.id, k.answer from stored k
         where not exists (select from redemption r where r.id = k.redemption::uuid)
           or exists (select from stored o where o.id <> k.id and o.redemption = k.redemption and not o.is_replay and not k.is_replay)",
    ),
    (
        "a job's tally equals the statuses of its chunks",
        "select j.id, j.chunks_done, j.chunks_failed, j.status from job j
         join (select job_id, count(*) filter (where status = 'DONE') done, count(*) filter (where status = 'FAILED') failed,
                      count(*) chunks from job_chunk group by job_id) c on c.job_id = j.id
         where j.chunks_done <> c.done or j.chunks_total <> c.chunks
            or (j.status <> 'CANCELLED' and j.chunks_failed <> c.failed)
            or (j.status = 'SUCCEEDED') <> (c.done = c.chunks and j.status <> 'CANCELLED')
            or (j.status = 'FAILED' and (c.failed = 0 or (c.done + c.failed <> c.chunks and not j.ordered
                and j.error ->> 'code' not in ('not_found', 'book_closed', 'pattern_exhausted', 'book_in_use', 'not_enough_codes',
                                                'book_not_active', 'book_not_started', 'book_expired'))))",
    ),
    (
        "a generation has created the number of codes that it reports, in its book",
        "select j.id, j.kind, j.succeeded, c.codes from job j
         left join (select job_id, book_id, count(*) codes from coupon group by job_id, book_id) c
           on c.job_id = j.id and c.book_id = j.book_id
         where j.kind = 'GENERATE_CODES' and j.succeeded <> coalesce(c.codes, 0)
           and exists (select from coupon_book b where b.id = j.book_id)
           and not exists (select from job d where d.kind = 'DELETE_BOOK' and d.book_id = j.book_id and d.succeeded > 0)",
    ),
];

/// The invariant for schemas that have the table of rejections.
const INVARIANT_OF_REJECTED_ROWS: (&str, &str) = (
    "an import has a rejection for each row that it counts as failed",
    "select j.id, j.failed, r.rows from job j
     left join (select job_id, count(*) as rows from import_rejection group by job_id) r on r.job_id = j.id
     where j.kind = 'IMPORT_CODES' and j.discarding_at is null and j.failed <> coalesce(r.rows, 0)
       and not exists (select from job_chunk c where c.job_id = j.id and c.errors_file is not null)",
);

/// The invariants of redemptions for schemas without rollbacks.
const INVARIANTS_WITHOUT_ROLLBACKS: &[(&str, &str)] = &[
    (
        "a coupon has redeem_count redemptions, numbered from 1 without a gap",
        "select c.code, c.redeem_count, r.uses from coupon c
         left join (select business_id, code, count(*) uses, count(distinct use_number) numbers, max(use_number) last
                    from redemption group by business_id, code) r using (business_id, code)
         where coalesce(r.uses, 0) <> c.redeem_count or coalesce(r.numbers, 0) <> c.redeem_count
            or coalesce(r.last, 0) <> c.redeem_count",
    ),
];

/// The invariants of redemptions for schemas with rollbacks.
const INVARIANTS_WITH_ROLLBACKS: &[(&str, &str)] = &[
    (
        "a coupon has redeem_count redemptions that stand and rollback_count that were rolled back, numbered from 1 without a gap",
        "select c.code, c.redeem_count, c.rollback_count, r.uses, r.undone, r.last from coupon c
         left join (select business_id, code, count(*) filter (where rolled_back_at is null) uses,
                           count(*) filter (where rolled_back_at is not null) undone,
                           count(distinct use_number) numbers, max(use_number) last
                    from redemption group by business_id, code) r using (business_id, code)
         where (coalesce(r.uses, 0) <> c.redeem_count or coalesce(r.undone, 0) <> c.rollback_count
                or coalesce(r.numbers, 0) <> c.redeem_count + c.rollback_count
                or coalesce(r.last, 0) <> c.redeem_count + c.rollback_count)
           and c.book_id not in $shared_books",
    ),
    (
        "a coupon has a ROLLBACK event for each redemption that was rolled back",
        "select c.code, c.rollback_count, e.undone from coupon c
         left join (select book_id, position, count(*) filter (where action = 'ROLLBACK') as undone
                    from coupon_event group by book_id, position) e using (book_id, position)
         where coalesce(e.undone, 0) <> c.rollback_count and c.created_at >= $kept_from and c.book_id not in $shared_books",
    ),
    (
        "redeemed_at is the time of the last redemption that stands",
        "select c.code, c.redeemed_at, r.last from coupon c
         left join (select distinct on (business_id, code) business_id, code, at as last from redemption
                    where rolled_back_at is null order by business_id, code, use_number desc) r using (business_id, code)
         where r.last is distinct from c.redeemed_at and c.book_id not in $shared_books",
    ),
    (
        "only a code with a holder expires, and no lock ends after its code",
        "select code, holder, expires_at, locked_until from coupon
         where expires_at is not null and (holder is null or locked_until > expires_at) and book_id not in $shared_books",
    ),
    (
        "each REVOKE, ROLLBACK and VOID has a reason",
        "select id, action from coupon_event where action in ('REVOKE', 'ROLLBACK', 'VOID') and coalesce(reason, '') = ''",
    ),
];

/// The invariants for schemas that have distributions.
const INVARIANTS_OF_DISTRIBUTIONS: &[(&str, &str)] = &[
    (
        "a reserved code is in a slice of the job that has reserved it",
        "select c.code, c.status, c.reserved_by from coupon c
         where c.reserved_by is not null and not exists (
           select from distribution_slice s
           where s.job_id = c.reserved_by and s.book_id = c.book_id and c.position = any(s.positions))",
    ),
    (
        "a distribution has assigned the codes that its job and its report count",
        "select d.job_id, j.succeeded, e.events, g.given from distribution d
         join job j on j.id = d.job_id and j.discarding_at is null
         left join (select actor, count(*) as events from coupon_event where action = 'ASSIGN' group by actor) e
           on e.actor = 'job:' || d.job_id
         left join (select job_id, sum(given) as given from distribution_given group by job_id) g on g.job_id = d.job_id
         where j.succeeded <> coalesce(g.given, 0) or j.succeeded <> coalesce(e.events, 0) and j.created_at >= $kept_from",
    ),
    (
        "the number of members of a pool is counted",
        "select p.id, p.member_count, m.members from user_pool p
         left join (select pool_id, count(*) as members from pool_member group by pool_id) m on m.pool_id = p.id
         where p.deleted_at is null and p.member_count <> coalesce(m.members, 0)",
    ),
];

const INVARIANTS_OF_WEBHOOKS: &[(&str, &str)] = &[
    (
        "the first pending delivery of each subject has a time",
        "select d.id, d.subject from webhook_delivery d
         where d.status = 'PENDING' and d.next_attempt_at is null
           and not exists (select from webhook_delivery e
                           where e.webhook_id = d.webhook_id and e.subject = d.subject and e.status = 'PENDING' and e.number < d.number)",
    ),
    (
        "each delivery has as many attempts as it counts",
        "select d.id, d.attempts, a.attempts as stored from webhook_delivery d
         left join (select delivery_id, count(*) as attempts from webhook_attempt group by delivery_id) a on a.delivery_id = d.id
         where d.attempts <> coalesce(a.attempts, 0)",
    ),
    (
        "a webhook gets events of its business only",
        "select d.id from webhook_delivery d join webhook w on w.id = d.webhook_id
         join (select id, business_id from coupon_event union all select id, business_id from admin_event) e on e.id = d.event_id
         where e.business_id <> w.business_id",
    ),
];
