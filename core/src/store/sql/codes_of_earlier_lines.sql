-- Of these codes, those that are noted with another line: an earlier one. $1 job, $2 codes, $3 lines.
select n.code as "code!"
from unnest($2::text[], $3::bigint[]) as n (code, line)
join dry_run_code d on d.job_id = $1 and d.code = n.code collate "C"
where d.line <> n.line
