-- Locks the codes that a job has reserved between two positions, and returns those that are still free: a program of the version
-- before may have assigned the others. $1 book, $2 and $3 positions, $4 job.
select code, position, version from coupon
where book_id = $1 and position between $2 and $3 and reserved_by = $4 and status = 'AVAILABLE'
order by position for update
