-- The times at which intervals of a time zone begin, from before a window to after it, in their order.
--
-- $1 begin or null, $2 end or null: the current time; $3 `hour`, `day`, `week` or `month`; $4 time zone; $5 number of intervals of
-- a window without a begin.
with given as (
  select coalesce($2::timestamptz, now()) as last, ('1 ' || $3::text)::interval as one
),
-- The begin by default is counted in local time: 30 months before 31 March.
wanted as (
  select coalesce($1::timestamptz, ((last at time zone $4) - one * $5::int) at time zone $4) as first, last, one from given
),
-- Hours are found by their quarters, because some time zones set their clocks by half an hour.
edge as (
  select local at time zone $4 as at
  from wanted, generate_series(date_trunc($3, first at time zone $4) - one, date_trunc($3, last at time zone $4) + 2 * one, one) local
  where $3 <> 'hour'
  union all
  select quarter
  from wanted, generate_series(stat_bucket_of(first) - 2 * one, stat_bucket_of(last) + 2 * one, interval '15 minutes') quarter
  where $3 = 'hour' and extract(minute from quarter at time zone $4) = 0
)
select now() as "now!", (select first from wanted) as "first!", (select last from wanted) as "last!",
       array(select at from edge order by at) as "edges!"
