-- Adds the deltas of all books to their counts. Rows that are inserted meanwhile are left for the next roll-up.
with gone as (
  delete from book_delta returning *
)
insert into book_count as t (book_id, generated, available, assigned, locked, redeemed, void)
select book_id, sum(generated), sum(available), sum(assigned), sum(locked), sum(redeemed), sum(void)
from gone group by book_id order by book_id
on conflict (book_id) do update set generated = t.generated + excluded.generated,
  available = t.available + excluded.available, assigned = t.assigned + excluded.assigned,
  locked = t.locked + excluded.locked, redeemed = t.redeemed + excluded.redeemed, void = t.void + excluded.void
