-- For how many days a code is valid after its assignment; null: as long as its book. Earlier versions assign codes without an
-- expiry, and redeem codes that have expired: set it when all programs are of this version.
do $$
begin
  perform lock_exclusively('coupon_book');
  alter table coupon_book
    add column code_valid_days int,
    add constraint coupon_book_code_valid_days check (code_valid_days between 1 and 36500) not valid;
end $$;
