-- Admin events of books. Changes of `next_position`, by each job that adds codes, and of `updated_at` alone are none.

create function admin_values(book coupon_book) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'name', book.name, 'description', book.description, 'status', book.status, 'maxCodesPerUser', book.max_codes_per_user,
    'maxRedeemsPerUser', book.max_redeems_per_user, 'totalCodesExpected', book.total_codes_expected,
    'startsAt', api_time(book.starts_at), 'expiresAt', api_time(book.expires_at), 'codeValidDays', book.code_valid_days,
    'lockTtlSeconds', book.lock_ttl_seconds, 'requireLock', book.require_lock, 'discount', book.discount,
    'metadata', book.metadata)
$$;

do $$
begin
  perform lock_exclusively('coupon_book');
  create trigger admin_event_create after insert on coupon_book for each row execute function admin_event_of_row('BOOK', 'CREATE');
  create trigger admin_event_update
    after update of name, description, status, max_codes_per_user, max_redeems_per_user, total_codes_expected, starts_at, expires_at,
                    code_valid_days, lock_ttl_seconds, require_lock, discount, metadata
    on coupon_book for each row execute function admin_event_of_row('BOOK', 'UPDATE');
  create trigger admin_event_delete after delete on coupon_book for each row execute function admin_event_of_row('BOOK', 'DELETE');
end $$;
