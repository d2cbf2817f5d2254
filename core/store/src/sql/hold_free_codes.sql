-- Locks free codes that no job has reserved, and returns them. Codes that other transactions hold are skipped.
-- $1 book, $2 how many codes.
select code, position, version from coupon
where book_id = $1 and is_free and reserved_by is null and suspended_at is null
order by position limit $2 for update skip locked
