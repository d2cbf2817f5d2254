-- The amount, discount and total of redemptions whose caller names an amount, and their sums per currency. All are in minor units of the
-- currency. Rows of earlier programs have nulls, and so have redemptions without an amount.

do $$
begin
  perform lock_exclusively('redemption');
  alter table redemption
    add column amount bigint,
    add column discount bigint,
    add column total bigint,
    add column currency text collate "C",
    add constraint redemption_amounts check (
      num_nulls(amount, discount, total, currency) in (0, 4)
      and (amount is null or amount > 0 and discount between 0 and amount and total = amount - discount)) not valid;
end $$;

-- The discount of a book on an amount of at least one minor unit. `minor_units` is the number of minor units of one unit of the currency:
-- 100 for EUR. A percentage is rounded half up. The function `Discount::on` of the domain gives the same values. Multiplications of numeric
-- are exact; a division is not.
create function discount_on(discount jsonb, amount bigint, minor_units int) returns bigint language sql immutable parallel safe
return least(
  amount, (discount ->> 'maxDiscount')::numeric * minor_units,
  case discount ->> 'type'
    when 'PERCENT' then round(amount * (discount ->> 'value')::numeric * 0.01)
    when 'FIXED' then round((discount ->> 'value')::numeric * minor_units)
    else 0 end)::bigint;

-- The rule of a book's discount that rejects an amount, or a call without an amount. Null if none does.
create function discount_rejection(discount jsonb, amount bigint, currency text, minor_units int) returns text
language sql immutable parallel safe
return case
  when amount is null then case when discount ->> 'minAmount' is not null then 'amount_required' end
  when discount ->> 'currency' <> currency then 'currency_mismatch'
  when amount < (discount ->> 'minAmount')::numeric * minor_units then 'amount_too_small' end;

-- Sums of amounts that are not in the buckets yet. The statement that redeems writes them.
create table stat_amount_delta (
  business_id uuid not null,
  book_id uuid not null,
  bucket_at timestamptz not null,
  currency text collate "C" not null,
  redeemed int not null default 0,
  amount bigint not null default 0,
  discount bigint not null default 0,
  rolled_back int not null default 0,
  rolled_back_amount bigint not null default 0,
  rolled_back_discount bigint not null default 0
);

alter table stat_amount_delta
  set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- The sums of a book, and of a business, by bucket and currency. They may exceed a bigint.
create table stat_amount (
  -- The book or the business.
  scope_id uuid not null,
  bucket_at timestamptz not null,
  currency text collate "C" not null,
  redeemed bigint not null,
  amount numeric not null,
  discount numeric not null,
  rolled_back bigint not null,
  rolled_back_amount numeric not null,
  rolled_back_discount numeric not null,
  constraint stat_amount_pkey primary key (scope_id, bucket_at, currency)
) with (fillfactor = 80);

-- Programs of the previous version roll redemptions back too, so a trigger counts these.
create function count_rolled_back_amount() returns trigger language plpgsql as $$
begin
  insert into stat_amount_delta (business_id, book_id, bucket_at, currency, rolled_back, rolled_back_amount, rolled_back_discount)
  values (new.business_id, new.book_id, stat_bucket_of(new.rolled_back_at), new.currency, 1, new.amount, new.discount);
  return null;
end $$;

do $$
begin
  perform lock_exclusively('redemption');
  create trigger redemption_amount_rolled_back after update of rolled_back_at on redemption for each row
    when (old.rolled_back_at is null and new.rolled_back_at is not null and new.amount is not null)
    execute function count_rolled_back_amount();
end $$;

-- The sums of the redemptions of a part. Null if it has other rows, or its redemptions have no columns of amounts.
do $$
begin
  perform lock_exclusively('export_part');
  alter table export_part add column amounts jsonb;
end $$;
