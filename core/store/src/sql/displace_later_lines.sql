-- If a later line of the same file has inserted the code of a staged row, moves the coupon to the position of the
-- staged row. Returns the codes and their old positions. A code that was ever assigned is not moved, because its events
-- refer to its position; nor is one that a distribution has reserved by its position. Postgres checks position and version again on the locked row.
--
-- $1 business, $2 job. Locks the rows in the order of the codes.
with later as materialized (
  select c.code, c.position as stood_at, s.position, s.metadata
  from staged_row s join coupon c on c.business_id = $1 and c.code = s.code
  where c.job_id = $2 and c.position > s.position and c.version = 0 and c.reserved_by is null
  order by c.code
  for update of c
),
displaced as (
  update coupon c set position = l.position, metadata = l.metadata
  from later l
  where c.business_id = $1 and c.code = l.code and c.job_id = $2 and c.version = 0 and c.reserved_by is null
  returning c.code, l.stood_at
)
delete from staged_row s using displaced d where s.code = d.code returning d.code, d.stood_at
