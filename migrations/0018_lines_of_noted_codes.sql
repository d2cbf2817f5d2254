-- Parts of a file that names users are worked side by side: each first notes its codes with their lines, so that the parts
-- after it know which of their codes stand on an earlier line.

-- `line`: the first line of the file that has the code, if the job imports codes. Null in a dry run.
do $$
begin
  perform lock_exclusively('dry_run_code');
  alter table dry_run_code add column line bigint;
end $$;
