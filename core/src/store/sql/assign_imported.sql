-- Gives freshly imported codes to the users their rows name, in the order of the lines, within each user's limit; answers
-- the codes that were given. The rows are this transaction's own, so nobody else has seen them free.
--
-- $1 business, $2 book, $3 actor; per row: $4 codes, $5 users, $6 assignment ids, $7 event ids.
with row_in as materialized (
  select r.*, coalesce(s.stored, r.named_user_id) as user_id
  from unnest($4::text[], $5::text[], $6::uuid[], $7::uuid[]) with ordinality
    r (code, named_user_id, assignment_id, event_id, n)
  left join stored_user_id s on s.business_id = $1 and s.user_id = r.named_user_id
),
turn as materialized (
  select r.*, b.max_codes_per_user as cap, row_number() over (partition by r.user_id order by r.n) as turn
  from row_in r join coupon_book b on b.id = $2
),
quota as (
  insert into user_quota as q (book_id, user_id, held, cap, granted)
  select $2, user_id, least(count(*), cap), cap, least(count(*), cap) from turn group by user_id, cap order by user_id
  on conflict (book_id, user_id) do update set cap = excluded.cap,
    granted = least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held),
    held = q.held + least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)
  where q.held < coalesce(excluded.cap, 2147483647)
  returning user_id, granted
),
-- The CASE hides the state from the planner. Where the statistics know only of codes that are given out, it would expect one
-- free code, and compare each row of the part with each user of it.
done as (
  update coupon c
  set status = 'ASSIGNED', holder = t.user_id, assignment_id = t.assignment_id, assigned_at = now(), version = c.version + 1
  from turn t join quota q on q.user_id = t.user_id
  where t.turn <= q.granted and c.business_id = $1 and c.code = t.code collate "C"
    and case when c.status = 'AVAILABLE' then true end
  returning c.code, c.position, c.version, c.holder, t.event_id
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
  select event_id, $1, $2, position, version, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', holder, $3 from done
)
select code from done
