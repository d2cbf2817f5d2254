-- One book with its counts: `book_count` plus the deltas that are not rolled up yet, in one snapshot.
--
-- $1 business, $2 id.
select b.id, b.business_id, b.status, b.name, b.description, b.code_kind as "code_kind: StoredKind", b.max_codes_per_user, b.max_redeems_per_user,
       b.total_codes_expected, b.starts_at, b.expires_at, b.schedule, b.time_zone, b.code_valid_days, b.lock_ttl_seconds, b.require_lock, b.discount, b.metadata, b.created_at, b.updated_at,
       coalesce(b.expires_at <= now(), false) as "is_expired!",
       (b.status = 'ACTIVE' and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)) as "is_active!",
       coalesce(t.available, 0) + coalesce(d.available, 0) as "available!",
       coalesce(t.assigned, 0) + coalesce(d.assigned, 0) as "assigned!",
       coalesce(t.locked, 0) + coalesce(d.locked, 0) as "locked!",
       coalesce(t.redeemed, 0) + coalesce(d.redeemed, 0) as "redeemed!",
       coalesce(t.void, 0) + coalesce(d.void, 0) as "void!"
from coupon_book b
left join book_count t on t.book_id = b.id
cross join (
  select sum(available) as available, sum(assigned) as assigned, sum(locked) as locked, sum(redeemed) as redeemed, sum(void) as void
  from book_delta where book_id = $2) d
where b.id = $2 and b.business_id = $1
