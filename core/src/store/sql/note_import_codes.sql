-- Notes the codes of a chunk with their lines. A code that is noted already stands on an earlier line, or was noted by an earlier
-- try at this chunk.
--
-- $1 job, $2 codes, $3 lines.
insert into dry_run_code (job_id, code, line)
select $1, code, line from unnest($2::text[], $3::bigint[]) as noted (code, line) order by code
on conflict do nothing
