-- Nothing is recorded for books that have expired before. All calls read this table, and neither statement waits for readers or makes them
-- wait.

update coupon_book set expiry_recorded = expires_at where expires_at <= now();
create index coupon_book_expiry on coupon_book (expires_at)
  where status in ('ACTIVE', 'PAUSED') and expires_at is distinct from expiry_recorded;
