-- The rejected rows of imports, written in the commit of the chunk that rejects them. Before, each chunk wrote them into a file.

-- No foreign key to the job: each row would take a lock on the job's row. The rows are deleted with the details of the job.
create table import_rejection (
  job_id uuid not null,
  -- The number of the chunk. It may reject a line of another chunk, since the first line of a code is imported.
  chunk int not null,
  -- The physical line of the upload on which the row starts.
  line bigint not null,
  code text not null,
  reason text not null,
  detail text not null,
  row text not null,
  constraint import_rejection_pkey primary key (job_id, chunk, line)
);
