-- A page of the report of a distribution: its members after a given one, with the codes they got. The page ends after $3 members, or
-- with the member that reaches $4 codes.
--
-- $1 job, $2 ordinal of the member before the page.
with counted as (
  select m.ordinal, m.user_id, m.room, coalesce(g.given, 0) as given, g.note
  from (select ordinal, user_id, room from distribution_member where job_id = $1 and ordinal > $2 order by ordinal limit $3) m
  left join lateral (
    select sum(given)::bigint as given, max(note) as note from distribution_given where job_id = $1 and ordinal = m.ordinal) g on true
),
page as (
  select *, sum(given) over (order by ordinal) - given as given_before from counted
)
select p.ordinal as "ordinal!", p.user_id as "user_id!", p.given as "given!",
       coalesce((select string_agg(codes, ' ' order by slice) from distribution_given
                 where job_id = $1 and ordinal = p.ordinal and given > 0), '') as "codes!",
       coalesce(p.note, case when p.given >= p.room and p.given < d.level then 'limit_reached' end) as note
from page p join distribution d on d.job_id = $1
where p.given_before < $4::bigint
order by p.ordinal
