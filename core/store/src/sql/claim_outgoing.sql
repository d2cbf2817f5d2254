-- Claims the oldest due, unclaimed messages of a kind for the time of a lease. A crashed relay loses no message.
--
-- $1 seconds of lease, $2 maximum number of messages, $3 kind.
update outbox o
set claimed_until = now() + make_interval(secs => $1)
from (select id from outbox
      where kind = $3 and not_before <= now() and (claimed_until is null or claimed_until <= now())
      order by id limit $2 for update skip locked) due
where o.id = due.id
returning o.id, o.kind, o.business_id, o.job_id, o.number, o.work, o.attempt,
          extract(epoch from now() - o.not_before)::float8 as "waited_seconds!"
