-- Keys of callers that never expire, beside the 24 hours of an idempotency key.

-- The references of redemptions: a code is redeemed once for each. The statement that redeems inserts the row without `on conflict`. It also
-- reads the references of earlier redemptions in `redemption`, so rows of earlier programs need not be copied.
create table used_reference (
  business_id uuid not null,
  code text collate "C" not null,
  reference text not null,
  constraint used_reference_pkey primary key (business_id, code, reference)
);

-- The keys of random assignments: a repeated key finds the code that was assigned first.
create table recipient_key (
  book_id uuid not null,
  key text collate "C" not null,
  business_id uuid not null,
  assignment_id uuid not null,
  code text collate "C" not null,
  user_id text collate "C" not null,
  assigned_at timestamptz not null,
  constraint recipient_key_pkey primary key (book_id, key)
);
