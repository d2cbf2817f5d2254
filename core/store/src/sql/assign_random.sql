-- Gives each item a random free code of its book.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 books, $11 users, $12 assignment ids, $13 recipient keys.
-- Coupons that other transactions hold are skipped. Lock order: coupons, then quotas, sorted.
with item as materialized (
  select i.*, coalesce((select s.stored from stored_user_id s
                        where s.business_id = i.business_id and s.user_id = i.named_user_id), i.named_user_id) as user_id
  from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::uuid[], $11::text[], $12::uuid[], $13::text[])
    i (n, business_id, event_id, actor, ip, user_agent, request_id, key, fingerprint, book_id, named_user_id, assignment_id,
       recipient_key)
),
-- The items that this snapshot allows. An item whose key has an answer, or whose recipient key has a code, is left to
-- assign_random_why.sql.
wish as materialized (
  select f.*, row_number() over (partition by f.book_id order by f.n) as ticket
  from (
    select i.*, b.max_codes_per_user as cap, b.code_valid_days, b.next_position as span, coalesce(q.held, 0) as held,
           row_number() over (partition by i.book_id, i.user_id order by i.n) as nth
    from item i
    join coupon_book b on b.id = i.book_id and b.business_id = i.business_id and b.code_kind <> 'SHARED' and b.status = 'ACTIVE'
      and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)
    left join user_quota q on q.book_id = i.book_id and q.user_id = i.user_id
    where (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
      and (i.recipient_key is null
           or (select 1 from recipient_key r where r.book_id = i.book_id and r.key = i.recipient_key) is null)
  ) f
  where f.cap is null or f.held + f.nth <= f.cap
),
need as materialized (
  select book_id, count(*) as wanted, floor(random() * max(span))::int as start
  from wish group by book_id order by book_id
),
-- Free codes from a random position on, then from the first position if those are too few. Codes that are reserved for a distribution
-- are not in the index `coupon_open`.
ahead as materialized (
  select p.* from need cross join lateral (
    select c.business_id, c.book_id, c.position, c.code from coupon c
    where c.book_id = need.book_id and c.is_free and c.reserved_by is null and c.suspended_at is null and c.position >= need.start
    order by c.position limit need.wanted for update skip locked) p
),
behind as materialized (
  select p.* from need cross join lateral (
    select c.business_id, c.book_id, c.position, c.code from coupon c
    where c.book_id = need.book_id and c.is_free and c.reserved_by is null and c.suspended_at is null and c.position < need.start
    order by c.position limit need.wanted - (select count(*) from ahead a where a.book_id = need.book_id)
    for update skip locked) p
),
deal as materialized (
  select w.*, p.position, p.code, row_number() over (partition by w.book_id, w.user_id order by w.n) as turn
  from wish w
  join (select *, row_number() over (partition by book_id order by random()) as ticket
        from (select * from ahead union all select * from behind) x) p using (book_id, ticket)
),
-- The user's limit is counted after the statement holds a code: counting first would leak quota when the book is sold
-- out.
quota as (
  insert into user_quota as q (book_id, user_id, held, cap, granted)
  select book_id, user_id, count(*), cap, count(*) from deal group by book_id, user_id, cap order by book_id, user_id
  on conflict (book_id, user_id) do update set cap = excluded.cap,
    granted = least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held),
    held = q.held + least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)
  where q.held < coalesce(excluded.cap, 2147483647)
  returning book_id, user_id, granted
),
-- Finds the row by key alone. `is_free` is not named here: after a bulk load, with old statistics, the planner may
-- estimate that the index of all free codes finds one row more cheaply.
done as (
  update coupon c
  set status = 'ASSIGNED', holder = d.user_id, assignment_id = d.assignment_id, assigned_at = now(),
      expires_at = now() + d.code_valid_days * interval '24 hours', version = c.version + 1
  from deal d join quota q on q.book_id = d.book_id and q.user_id = d.user_id
  where d.turn <= q.granted and c.business_id = d.business_id and c.code = d.code and c.status = 'AVAILABLE'
  returning d.n, c.business_id, c.book_id, c.position, c.version, c.code, c.holder, c.assignment_id, c.assigned_at
),
-- No `on conflict`: of two assignments with one key, one fails and then finds the other.
recipient as (
  insert into recipient_key (book_id, key, business_id, assignment_id, code, user_id, assigned_at)
  select d.book_id, i.recipient_key, d.business_id, d.assignment_id, d.code, d.holder, d.assigned_at
  from done d join item i on i.n = d.n where i.recipient_key is not null order by d.book_id, i.recipient_key
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
