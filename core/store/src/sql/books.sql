-- One page of a business's books, newest first, each with its counts: `book_count` plus the deltas that are not rolled
-- up yet, in one snapshot.
--
-- $1 business; if not null: $2 status, $3 part of the name, $4 only ids below this one. $5 books to examine, $6 books
-- to return.
--
-- `examined` numbers the books after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by id desc) as n, id, status, name
  from coupon_book
  where business_id = $1 and id < coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by id desc
  limit $5),
-- The books of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, id from examined
  where ($2::text is null or status = $2) and ($3::text is null or name ilike '%' || $3 || '%')
  limit $6),
-- If the page is short because of the bound, the last book examined follows the page's books.
place as (
  select n, id, true as is_found from found
  union all
  select n, id, false from examined where n = $5 and (select count(*) from found) < $6),
-- The deltas that are not rolled up yet, for all books of the page in one pass.
delta as materialized (
  select book_id, sum(available) as available, sum(assigned) as assigned, sum(locked) as locked, sum(redeemed) as redeemed,
         sum(void) as void
  from book_delta
  where book_id = any (array(select id from found))
  group by book_id)
select b.id, b.business_id, b.status, b.name, b.description, b.code_kind as "code_kind: StoredKind", b.max_codes_per_user, b.max_redeems_per_user,
       b.total_codes_expected, b.starts_at, b.expires_at, b.schedule, b.time_zone, b.code_valid_days, b.lock_ttl_seconds, b.require_lock, b.discount, b.metadata, b.created_at, b.updated_at,
       coalesce(b.expires_at <= now(), false) as "is_expired!",
       (b.status = 'ACTIVE' and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)) as "is_active!",
       coalesce(t.available, 0) + coalesce(d.available, 0) as "available!",
       coalesce(t.assigned, 0) + coalesce(d.assigned, 0) as "assigned!",
       coalesce(t.locked, 0) + coalesce(d.locked, 0) as "locked!",
       coalesce(t.redeemed, 0) + coalesce(d.redeemed, 0) as "redeemed!",
       coalesce(t.void, 0) + coalesce(d.void, 0) as "void!",
       p.is_found as "is_found!"
from place p
cross join lateral (select * from coupon_book b where b.id = p.id limit 1) b
left join lateral (select * from book_count t where t.book_id = p.id limit 1) t on true
left join delta d on d.book_id = p.id
order by p.n, p.is_found desc
