-- Deletes a slice of the expired answers, oldest first. Returns their number and the time of the last.
--
-- $1 a time before which no answer exists, $2 hours that an answer is kept, $3 maximum number of answers.
with old as materialized (
  select ctid as row, at from request_key
  where at >= $1 and at < now() - make_interval(hours => $2)
  order by at limit $3
),
gone as (
  delete from request_key where ctid = any (array(select row from old)) returning 1
)
select (select count(*) from gone) as "deleted!", (select max(at) from old) as last
