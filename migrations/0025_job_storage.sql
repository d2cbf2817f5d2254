-- How many bytes of uploads and rejected rows are stored, by job, so that a business can have a quota.

-- No foreign key to the job: an upload is stored before its job is written. What earlier versions stored is not in it.
create table job_storage (
  job_id uuid primary key,
  business_id uuid not null,
  upload_bytes bigint not null default 0,
  rejection_bytes bigint not null default 0,
  -- When the last part of the upload was reserved.
  reserved_at timestamptz not null default now(),
  constraint job_storage_bytes check (upload_bytes >= 0 and rejection_bytes >= 0)
) with (fillfactor = 70);
create index job_storage_business on job_storage (business_id) include (upload_bytes, rejection_bytes);
create index job_storage_upload on job_storage (job_id) where upload_bytes > 0;
