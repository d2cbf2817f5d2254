-- Gives count deltas their time, for statistics by quarter hour, and an index for lists of books. Rows live for a second, so
-- the table has many dead ones, and stays small only where it is vacuumed often.

do $$
begin
  perform lock_exclusively('book_delta');
  alter table book_delta
    add column at timestamptz not null default now(),
    set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
  create index book_delta_book on book_delta (book_id);
end $$;
