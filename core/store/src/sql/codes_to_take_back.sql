-- The next codes that a distribution assigned, in the order of its report, each with its current assignment if that is still the one of
-- the distribution: the latest ASSIGN event of the code has the distribution as its actor. The event and the assignment are of one
-- snapshot.
--
-- $1 job of the distribution, $2 business; the place of the first code: $3 ordinal, $4 slice, $5 codes of that row before it; the row
-- after the last code: $6 ordinal, $7 slice, or null; $8 maximum number of codes; $9 only of these slices, if not null.
with next as (
  select ordinal, slice, given, codes from distribution_given
  where job_id = $1 and (ordinal, slice) >= ($3::int, $4::int) and ($6::int is null or (ordinal, slice) < ($6, $7::int))
    and given > 0 and ($9::text is null or slice <@ (select $9::text::int4multirange))
  order by ordinal, slice limit $8::bigint + 1
),
counted as (
  select *, sum(given) over (order by ordinal, slice) - given as codes_before from next
),
-- The rows that have the codes: only these texts are split.
code as materialized (
  select c.ordinal, c.slice, u.nth, u.code
  from counted c cross join lateral unnest(string_to_array(c.codes, ' ')) with ordinality u (code, nth)
  where c.codes_before < $8::bigint + $5::int and (c.ordinal, c.slice, u.nth) > ($3::int, $4::int, $5::int)
  order by c.ordinal, c.slice, u.nth limit $8::bigint
),
-- With a margin for a clock that was set back.
since as materialized (
  select created_at - interval '1 day' as at from job where id = $1
)
select d.ordinal as "ordinal!", d.slice as "slice!", d.nth::int as "nth!", d.code as "code!", m.user_id as "user_id!",
       case when e.actor = 'job:' || $1::text then c.assignment_id end as assignment_id
from code d
join distribution_member m on m.job_id = $1 and m.ordinal = d.ordinal
left join coupon c on c.business_id = $2 and c.code = d.code collate "C"
left join lateral (
  select actor from coupon_event
  where book_id = c.book_id and position = c.position and action = 'ASSIGN' and at >= (select at from since)
  order by version desc limit 1) e on true
order by d.ordinal, d.slice, d.nth
