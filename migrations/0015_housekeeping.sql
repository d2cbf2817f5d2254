-- One process keeps house at a time, and the details of old jobs are deleted. The indexes that both need on large tables are
-- built while those are in use: see core::store::index.

-- The process that keeps house. Another one takes over when `until` has passed.
create table housekeeping_lease (
  id bool not null default true,
  holder text not null,
  until timestamptz not null,
  constraint housekeeping_lease_pkey primary key (id),
  constraint housekeeping_lease_single check (id)
) with (fillfactor = 50);
insert into housekeeping_lease (holder, until) values ('', now());

-- `discarding_at`: the chunks, uploads and errors files of the job are being deleted, so it cannot be retried.
-- `discarded_at`: they are gone. The row of the job stays.
do $$
begin
  perform lock_exclusively('job');
  alter table job
    add column discarding_at timestamptz,
    add column discarded_at timestamptz,
    add constraint job_discarding check (discarding_at is null or finished_at is not null) not valid,
    add constraint job_discarded check (discarded_at is null or discarding_at is not null) not valid;
end $$;
