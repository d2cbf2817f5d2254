-- Assigns to each item the code that it names, if the code is free. Each code occurs at most once in a batch.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes, $11 users, $12 assignment ids.
-- Lock order: coupons by key, then quotas, sorted.
-- $13: whether to wait for coupons that other transactions hold; otherwise they are skipped.
with item as materialized (
  select i.*, coalesce((select s.stored from stored_user_id s
                        where s.business_id = i.business_id and s.user_id = i.named_user_id), i.named_user_id) as user_id
  from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::uuid[])
    i (n, business_id, event_id, actor, ip, user_agent, request_id, key, fingerprint, code, named_user_id, assignment_id)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $13 order by c.business_id, c.code for update of c
),
-- Finds the rows by key alone: with `is_free`, the planner may choose the index of all free codes, which looks short
-- while the statistics do not yet include a bulk load.
free as materialized (
  select i.n, i.user_id, i.assignment_id, c.business_id, c.code, c.book_id, b.max_codes_per_user as cap, b.code_valid_days
  from item i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  join coupon_book b on b.id = c.book_id
  where c.status = 'AVAILABLE' and c.reserved_by is null and c.suspended_at is null and b.code_kind <> 'SHARED' and b.status = 'ACTIVE'
    and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
deal as materialized (
  select f.*, row_number() over (partition by f.book_id, f.user_id order by f.n) as turn
  from free f
),
-- The first row of a quota must not exceed the cap, because of its CHECK.
quota as (
  insert into user_quota as q (book_id, user_id, held, cap, granted)
  select book_id, user_id, least(count(*), cap), cap, least(count(*), cap)
  from deal group by book_id, user_id, cap order by book_id, user_id
  on conflict (book_id, user_id) do update set cap = excluded.cap,
    granted = least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held),
    held = q.held + least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)
  where q.held < coalesce(excluded.cap, 2147483647)
  returning book_id, user_id, granted
),
done as (
  update coupon c
  set status = 'ASSIGNED', holder = d.user_id, assignment_id = d.assignment_id, assigned_at = now(),
      expires_at = now() + d.code_valid_days * interval '24 hours', version = c.version + 1
  from deal d join quota q on q.book_id = d.book_id and q.user_id = d.user_id
  where d.turn <= q.granted and c.business_id = d.business_id and c.code = d.code and c.status = 'AVAILABLE'
  returning d.n, c.business_id, c.book_id, c.position, c.version, c.code, c.holder, c.assignment_id, c.assigned_at
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id,
                            actor, ip, user_agent, request_id)
  select i.event_id, d.business_id, d.book_id, d.position, d.version, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', d.holder,
         i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n
),
delta as (
  insert into book_delta (book_id, available, assigned) select book_id, -count(*), count(*) from done group by book_id
),
answer as (
  select d.n, i.key, i.fingerprint, jsonb_build_object('id', d.assignment_id, 'code', d.code, 'book', d.book_id,
         'user', d.holder, 'assigned_at', d.assigned_at, 'repeated', false) as outcome
  from done d join item i on i.n = d.n
),
key as (
  insert into request_key (id, fingerprint, answer)
  select key, fingerprint, jsonb_build_object('Ok', outcome) from answer where key is not null order by key
)
select n, outcome from answer
