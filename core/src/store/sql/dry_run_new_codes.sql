-- Notes the codes that a dry run sees and answers those it had not seen before. $1 job, $2 codes.
insert into dry_run_code (job_id, code)
select $1, code from unnest($2::text[]) as seen (code) order by code
on conflict do nothing
returning code
