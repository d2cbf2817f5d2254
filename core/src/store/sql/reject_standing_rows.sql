-- Takes the staged rows whose codes stand and stay out of the staged ones; answers the codes, and whether each comes from the
-- same file. What is left after this was deleted or displaced since the statements before, and is tried again.
--
-- $1 business, $2 job.
delete from staged_row s using coupon c
where c.business_id = $1 and c.code = s.code and not (c.job_id = $2 and c.position > s.position and c.version = 0)
returning c.code, c.job_id = $2
