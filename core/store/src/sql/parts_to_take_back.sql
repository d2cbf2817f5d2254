-- Divides the codes that a distribution assigned into parts of similar size: the row of the report at which each part begins, and the
-- number of codes before it.
--
-- $1 job of the distribution, $2 maximum number of parts, $3 codes of a chunk: fewer codes are one part.
with whole as materialized (
  select coalesce(sum(given), 0)::bigint as codes from distribution_given where job_id = $1
),
given as (
  select ordinal, slice, sum(given) over (order by ordinal, slice) - given as codes_before
  from distribution_given where job_id = $1 and given > 0
),
numbered as (
  select g.*, w.codes, g.codes_before * least($2, (w.codes + $3 - 1) / $3) / w.codes as part from given g cross join whole w
)
select distinct on (part) ordinal as "ordinal!", slice as "slice!", codes_before as "codes_before!", codes as "codes!"
from numbered order by part, ordinal, slice
