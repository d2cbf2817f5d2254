-- User ids and emails are trimmed wherever they enter the system. Versions before this one stored what stood at their
-- ends. Those ids and emails are kept as they are, and are noted here: a trimmed one finds the stored one.
--
-- Notes are rows of small tables, not indexes on the large ones: building an index would block writes while it scans.
-- The next step notes what is stored already. The triggers note what a program of the version before stores while the
-- fleet is upgraded. They are on user_quota, not on coupon: each holder of a code has a row there, which is inserted
-- once, and a trigger for updates would make every update of its table read the old row.

-- The text without blanks (White_Space) and format characters (Cf) at its ends: the same as `core::text::trim`.
create function trimmed(text) returns text language sql immutable strict parallel safe as $$
  select regexp_replace($1,
    '^[\t-\r \u0085\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f'
    '\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3'
    '\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]+'
    '|[\t-\r \u0085\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f'
    '\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3'
    '\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]+$', '', 'g')
$$;

-- Whether a control or format character, or a separator of lines or paragraphs, is in the text: no call can name such an
-- id. The same as `core::text::is_control_or_format` of any character.
create function has_hidden_characters(text) returns bool language sql immutable strict parallel safe as $$
  select $1 ~ ('[\u0001-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f'
    '\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f'
    '\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]')
$$;

create function note_untrimmed_holder() returns trigger language plpgsql as $$
begin
  if new.user_id <> trimmed(new.user_id) or has_hidden_characters(new.user_id) then
    perform note_untrimmed_user_id(b.business_id, new.user_id) from coupon_book b where b.id = new.book_id;
  end if;
  return null;
end $$;

-- A trigger needs a moment without writers, and who waits for that keeps all later writers waiting. So it waits briefly, and
-- again. Most ids are visible ASCII: asking that first keeps the cost of the trigger out of an assignment.
do $$
begin
  set local lock_timeout = '100ms';
  loop
    begin
      create trigger user_quota_untrimmed after insert on user_quota for each row
        when (new.user_id ~ '[^!-~]') execute function note_untrimmed_holder();
      exit;
    exception when lock_not_available then
      perform pg_sleep(0.2);
    end;
  end loop;
  reset lock_timeout;
end $$;

-- Stored user ids that are not as a call names them. `user_id` is the trimmed one; `is_found` says whether it finds
-- `stored`: it does if it was no id of its own and no other stored id is the same when trimmed. That is settled when the
-- note is made. Otherwise the id of one person could find the codes of another as soon as its own are all revoked.
create table untrimmed_user_id (
  business_id uuid not null constraint untrimmed_user_id_business references business,
  stored text collate "C" not null,
  user_id text collate "C" not null,
  is_found bool not null,
  constraint untrimmed_user_id_pkey primary key (business_id, stored)
);
create unique index untrimmed_user_id_found on untrimmed_user_id (business_id, user_id) where is_found;

-- The same for emails, which are one account in the whole installation.
create table untrimmed_email (
  account_id uuid not null constraint untrimmed_email_account references user_account on delete cascade,
  email text collate "C" not null,
  is_found bool not null,
  constraint untrimmed_email_pkey primary key (account_id)
);
create unique index untrimmed_email_found on untrimmed_email (email) where is_found;

-- What a trimmed user id finds, where that is another spelling. An account of the id itself always goes first.
create view stored_user_id as
  select u.business_id, u.user_id, u.stored from untrimmed_user_id u
  where u.is_found
    and not exists (select from user_account a where a.business_id = u.business_id and a.user_id = u.user_id);

-- The account that an email finds.
create function account_of_email(text) returns uuid language sql stable as $$
  select coalesce(
    (select id from user_account where email = lower($1)),
    (select account_id from untrimmed_email where email = lower($1) and is_found))
$$;

-- Every user id of a business, some of them more than once.
create view used_user_id as
  select business_id, user_id from user_account
  union all
  select business_id, holder from coupon where holder is not null
  union all
  select b.business_id, q.user_id from user_quota q join coupon_book b on b.id = q.book_id;

create function note_untrimmed_user_id(business uuid, id text) returns void language sql as $$
  insert into untrimmed_user_id (business_id, stored, user_id, is_found)
  select business, id, t, t <> '' and not has_hidden_characters(t)
    and not exists (select from used_user_id u where u.business_id = business and u.user_id = t)
    and not exists (select from untrimmed_user_id o where o.business_id = business and o.user_id = t and o.is_found)
  from trimmed(id) t
  on conflict do nothing
$$;

create function note_untrimmed_account() returns trigger language plpgsql as $$
begin
  if new.user_id <> trimmed(new.user_id) or has_hidden_characters(new.user_id) then
    perform note_untrimmed_user_id(new.business_id, new.user_id);
  end if;
  if new.email <> trimmed(new.email) then
    insert into untrimmed_email (account_id, email, is_found)
    values (new.id, trimmed(new.email),
      not exists (select from user_account where email = trimmed(new.email))
      and not exists (select from untrimmed_email where email = trimmed(new.email) and is_found))
    on conflict do nothing;
  end if;
  return null;
end $$;
create trigger user_account_untrimmed after insert on user_account for each row
  when (new.user_id ~ '[^!-~]' or new.email ~ '[^!-~]') execute function note_untrimmed_account();
