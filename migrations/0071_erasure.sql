-- Erasure of users (`cuponera forget`): the erasures that run, and what verifies the events that were erased after they were sealed.

-- An erasure that has begun. The row has the identifiers that are searched for; it is deleted when the erasure is complete.
create table erasure (
  business_id uuid not null constraint erasure_business references business,
  -- As the command names the user. `user_ids` also has the stored spelling, if that is another one.
  user_id text collate "C" not null,
  pseudonym text collate "C" not null,
  user_ids text[] not null,
  account_id uuid,
  emails text[] not null,
  -- Number of events that were changed.
  events bigint not null default 0,
  began_at timestamptz not null default now(),
  constraint erasure_pkey primary key (business_id, user_id)
);

-- Events of a seal that an erasure has changed: their ids, the hashes of their canonical lines after the change, and the salts of these
-- lines. The salts of the sealed lines are deleted. The position is that of the admin event which records the root over ids and hashes.
create table audit_erasure (
  number bigint not null generated always as identity,
  seal bigint not null,
  pseudonym text collate "C" not null,
  event_epoch smallint not null,
  event_tx xid8 not null,
  event_id uuid not null,
  ids bytea not null,
  leaves bytea not null,
  salts bytea not null,
  -- Under the key of the seals.
  hmac bytea not null,
  constraint audit_erasure_pkey primary key (number)
);
create index audit_erasure_of_seal on audit_erasure (seal, number);

-- A batch of an erasure changes this row, and a sealer appends a seal only if the row is as it was before the events were read: no seal
-- has the hash of an event as it was before its erasure.
create table audit_guard (
  only_row bool not null default true,
  erasures bigint not null default 0,
  constraint audit_guard_pkey primary key (only_row),
  constraint audit_guard_only_row check (only_row)
) with (fillfactor = 50);
insert into audit_guard default values;

-- The text with the new id in the place of each of the old ones that stands between separators of a file or of words.
create function erased_text(value text, olds text[], new text) returns text language plpgsql immutable as $$
declare
  old text;
begin
  foreach old in array olds loop
    if position(old in value) > 0 then
      value := regexp_replace(
        value, '(?<![^,;|"''[:space:]])' || regexp_replace(old, '([].*+?^$(){}|\\[])', '\\\1', 'g') || '(?![^,;|"''[:space:]])', new, 'g');
    end if;
  end loop;
  return value;
end $$;

-- The same for each text in a JSON value.
create function erased_json(value jsonb, olds text[], new text) returns jsonb language plpgsql immutable as $$
begin
  return case jsonb_typeof(value)
    when 'string' then to_jsonb(erased_text(value #>> '{}', olds, new))
    when 'object' then
      (select coalesce(jsonb_object_agg(o.key, erased_json(o.value, olds, new)), '{}') from jsonb_each(value) o)
    when 'array' then
      (select coalesce(jsonb_agg(erased_json(a.value, olds, new) order by a.n), '[]')
       from jsonb_array_elements(value) with ordinality a (value, n))
    else value end;
end $$;

-- The values before or after a change, as an admin event records them, without the user: `ids` are replaced by the pseudonym, `actors` by
-- the `erased_actors` at the same places. A login of the user also loses its address.
create function erased_values(recorded jsonb, ids text[], pseudonym text, actors text[], erased_actors text[])
returns jsonb language sql immutable as $$
  select case when jsonb_typeof(recorded) is distinct from 'object' then recorded else (
    select coalesce(jsonb_object_agg(key, case
      when key in ('userId', 'email', 'accountId', 'createdBy') and value #>> '{}' = any (ids) then to_jsonb(pseudonym)
      when key = 'createdBy' and value #>> '{}' = any (actors)
        then to_jsonb(erased_actors[array_position(actors, value #>> '{}')])
      when key = 'address' and recorded ->> 'accountId' = any (ids) then 'null'
      else value end), '{}')
    from jsonb_each(recorded)) end
$$;
