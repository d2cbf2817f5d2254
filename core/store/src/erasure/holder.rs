//! The coupons of an erased user, with their redemptions and quotas.
//!
//! Coupons are locked by key, then quotas: the order of the calls. A coupon, its redemptions and the quotas change in one transaction, so that the
//! quota of a user is the number of the user's codes after each commit.

use std::collections::BTreeMap;

use sqlx::{PgTransaction, query, query_file_scalar, query_scalar};
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};

use super::{Erasure, execute};

/// Number of coupons that a batch locks: calls for other coupons of the user do not wait.
const COUPONS_AT_ONCE: i64 = 200;
/// Number of redemptions of a batch.
const REDEMPTIONS_AT_ONCE: i64 = 1_000;

impl Store {
    /// Erases the user in all coupons. Returns the number of changed rows.
    pub(super) async fn erase_coupons(&self, erasure: &Erasure) -> Result<i64> {
        let mut rows = 0;
        for id in &erasure.ids().user_ids {
            loop {
                let changed = self.erase_some_coupons(erasure, id).await?;
                if changed == 0 {
                    break;
                }
                rows += changed;
            }
        }
        Ok(rows)
    }

    async fn erase_some_coupons(&self, erasure: &Erasure, id: &str) -> Result<i64> {
        let (business, pseudonym) = (erasure.ids().business.0, erasure.pseudonym());
        let mut transaction = self.begin().await?;
        let codes = query_scalar!(
            "select code from coupon c
             where c.business_id = $1 and c.holder = $2
               and c.code = any (array(select h.code from coupon h where h.business_id = $1 and h.holder = $2
                                       order by h.assigned_at, h.code limit $3))
             order by c.code for update",
            business,
            id,
            COUPONS_AT_ONCE
        )
        .fetch_all(&mut *transaction)
        .await?;
        // The rows are locked, so each has the holder that the statement above has seen.
        let changed = query!(
            r#"update coupon set holder = $3 where business_id = $1 and code = any ($2) and holder = $4
               returning book_id, status <> 'VOID' as "is_counted!""#,
            business,
            &codes,
            pseudonym,
            id
        )
        .fetch_all(&mut *transaction)
        .await?;
        if changed.is_empty() {
            return Ok(0);
        }
        let mut counted = BTreeMap::<Uuid, i32>::new();
        for coupon in changed.iter().filter(|coupon| coupon.is_counted) {
            *counted.entry(coupon.book_id).or_default() += 1;
        }
        let (books, counts): (Vec<Uuid>, Vec<i32>) = counted.into_iter().unzip();
        move_quotas(&mut transaction, &books, &counts, id, pseudonym).await?;
        let redemptions = query!(
            "update redemption set user_id = $3 where business_id = $1 and code = any ($2) and user_id = $4",
            business,
            &codes,
            pseudonym,
            id
        );
        let redemptions = execute(&mut transaction, redemptions).await?;
        transaction.commit().await?;
        Ok(i64::try_from(changed.len()).map_err(Error::internal)? + redemptions)
    }

    /// Erases the user in the uses of SHARED codes, each code with its redemptions in one transaction. Returns the number of changed rows.
    pub(super) async fn erase_shared_uses(&self, erasure: &Erasure) -> Result<i64> {
        let (business, pseudonym) = (erasure.ids().business.0, erasure.pseudonym());
        let mut rows = 0;
        for id in &erasure.ids().user_ids {
            loop {
                let mut transaction = self.begin().await?;
                let codes = query_scalar!(
                    "select code from coupon
                     where business_id = $1
                       and code = any (array(select s.code from shared_use s where s.business_id = $1 and s.user_id = $2
                                             order by s.first_at, s.code limit $3))
                     order by code for update",
                    business,
                    id,
                    COUPONS_AT_ONCE
                )
                .fetch_all(&mut *transaction)
                .await?;
                if codes.is_empty() {
                    break;
                }
                let changed =
                    query_file_scalar!("src/sql/erase_shared_uses.sql", business, &codes, pseudonym, id);
                rows += changed.fetch_one(&mut *transaction).await?;
                transaction.commit().await?;
            }
        }
        Ok(rows)
    }

    /// Erases redemptions of codes that the user does not hold, which programs of this version do not leave behind.
    pub(super) async fn erase_redemptions(&self, erasure: &Erasure) -> Result<i64> {
        let mut rows = 0;
        loop {
            let mut transaction = self.begin().await?;
            let changed = query!(
                "update redemption set user_id = $3
                 where id in (select r.id from redemption r
                              where r.business_id = $1 and r.user_id = any ($2)
                                and not exists (select from coupon c where c.business_id = $1 and c.code = r.code
                                                  and c.holder = r.user_id)
                              limit $4)",
                erasure.ids().business.0,
                &erasure.ids().user_ids,
                erasure.pseudonym(),
                REDEMPTIONS_AT_ONCE
            );
            let changed = execute(&mut transaction, changed).await?;
            transaction.commit().await?;
            rows += changed;
            if changed == 0 {
                return Ok(rows);
            }
        }
    }

    /// Deletes the quotas of the user, from which all codes were moved.
    pub(super) async fn erase_quotas(&self, erasure: &Erasure) -> Result<i64> {
        let mut transaction = self.begin().await?;
        let deleted = query!(
            "delete from user_quota where (book_id, user_id) in (
               select q.book_id, q.user_id from coupon_book b join user_quota q on q.book_id = b.id
               where b.business_id = $1 and q.user_id = any ($2) and q.held = 0
               order by q.book_id, q.user_id for update of q)
             and held = 0",
            erasure.ids().business.0,
            &erasure.ids().user_ids
        );
        let deleted = execute(&mut transaction, deleted).await?;
        transaction.commit().await?;
        Ok(deleted)
    }
}

/// Moves the quotas of coupons that were erased: both quotas of a book are locked first, in the order of the calls.
async fn move_quotas(
    transaction: &mut PgTransaction<'static>,
    books: &[Uuid],
    counts: &[i32],
    id: &str,
    pseudonym: &str,
) -> Result<()> {
    query!(
        "select from user_quota where book_id = any ($1) and user_id = any (array[$2, $3]) order by book_id, user_id for update",
        books,
        id,
        pseudonym
    )
    .execute(&mut **transaction)
    .await?;
    query!(
        "update user_quota q set held = q.held - m.moved from unnest($1::uuid[], $2::int[]) m (book_id, moved)
         where q.book_id = m.book_id and q.user_id = $3",
        books,
        counts,
        id
    )
    .execute(&mut **transaction)
    .await?;
    // Without a cap: a new user with the same id may get as many codes during the erasure.
    query!(
        "insert into user_quota as q (book_id, user_id, held, granted)
         select m.book_id, $3, m.moved, m.moved from unnest($1::uuid[], $2::int[]) m (book_id, moved) order by m.book_id
         on conflict (book_id, user_id) do update set held = q.held + excluded.held, cap = null",
        books,
        counts,
        pseudonym
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
