-- Divides codes that a distribution assigned into parts of similar size: the row of the report at which each part begins, and the number of
-- codes before it. Codes of slices that the job has divided before are left out, and count as before the others.
--
-- $1 job of the distribution, $2 maximum number of parts, $3 codes of a chunk: fewer codes are one part, $4 job that takes them back.
--
-- `divided` has the slices of the parts that exist.
with divided as materialized (
  select coalesce(range_agg(p.slices), '{}') as slices
  from (select distinct (work->>'slices')::int4multirange as slices from job_chunk where job_id = $4 and work->>'step' = 'PART') p
),
whole as materialized (
  select coalesce(sum(g.given) filter (where not g.slice <@ d.slices), 0)::bigint as codes,
         coalesce(sum(g.given) filter (where g.slice <@ d.slices), 0)::bigint as codes_before
  from distribution_given g cross join divided d where g.job_id = $1
),
-- The slices that are divided now.
further as materialized (
  select range_agg(int4range(s.slice, s.slice + 1))::text as slices
  from (select distinct g.slice from distribution_given g cross join divided d
        where g.job_id = $1 and not g.slice <@ d.slices) s
),
given as (
  select g.ordinal, g.slice, sum(g.given) over (order by g.ordinal, g.slice) - g.given as codes_before
  from distribution_given g cross join divided d
  where g.job_id = $1 and g.given > 0 and not g.slice <@ d.slices
),
numbered as (
  select g.ordinal, g.slice, w.codes_before + g.codes_before as codes_before, w.codes_before + w.codes as codes,
         g.codes_before * least($2, (w.codes + $3 - 1) / $3) / w.codes as part
  from given g cross join whole w
)
select distinct on (n.part) n.ordinal as "ordinal!", n.slice as "slice!", n.codes_before as "codes_before!", n.codes as "codes!",
       f.slices as "slices!"
from numbered n cross join further f order by n.part, n.ordinal, n.slice
