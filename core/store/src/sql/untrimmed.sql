-- Counts the stored user ids and emails with characters that calls trim or reject, and those of them that no call
-- finds.
select count(*) as "user_ids!",
       count(*) filter (where exists (select from user_account a
                                      where a.business_id = u.business_id and a.user_id = u.stored)) as "accounts!",
       count(*) filter (where exists (select from coupon c
                                      where c.business_id = u.business_id and c.holder = u.stored)) as "holders!",
       count(*) filter (where not exists (select from stored_user_id s
                                          where s.business_id = u.business_id and s.stored = u.stored)) as "lost_user_ids!",
       (select count(*) from untrimmed_email) as "emails!",
       (select count(*) from untrimmed_email e
        where account_of_email(e.email) is distinct from e.account_id) as "lost_emails!"
from untrimmed_user_id u
