-- Housekeeping records that a book has expired, as an admin event.

do $$
begin
  perform lock_exclusively('coupon_book');
  -- The `expires_at` whose passing was recorded. Another `expires_at` is recorded again.
  alter table coupon_book add column expiry_recorded timestamptz;
  update coupon_book set expiry_recorded = expires_at where expires_at <= now();
  create index coupon_book_expiry on coupon_book (expires_at)
    where status in ('ACTIVE', 'PAUSED') and expires_at is distinct from expiry_recorded;
end $$;
