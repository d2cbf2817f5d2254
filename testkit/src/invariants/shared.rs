//! The invariants of SHARED codes.

use sqlx::{PgConnection, query_scalar};

/// The ids of the SHARED books, as a subquery. An earlier schema has none.
pub(super) async fn books(snapshot: &mut PgConnection) -> &'static str {
    let exists = query_scalar::<_, bool>(
        "select exists (select from pg_attribute where attrelid = 'coupon_book'::regclass and attname = 'code_kind')",
    );
    if exists.fetch_one(snapshot).await.expect("looking for a column failed") {
        "(select id from coupon_book where code_kind = 'SHARED')"
    } else {
        "(select id from coupon_book where false)"
    }
}

pub(super) const INVARIANTS: &[(&str, &str)] = &[
    (
        "a SHARED code has as many uses as its users, numbered without a gap, with those that were rolled back",
        "select c.code, c.redeem_count, u.used, r.uses, c.last_use, r.all_uses, r.last from coupon c
         left join (select business_id, code, sum(used) as used from shared_use group by 1, 2) u using (business_id, code)
         left join (select business_id, code, count(*) filter (where rolled_back_at is null) as uses, count(*) as all_uses,
                           count(distinct use_number) as numbers, max(use_number) as last from redemption group by 1, 2) r
           using (business_id, code)
         where c.book_id in $shared_books
           and (c.redeem_count <> coalesce(u.used, 0) or c.redeem_count <> coalesce(r.uses, 0)
                or coalesce(c.last_use, 0) <> coalesce(r.all_uses, 0) or coalesce(c.last_use, 0) <> coalesce(r.numbers, 0)
                or coalesce(c.last_use, 0) <> coalesce(r.last, 0))",
    ),
    (
        "a user has as many uses of a SHARED code as redemptions that stand",
        "select * from shared_use u
         full join (select business_id, code, user_id, count(*) filter (where rolled_back_at is null) as uses
                    from redemption where book_id in $shared_books group by 1, 2, 3) r using (business_id, code, user_id)
         where coalesce(u.used, 0) <> coalesce(r.uses, 0)",
    ),
    (
        "a SHARED code counts the locks of its users",
        "select c.code, c.lock_count, u.locks from coupon c
         left join (select business_id, code, count(lock_id) as locks from shared_use group by 1, 2) u using (business_id, code)
         where c.book_id in $shared_books and c.status <> 'VOID' and coalesce(c.lock_count, 0) <> coalesce(u.locks, 0)",
    ),
    (
        "no SHARED code is used beyond its limits, live locks included",
        "select c.code, c.redeem_count, live_lock_count(c.business_id, c.code, c.lock_count) as locks, c.max_redemptions from coupon c
         where c.status <> 'VOID' and c.redeem_count + live_lock_count(c.business_id, c.code, c.lock_count) > c.max_redemptions
         union all
         select u.code, u.used, (u.lock_id is not null and u.locked_until > now())::int, coalesce(c.max_redeems_per_user, b.max_redeems_per_user)
         from shared_use u join coupon c using (business_id, code) join coupon_book b on b.id = c.book_id
         where c.status <> 'VOID'
           and u.used + (u.lock_id is not null and u.locked_until > now())::int > coalesce(c.max_redeems_per_user, b.max_redeems_per_user)",
    ),
    (
        "no user uses more codes of a SHARED book than its limit",
        "select u.book_id, u.user_id, count(*) as codes, b.max_codes_per_user from shared_use u join coupon_book b on b.id = u.book_id
         join coupon c using (business_id, code)
         where c.status <> 'VOID' and (u.used > 0 or u.lock_id is not null and u.locked_until > now())
         group by u.book_id, u.user_id, b.max_codes_per_user having count(*) > b.max_codes_per_user",
    ),
    (
        "the events of a SHARED code by a user give the user's uses and lock",
        "with told as (
           select c.business_id, c.code, e.user_id,
                  count(*) filter (where e.action = 'REDEEM') - count(*) filter (where e.action = 'ROLLBACK') as used,
                  (array_agg(e.action order by e.version desc) filter (where e.action in ('LOCK', 'UNLOCK', 'EXPIRE', 'REDEEM')))[1] = 'LOCK'
                    as is_locked
           from coupon c join coupon_event e on e.book_id = c.book_id and e.position = c.position
           where c.book_id in $shared_books and c.status <> 'VOID' and e.user_id is not null
           group by 1, 2, 3)
         select * from shared_use u full join told t using (business_id, code, user_id)
         join coupon c using (business_id, code)
         where c.status <> 'VOID' and c.created_at >= $kept_from
           and (coalesce(u.used, 0) <> coalesce(t.used, 0) or (u.lock_id is not null) is distinct from coalesce(t.is_locked, false))",
    ),
    (
        "each event of a SHARED code but its change and its end names a user",
        "select id, action from coupon_event
         where book_id in $shared_books and (user_id is null) <> (action in ('VOID', 'UPDATE'))",
    ),
    (
        "no code of a SHARED book has a holder",
        "select code, holder from coupon where book_id in $shared_books and (holder is not null or status in ('ASSIGNED', 'LOCKED'))",
    ),
];
