-- API keys may be limited to permissions and books, and may expire.
--
-- A key with a limit is stored under another hash (store/api_key.rs): a program that does not know these columns does not find
-- it, instead of taking it for a key without limits.
do $$
begin
  perform lock_exclusively('api_key');
  alter table api_key
    add column permissions text[],
    add column book_ids uuid[],
    add column expires_at timestamptz,
    add column last_used_at timestamptz;
end $$;
