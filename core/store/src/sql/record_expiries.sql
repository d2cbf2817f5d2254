-- Records books that have expired, oldest first: at most $1. A book that is being changed is recorded later.
with expired as (
  update coupon_book set expiry_recorded = expires_at
  where id in (
    select id from coupon_book
    where status in ('ACTIVE', 'PAUSED') and expires_at <= now() and expires_at is distinct from expiry_recorded
    order by expires_at limit $1
    for no key update skip locked)
  returning id, business_id, expires_at
)
select admin_event_write(business_id, 'BOOK', id::text, 'EXPIRE', null, jsonb_build_object('expiresAt', api_time(expires_at)))::text as written
from expired
