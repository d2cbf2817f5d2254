-- `has_noted_codes`: the codes of the chunk are in `dry_run_code`, so the next chunk of its ordered job may be claimed. Earlier
-- versions note no codes, and claim the chunks of an ordered job one after the other.
do $$
begin
  perform lock_exclusively('job_chunk');
  alter table job_chunk add column has_noted_codes bool not null default false;
end $$;
