-- A business's books, newest first, each with its counts: what is rolled up and what is not yet, read together.
--
-- $1 business; the rest narrow the list if not null: $2 id, $3 status, $4 part of the name, $5 ids below this one. $6 limit.
select b.id, b.business_id, b.status, b.name, b.description, b.max_codes_per_user, b.max_redeems_per_user, b.total_codes_expected,
       b.starts_at, b.expires_at, b.lock_ttl_seconds, b.require_lock, b.discount, b.metadata, b.created_at, b.updated_at,
       coalesce(b.expires_at <= now(), false) as "is_expired!",
       (b.status = 'ACTIVE' and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)) as "is_active!",
       coalesce(t.available, 0) + d.available as "available!", coalesce(t.assigned, 0) + d.assigned as "assigned!",
       coalesce(t.locked, 0) + d.locked as "locked!", coalesce(t.redeemed, 0) + d.redeemed as "redeemed!",
       coalesce(t.void, 0) + d.void as "void!"
from coupon_book b
left join book_count t on t.book_id = b.id
cross join lateral (
  select coalesce(sum(available), 0) as available, coalesce(sum(assigned), 0) as assigned, coalesce(sum(locked), 0) as locked,
         coalesce(sum(redeemed), 0) as redeemed, coalesce(sum(void), 0) as void
  from book_delta where book_id = b.id) d
where b.business_id = $1
  and ($2::uuid is null or b.id = $2)
  and ($3::text is null or b.status = $3)
  and ($4::text is null or b.name ilike '%' || $4 || '%')
  and ($5::uuid is null or b.id < $5)
order by b.id desc
limit $6
