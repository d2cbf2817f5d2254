-- Where a later line of the same file has brought the code of a staged row, gives its place to the staged row; answers the codes
-- and where they stood. A code that has been given out stays: its events are kept by its position. Once the lock is
-- there, Postgres looks at the position and the version of the row again.
--
-- $1 business, $2 job. Takes the rows in the order of the codes.
with later as materialized (
  select c.code, c.position as stood_at, s.position, s.metadata
  from staged_row s join coupon c on c.business_id = $1 and c.code = s.code
  where c.job_id = $2 and c.position > s.position and c.version = 0
  order by c.code
  for update of c
),
displaced as (
  update coupon c set position = l.position, metadata = l.metadata
  from later l
  where c.business_id = $1 and c.code = l.code and c.job_id = $2 and c.version = 0
  returning c.code, l.stood_at
)
delete from staged_row s using displaced d where s.code = d.code returning d.code, d.stood_at
