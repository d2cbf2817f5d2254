-- Counts codes for users of a book, up to the book's limit for each user. Returns the counted number of each user;
-- users at the limit are omitted. The limit is checked again on each locked row.
--
-- $1 book; per user: $2 distinct ids, $3 number of codes. Locks the rows in the order of the users.
insert into user_quota as q (book_id, user_id, held, cap, granted)
select $1, a.user_id, least(a.codes, b.max_codes_per_user), b.max_codes_per_user, least(a.codes, b.max_codes_per_user)
from unnest($2::text[], $3::int[]) a (user_id, codes) join coupon_book b on b.id = $1
order by a.user_id collate "C"
on conflict (book_id, user_id) do update set cap = excluded.cap,
  granted = least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held),
  held = q.held + least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)
where q.held < coalesce(excluded.cap, 2147483647)
returning user_id, granted
