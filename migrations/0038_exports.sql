-- Exports: jobs that write the codes, redemptions or events of a business to a file.

-- One row for each export whose files are kept. The name is null until the file is complete.
create table export_file (
  job_id uuid primary key,
  business_id uuid not null,
  name text,
  bytes bigint,
  made_at timestamptz,
  constraint export_file_complete check ((name is null) = (bytes is null) and (name is null) = (made_at is null))
);

-- The books of an export, in the order of the file, as the plan found them. `positions` is the number of positions that had been
-- given out. `imports` are the jobs that may still move codes to other positions.
create table export_book (
  job_id uuid not null,
  ordinal int not null,
  book_id uuid not null,
  positions int not null,
  imports uuid[] not null,
  constraint export_book_pkey primary key (job_id, ordinal)
);

-- The parts of an export that are written. A part is the chunk of that number; the epoch of its claim is in the name of its file.
create table export_part (
  job_id uuid not null,
  number int not null,
  epoch int not null,
  rows bigint not null,
  bytes bigint not null,
  constraint export_part_pkey primary key (job_id, number)
);

-- Files of exports count towards the storage quota of a business.
do $$
begin
  perform lock_exclusively('job_storage');
  alter table job_storage
    add column export_bytes bigint not null default 0,
    add constraint job_storage_export_bytes check (export_bytes >= 0) not valid;
end $$;
