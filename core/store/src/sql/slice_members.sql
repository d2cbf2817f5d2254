-- The members of a slice with the ids under which their codes are stored. $1 business, $2 job, $3 ordinals.
select m.ordinal, coalesce(s.stored, m.user_id) as "holder!"
from unnest($3::int[]) a (ordinal)
join distribution_member m on m.job_id = $2 and m.ordinal = a.ordinal
left join stored_user_id s on s.business_id = $1 and s.user_id = m.user_id
order by m.ordinal
