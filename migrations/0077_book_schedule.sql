-- When the codes of a book can be locked and redeemed: windows of the week in the time zone of the book. Earlier versions ignore a schedule:
-- set one when all programs are of this version.
--
-- `schedule` has the windows as the API writes them. `schedule_minutes` has the same windows for the statements that check them: the minutes of
-- the week on the clocks of the time zone, from Monday 00:00 (0) to Sunday 24:00 (10080).

-- The minutes of a schedule. A window that ends at or before its start ends on the next day.
create function schedule_minutes_of(schedule jsonb) returns int4multirange language sql immutable parallel safe as $$
  select range_agg(part)
  from jsonb_to_recordset(schedule) as w (days jsonb, "from" text, "to" text)
  cross join lateral (select split_part(w."from", ':', 1)::int * 60 + split_part(w."from", ':', 2)::int as opens,
                             split_part(w."to", ':', 1)::int * 60 + split_part(w."to", ':', 2)::int as closes) m
  cross join lateral jsonb_array_elements_text(w.days) as d (name)
  cross join lateral (select (array_position(array['MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN'], d.name) - 1) * 1440 + m.opens as first,
                             case when m.closes > m.opens then m.closes - m.opens else 1440 + m.closes - m.opens end as minutes) l
  -- What follows Sunday 24:00 is on Monday.
  cross join lateral (values (int4range(l.first, least(l.first + l.minutes, 10080))),
                             (int4range(0, greatest(l.first + l.minutes - 10080, 0)))) as p (part)
$$;

-- Whether a schedule is open at a time: whether the clocks of the time zone show a minute of it. A minute that the clocks skip is never shown, and
-- one that they show twice is open both times. Postgres inlines this function: it costs a microsecond.
create function schedule_is_open(minutes int4multirange, time_zone text, at timestamptz) returns boolean
language sql immutable parallel safe
return minutes @> (floor(date_part('epoch', (at at time zone time_zone) - timestamp '2001-01-01') / 60)::bigint % 10080)::int;

-- For how many seconds an open schedule stays open if the clocks do not change meanwhile; null: always.
create function schedule_seconds_left(minutes int4multirange, time_zone text, at timestamptz) returns int
language sql immutable parallel safe as $$
  select (case when upper(part) = 10080 and minutes @> 0 then 10080 + (select upper(monday) from unnest(minutes) monday where monday @> 0)
               else upper(part) end) * 60 - second
  from (select (floor(date_part('epoch', (at at time zone time_zone) - timestamp '2001-01-01'))::bigint % 604800)::int as second) s
  join unnest(minutes) part on part @> (second / 60)
  where part <> int4range(0, 10080)
$$;

-- How far the clocks of a time zone are ahead of UTC.
create function ahead_of_utc(time_zone text, at timestamptz) returns interval language sql immutable parallel safe
return (at at time zone time_zone) - (at at time zone 'UTC');

-- The first time, from `at` on, at which a schedule is open. It opens at the start of a window, or when the clocks change into one. A change of the
-- clocks can skip a window in one week, so three weeks are searched.
create function schedule_opens_at(minutes int4multirange, time_zone text, at timestamptz) returns timestamptz
language sql stable parallel safe as $$
  with day as (
    select start, ahead_of_utc(time_zone, start) as ahead
    from generate_series(date_trunc('minute', at), at + interval '528 hours', interval '24 hours') start
  ),
  -- The minutes in which the clocks change: in a day, in an hour of it, in a minute of it.
  change as (
    select (select min(minute) from generate_series(h.hour - interval '59 minutes', h.hour, interval '1 minute') minute
            where ahead_of_utc(time_zone, minute) <> h.ahead) as minute
    from (select d.ahead, (select min(hour) from generate_series(d.start, d.start + interval '24 hours', interval '1 hour') hour
                           where ahead_of_utc(time_zone, hour) <> d.ahead) as hour
          from (select start, ahead, lead(ahead) over (order by start) as next from day) d where d.ahead <> d.next) h
  ),
  -- Each start of a window, by each offset of these weeks. A time by a wrong offset is not before the opening, or not open.
  candidate as (
    select at as opening
    union all
    select (date_trunc('week', at at time zone time_zone) + (week * 10080 + lower(part)) * interval '1 minute' - ahead) at time zone 'UTC'
    from generate_series(0, 3) week, unnest(minutes) part, (select distinct ahead from day) d
    union all
    select minute from change
  )
  select min(opening) from candidate where opening >= at and schedule_is_open(minutes, time_zone, opening)
$$;

create function schedule_minutes_write() returns trigger language plpgsql as $$
begin
  new.schedule_minutes := schedule_minutes_of(new.schedule);
  return new;
end $$;

do $$
begin
  perform lock_exclusively('coupon_book');
  alter table coupon_book
    add column schedule jsonb,
    add column schedule_minutes int4multirange,
    add column time_zone text not null default 'UTC';
  create trigger schedule_minutes before insert or update of schedule, schedule_minutes on coupon_book
    for each row execute function schedule_minutes_write();
  drop trigger admin_event_update on coupon_book;
  create trigger admin_event_update
    after update of name, description, status, code_kind, max_codes_per_user, max_redeems_per_user, total_codes_expected, starts_at,
                    expires_at, code_valid_days, lock_ttl_seconds, require_lock, discount, metadata, schedule, time_zone
    on coupon_book for each row execute function admin_event_of_row('BOOK', 'UPDATE');
end $$;

create or replace function admin_values(book coupon_book) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'name', book.name, 'description', book.description, 'status', book.status, 'codeKind', book.code_kind,
    'maxCodesPerUser', book.max_codes_per_user, 'maxRedeemsPerUser', book.max_redeems_per_user,
    'totalCodesExpected', book.total_codes_expected, 'startsAt', api_time(book.starts_at), 'expiresAt', api_time(book.expires_at),
    'codeValidDays', book.code_valid_days, 'lockTtlSeconds', book.lock_ttl_seconds, 'requireLock', book.require_lock,
    'discount', book.discount, 'metadata', book.metadata, 'schedule', book.schedule, 'timeZone', book.time_zone)
$$;
