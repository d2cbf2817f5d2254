-- Whom a dry run would give each code to, so that users' limits are counted over all parts of its file. Null where the row
-- names nobody, or where the business has the code already.

alter table dry_run_code add column holder text collate "C";
create index dry_run_code_holder on dry_run_code (job_id, holder) where holder is not null;
