-- How the codes of a book get their holders. The programs of this version create UNIQUE and BEARER books only. Earlier versions treat each
-- book as UNIQUE: create a BEARER book when all programs are of this version.

do $$
begin
  perform lock_exclusively('coupon_book');
  alter table coupon_book
    add column code_kind text not null default 'UNIQUE',
    add constraint coupon_book_code_kind check (code_kind in ('UNIQUE', 'BEARER', 'SHARED')) not valid;
  drop trigger admin_event_update on coupon_book;
  create trigger admin_event_update
    after update of name, description, status, code_kind, max_codes_per_user, max_redeems_per_user, total_codes_expected, starts_at,
                    expires_at, code_valid_days, lock_ttl_seconds, require_lock, discount, metadata
    on coupon_book for each row execute function admin_event_of_row('BOOK', 'UPDATE');
end $$;

create or replace function admin_values(book coupon_book) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'name', book.name, 'description', book.description, 'status', book.status, 'codeKind', book.code_kind,
    'maxCodesPerUser', book.max_codes_per_user, 'maxRedeemsPerUser', book.max_redeems_per_user,
    'totalCodesExpected', book.total_codes_expected, 'startsAt', api_time(book.starts_at), 'expiresAt', api_time(book.expires_at),
    'codeValidDays', book.code_valid_days, 'lockTtlSeconds', book.lock_ttl_seconds, 'requireLock', book.require_lock,
    'discount', book.discount, 'metadata', book.metadata)
$$;
