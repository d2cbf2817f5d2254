-- Replaces a user in the rows of the next jobs of a business. `last` is null after the last job.
--
-- $1 business, $2 only jobs after this id, $3 number of jobs; $4 the user as an actor, $5 the actors in their place; $6 texts, $7 pseudonym.
with page as (
  select id from job where business_id = $1 and id > $2 order by id limit $3),
changed as (
  update job j
  set created_by = coalesce(($5::text[])[array_position($4::text[], j.created_by)], j.created_by),
      work = erased_json(j.work, $6, $7), result = erased_json(j.result, $6, $7), error = erased_json(j.error, $6, $7)
  from page p
  where j.id = p.id
    and (j.created_by = any ($4) or erased_json(j.work, $6, $7) <> j.work or erased_json(j.result, $6, $7) <> j.result
         or erased_json(j.error, $6, $7) <> j.error)
  returning j.id)
select (select id from page order by id desc limit 1) as last, (select count(*) from changed) as "changed!"
