-- Counts an attempt at the password of an email unless it has too many. Returns whether the client's network is known,
-- and the time of the attempt if it was counted. If neither, the attempt is rejected.
--
-- $1 the email, $2 the client's network, $3 maximum number of wrong passwords of an email in $4 seconds, $5 the number
-- of days after a login for which its network is known.
with
-- Attempts from a network of a recent login of the account are neither counted nor rejected.
known as (
  select exists (
    select from login l
    where l.account_id = account_of_email($1) and l.address <<= $2::text::inet
      and l.created_at > now() - make_interval(days => $5)) as is_known
),
-- If the oldest of the last $3 times is in the window, the limit is reached. The row is locked, so concurrent attempts
-- are counted one after the other.
counted as (
  insert into password_attempt as p (email_hash, failed_at, last_at)
  select sha256(convert_to(lower($1), 'UTF8')), array[clock_timestamp()], now() from known where not is_known
  on conflict (email_hash) do update
  set failed_at = (p.failed_at || clock_timestamp())[greatest(cardinality(p.failed_at) - $3 + 2, 1):], last_at = now()
  where cardinality(p.failed_at) < $3
     or p.failed_at[cardinality(p.failed_at) - $3 + 1] <= now() - make_interval(secs => $4)
  returning failed_at[cardinality(failed_at)] as at
)
select (select is_known from known) as "is_known!", (select at from counted) as at
