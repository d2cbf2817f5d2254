-- What a job's owner should know although the job is done as asked: `[{code, detail}]`, empty for most.

alter table job
  add column warnings jsonb not null default '[]'
  constraint job_warnings check (jsonb_typeof(warnings) = 'array');
