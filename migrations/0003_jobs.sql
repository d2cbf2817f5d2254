-- Long work: jobs, their chunks, and the code spaces that generation draws from.

-- For each pattern of a business a secret key and how far its permutation has been used.
create table code_space (
  business_id uuid not null constraint code_space_business references business,
  pattern text not null,
  key bytea not null,
  next_index bigint not null default 0,
  constraint code_space_pkey primary key (business_id, pattern),
  constraint code_space_key check (octet_length(key) = 32),
  constraint code_space_index check (next_index >= 0)
) with (fillfactor = 50);

-- The tally is kept here and is written in the commit that settles a chunk, never before.
create table job (
  id uuid primary key,
  business_id uuid not null constraint job_business references business,
  kind text not null,
  status text not null default 'QUEUED',
  book_id uuid,
  created_by text not null,
  work jsonb not null,
  -- Chunks of an ordered job run one after the other.
  ordered bool not null default false,
  total bigint,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  chunks_total int not null,
  chunks_done int not null default 0,
  chunks_failed int not null default 0,
  result jsonb not null default '{}',
  error jsonb,
  attempts int not null default 0,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  heartbeat_at timestamptz,
  claimed_at timestamptz,
  constraint job_status check (status in ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
  constraint job_kind check (kind in ('GENERATE_CODES', 'IMPORT_CODES', 'DISTRIBUTE', 'TAKE_BACK', 'VOID_CODES', 'EXPORT')),
  constraint job_chunks check (chunks_done >= 0 and chunks_failed >= 0 and chunks_done + chunks_failed <= chunks_total),
  constraint job_finished check ((finished_at is not null) = (status in ('SUCCEEDED', 'FAILED', 'CANCELLED')))
) with (fillfactor = 50);
create index job_of_business on job (business_id, id);
create index job_open on job (id) where status in ('QUEUED', 'RUNNING');

-- A claim raises `epoch` and holds the chunk until `lease_until`; settling needs the same epoch.
create table job_chunk (
  job_id uuid not null constraint job_chunk_job references job on delete cascade,
  number int not null,
  status text not null default 'READY',
  epoch int not null default 0,
  attempts int not null default 0,
  crashes int not null default 0,
  run_at timestamptz not null default now(),
  claimed_at timestamptz,
  lease_until timestamptz,
  worker text,
  work jsonb not null,
  errors_file text,
  error text,
  constraint job_chunk_pkey primary key (job_id, number),
  constraint job_chunk_status check (status in ('READY', 'RUNNING', 'DONE', 'FAILED')),
  constraint job_chunk_lease check ((status = 'RUNNING') = (lease_until is not null))
) with (fillfactor = 70);
create index job_chunk_open on job_chunk (job_id, number) where status in ('READY', 'RUNNING');

-- Codes a dry run has seen in its file, so that a later line is known as a duplicate. Emptied when the job ends.
create table dry_run_code (
  job_id uuid not null constraint dry_run_code_job references job on delete cascade,
  code text collate "C" not null,
  constraint dry_run_code_pkey primary key (job_id, code)
);

-- Adds one chunk's part of a result to a job's: numbers are summed, anything else is replaced.
create function job_result_add(whole jsonb, part jsonb) returns jsonb language sql immutable as $$
  select whole || coalesce(jsonb_object_agg(key,
    case when jsonb_typeof(value) = 'number' and jsonb_typeof(whole -> key) = 'number'
         then to_jsonb((whole ->> key)::numeric + value::numeric) else value end), '{}')
  from jsonb_each(part)
$$;
