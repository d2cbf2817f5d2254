-- Locks the codes that a job has reserved at these positions, and returns those that are still free: a program of the version before
-- may have assigned the others. $1 book, $2 positions, $3 job.
select code, position, version from coupon
where book_id = $1 and position = any($2) and reserved_by = $3 and status = 'AVAILABLE'
order by position for update
