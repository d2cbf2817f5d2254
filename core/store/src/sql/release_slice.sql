-- Takes one slice of a job that is over, whose codes are still reserved, and locks it. A slice that a chunk holds is skipped.
select s.job_id, s.number, s.book_id, s.positions as "positions!"
from distribution_slice s join job j on j.id = s.job_id
where s.positions is not null and j.status in ('SUCCEEDED', 'FAILED', 'CANCELLED')
order by s.job_id, s.number limit 1
for update of s skip locked
