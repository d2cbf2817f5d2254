-- SHARED codes: a code without a holder, which many users lock and redeem within limits. It is one row of `coupon`; the uses and the lock of
-- each user are rows of `shared_use`. All new columns are null for the codes of other books, so no row is rewritten.
--
-- Programs of earlier versions do not misread a row: none of them finds its holder, so they neither lock nor redeem it, and `coupon_shared`
-- makes their statements fail that would assign it, reserve it or roll a use back. They may void it.

do $$
begin
  perform lock_exclusively('coupon');
  alter table coupon
    -- Of a SHARED code: the number of its locks in `shared_use`, with those that have expired and are still to be ended.
    add column lock_count int,
    -- Of a SHARED code: the number of its last use. Numbers are not given again, so it also counts uses that were rolled back.
    add column last_use int,
    -- The number of uses in total; no limit if null.
    add column max_redemptions int,
    -- The number of uses of each user; that of the book if null.
    add column max_redeems_per_user int,
    -- The code cannot be locked and redeemed before this time. `expires_at` is the end.
    add column starts_at timestamptz,
    -- Of any code: since when it is suspended.
    add column suspended_at timestamptz,
    drop constraint coupon_holder,
    add constraint coupon_holder check (
      status = 'VOID' or lock_count is not null
      or ((status = 'AVAILABLE') = (holder is null) and (holder is null) = (assignment_id is null)
          and (holder is null) = (assigned_at is null))) not valid,
    add constraint coupon_shared check (
      case when lock_count is null then
        last_use is null and max_redemptions is null and max_redeems_per_user is null and starts_at is null
      else
        lock_count >= 0 and last_use is not null and last_use >= redeem_count
        and coalesce(max_redemptions > 0, true) and coalesce(max_redeems_per_user > 0, true) and coalesce(starts_at < expires_at, true)
        and coalesce(redeem_count <= max_redemptions, true)
        and (status = 'VOID' or status = 'AVAILABLE' and coalesce(redeem_count < max_redemptions, true)
             or status = 'REDEEMED' and coalesce(redeem_count = max_redemptions, false))
        and holder is null and assignment_id is null and assigned_at is null and lock_id is null and reserved_by is null
        and rollback_count = 0
      end) not valid;
end $$;

-- The uses of a SHARED code by one user, and the user's lock. The row of the code is locked before its rows here.
create table shared_use (
  business_id uuid not null,
  code text collate "C" not null,
  user_id text collate "C" not null,
  book_id uuid not null,
  -- The redemptions that stand.
  used int not null,
  lock_id uuid,
  locked_at timestamptz,
  -- Kept when the lock expires.
  locked_until timestamptz,
  -- When the user first locked or redeemed the code.
  first_at timestamptz not null,
  constraint shared_use_pkey primary key (business_id, code, user_id),
  constraint shared_use_used check (used >= 0),
  constraint shared_use_lock check ((lock_id is null) = (locked_at is null) and (lock_id is null or locked_until is not null))
) with (fillfactor = 85);
-- The codes of a user, and those of a book.
create index shared_use_of_user on shared_use (business_id, user_id, first_at, code);
create index shared_use_of_book on shared_use (book_id, user_id);
-- Locks by the code, and by the end.
create index shared_use_locked on shared_use (business_id, code, locked_until) where lock_id is not null;
create index shared_use_lock_end on shared_use (locked_until) where lock_id is not null;
-- The users with most uses: a limit is not set below them.
create index shared_use_repeated on shared_use (business_id, code, used) where used > 1;

-- The number of live locks of a code; null for codes of other books.
create function live_lock_count(business uuid, of_code text, lock_count int) returns int language sql stable parallel safe as $$
  select case when lock_count > 0 then lock_count - (
    select count(*)::int from shared_use s
    where s.business_id = business and s.code = of_code collate "C" and s.lock_id is not null and s.locked_until <= now())
  else lock_count end
$$;

-- As before, and also for SHARED codes. The statuses of a SHARED code do not show the lock of a user: a renewal has the reason `renewed`.
create or replace function count_events() returns trigger language plpgsql as $$
begin
  insert into stat_delta (business_id, book_id, bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked,
                          rolled_back, voided, used)
  select business_id, book_id, stat_bucket_of(at), count(*) filter (where action = 'ASSIGN'),
         -- A renewal of a lock is not another lock.
         count(*) filter (where action = 'LOCK' and from_status <> 'LOCKED' and reason is null),
         count(*) filter (where action = 'UNLOCK'),
         count(*) filter (where action = 'EXPIRE'), count(*) filter (where action = 'REDEEM'),
         count(*) filter (where action = 'REVOKE'), count(*) filter (where action = 'ROLLBACK'),
         count(*) filter (where action = 'VOID'),
         count(*) filter (where action = 'REDEEM' and redeem_count = 1) - count(*) filter (where action = 'ROLLBACK' and redeem_count = 0)
  from inserted where action <> 'UPDATE' group by business_id, book_id, stat_bucket_of(at);
  return null;
end $$;
