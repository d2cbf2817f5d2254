-- Adds a chunk that divides the codes again to each take-back of these jobs, unless such a chunk has not run yet.
--
-- $1 jobs, whose rows the transaction holds; $2 the work of the chunk.
with divided as (
  update job j set chunks_total = j.chunks_total + 1
  where j.id = any($1) and j.kind = 'TAKE_BACK' and j.status = 'FAILED'
    and not exists (select from job_chunk c where c.job_id = j.id and c.work->>'step' = 'DIVIDE' and c.status <> 'DONE')
  returning j.id, j.chunks_total - 1 as number
)
insert into job_chunk (job_id, number, work) select id, number, $2 from divided
