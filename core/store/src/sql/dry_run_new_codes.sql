-- Records the codes of a dry run, or of an upload of assignments, with their holders, and returns the codes that were not recorded before. $1 job, $2
-- codes, $3 holders.
insert into dry_run_code (job_id, code, holder)
select $1, code, holder from unnest($2::text[], $3::text[]) as seen (code, holder) order by code
on conflict do nothing
returning code
