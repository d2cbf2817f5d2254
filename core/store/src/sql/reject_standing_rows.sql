-- Deletes the staged rows whose codes exist and cannot be moved. Returns the codes, and whether each is from the same
-- file. Rows that remain staged had codes that were deleted or moved since the previous statements; they are tried
-- again.
--
-- $1 business, $2 job.
delete from staged_row s using coupon c
where c.business_id = $1 and c.code = s.code and not (c.job_id = $2 and c.position > s.position and c.version = 0
                                                          and c.reserved_by is null)
returning c.code, c.job_id = $2
