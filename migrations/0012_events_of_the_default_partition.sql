-- Moves the events of the former default partition into their months, which the previous step made. No call waits for this.

insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, redeem_count,
                          reason, actor, ip, user_agent, request_id)
select id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, redeem_count,
       reason, actor, ip, user_agent, request_id
from coupon_event_rest;
drop table coupon_event_rest;
