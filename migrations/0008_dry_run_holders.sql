-- The user to whom an import would assign each code of a dry run: limits of users are counted over all parts of the file.
-- Null where the row has no user, or where the business has the code already.

alter table dry_run_code add column holder text collate "C";
create index dry_run_code_holder on dry_run_code (job_id, holder) where holder is not null;
