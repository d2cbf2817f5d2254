-- Wake-ups on their way to a queue outside the database, and a note of those that were sent again.

-- Written in the commit that makes a chunk runnable, or that sets one aside for good; deleted once the queue has it. Empty
-- where the queue is the database itself. No reference to the job: a wake-up whose job is gone finds nothing.
create table outbox (
  id bigint generated always as identity,
  kind text not null,
  business_id uuid not null,
  job_id uuid not null,
  number int not null,
  work text not null,
  -- How often the job had been started: tells a dead letter of this run from one of an earlier run.
  attempt int not null,
  not_before timestamptz not null default now(),
  -- Whoever sends it holds it until then; who dies over it loses nothing.
  claimed_until timestamptz,
  constraint outbox_pkey primary key (id),
  constraint outbox_kind check (kind in ('CHUNK', 'DEAD'))
) with (fillfactor = 70);
create index outbox_of_chunk on outbox (job_id, number);

-- When a chunk that nobody came for was announced again, and how often since its last claim.
alter table job_chunk add column rescued_at timestamptz, add column rescues int not null default 0;
