//! The places, other than accounts, coupons and events, that have ids of users.

use sqlx::{query, query_file, query_scalar};
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};

use super::{Erasure, execute};

/// Number of rows of a table that a batch reads.
const ROWS_AT_ONCE: i64 = 20_000;
/// Number of jobs that a batch reads. Each may have a result of some KB.
const JOBS_AT_ONCE: i64 = 1_000;
/// Number of chunks whose rejected rows a batch reads: at most 5,000 rows each.
const CHUNKS_AT_ONCE: i32 = 4;

/// A place that is searched in each pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Coupons,
    SharedUses,
    Redemptions,
    Quotas,
    RecipientKeys,
    Pools,
    TopHolders,
    Jobs,
    Answers,
    Deliveries,
}

/// All places, in the order of a pass.
pub(super) const ALL: [Place; 10] = [
    Place::Coupons,
    Place::SharedUses,
    Place::Redemptions,
    Place::Quotas,
    Place::RecipientKeys,
    Place::Pools,
    Place::TopHolders,
    Place::Jobs,
    Place::Answers,
    Place::Deliveries,
];

impl Store {
    /// Erases the user in a place. Returns the number of changed rows.
    pub(super) async fn erase_place(&self, erasure: &Erasure, place: Place) -> Result<i64> {
        match place {
            Place::Coupons => self.erase_coupons(erasure).await,
            Place::SharedUses => self.erase_shared_uses(erasure).await,
            Place::Redemptions => self.erase_redemptions(erasure).await,
            Place::Quotas => self.erase_quotas(erasure).await,
            Place::RecipientKeys => self.erase_recipient_keys(erasure).await,
            Place::Pools => self.erase_members(erasure).await,
            Place::TopHolders => self.erase_top_holders(erasure).await,
            Place::Jobs => self.erase_jobs(erasure).await,
            Place::Answers => self.erase_answers(erasure).await,
            Place::Deliveries => self.erase_deliveries(erasure).await,
        }
    }

    /// The keys are replaced too: they may contain the id, and a later user with them is a new one.
    async fn erase_recipient_keys(&self, erasure: &Erasure) -> Result<i64> {
        let mut transaction = self.begin().await?;
        let changed = query!(
            "update recipient_key set user_id = $3, key = 'erased-' || gen_random_uuid()
             where business_id = $1 and user_id = any ($2)",
            erasure.ids().business.0,
            &erasure.ids().user_ids,
            erasure.pseudonym()
        );
        let changed = execute(&mut transaction, changed).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    async fn erase_members(&self, erasure: &Erasure) -> Result<i64> {
        let mut rows = 0;
        for id in &erasure.ids().user_ids {
            let mut transaction = self.begin().await?;
            let changed = query!(
                "update pool_member m set user_id = $3 from user_pool p
                 where p.business_id = $1 and m.pool_id = p.id and m.user_id = $2
                   and not exists (select from pool_member o where o.pool_id = m.pool_id and o.user_id = $3)",
                erasure.ids().business.0,
                id,
                erasure.pseudonym()
            );
            rows += execute(&mut transaction, changed).await?;
            // Another spelling of the id was a member too.
            let removed = query!(
                "with gone as (
                   delete from pool_member m using user_pool p
                   where p.business_id = $1 and m.pool_id = p.id and m.user_id = $2 returning m.pool_id)
                 update user_pool p set member_count = member_count - 1 from gone where p.id = gone.pool_id",
                erasure.ids().business.0,
                id
            );
            rows += execute(&mut transaction, removed).await?;
            transaction.commit().await?;
        }
        Ok(rows)
    }

    async fn erase_top_holders(&self, erasure: &Erasure) -> Result<i64> {
        let mut transaction = self.begin().await?;
        let changed = query!(
            "update stat_top_holder t set holders = (
               select jsonb_agg(case when h.holder ->> 'user_id' = any ($2)
                                     then jsonb_set(h.holder, '{user_id}', to_jsonb($3::text)) else h.holder end order by h.n)
               from jsonb_array_elements(t.holders) with ordinality h (holder, n))
             where (t.scope_id = $1 or t.scope_id in (select id from coupon_book where business_id = $1))
               and exists (select from jsonb_array_elements(t.holders) h where h ->> 'user_id' = any ($2))",
            erasure.ids().business.0,
            &erasure.ids().user_ids,
            erasure.pseudonym()
        );
        let changed = execute(&mut transaction, changed).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Jobs, their chunks, rejected rows, and reports. Of a job whose details are deleted, the row remains.
    async fn erase_jobs(&self, erasure: &Erasure) -> Result<i64> {
        let texts = erasure.texts_in_rows();
        let (mut rows, mut after) = (0, Uuid::nil());
        while let Some((last, changed)) = self.erase_some_jobs(erasure, &texts, after).await? {
            after = last;
            rows += changed;
        }
        let jobs = query!(
            "select id, chunks_total, kind from job where business_id = $1 and discarded_at is null order by id",
            erasure.ids().business.0
        )
        .fetch_all(&self.pool)
        .await?;
        for job in jobs {
            rows += self.erase_chunks(erasure, job.id, &texts).await?;
            match job.kind.as_str() {
                "DISTRIBUTE" => rows += self.erase_report(erasure, job.id).await?,
                "IMPORT_CODES" | "IMPORT_MEMBERS" | "ASSIGN_CODES" => {
                    rows += self.erase_rejected_rows(erasure, job.id, job.chunks_total, &texts).await?;
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    async fn erase_some_jobs(
        &self,
        erasure: &Erasure,
        texts: &[String],
        after: Uuid,
    ) -> Result<Option<(Uuid, i64)>> {
        let mut transaction = self.begin().await?;
        let done = query_file!(
            "src/sql/erase_jobs.sql",
            erasure.ids().business.0,
            after,
            JOBS_AT_ONCE,
            &erasure.ids().actors,
            &erasure.ids().erased_actors,
            texts,
            erasure.pseudonym()
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.last.map(|last| (last, done.changed)))
    }

    async fn erase_chunks(&self, erasure: &Erasure, job: Uuid, texts: &[String]) -> Result<i64> {
        let mut transaction = self.begin().await?;
        let changed = query!(
            "update job_chunk set work = erased_json(work, $2, $3) where job_id = $1 and erased_json(work, $2, $3) <> work",
            job,
            texts,
            erasure.pseudonym()
        );
        let mut rows = execute(&mut transaction, changed).await?;
        let noted = query!(
            "update dry_run_code set holder = $3 where job_id = $1 and holder = any ($2)",
            job,
            &erasure.ids().user_ids,
            erasure.pseudonym()
        );
        rows += execute(&mut transaction, noted).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    async fn erase_report(&self, erasure: &Erasure, job: Uuid) -> Result<i64> {
        let last = query_scalar!("select max(ordinal) from distribution_member where job_id = $1", job)
            .fetch_one(&self.pool)
            .await?;
        let (mut rows, mut from) = (0, 0);
        let step = i32::try_from(ROWS_AT_ONCE).map_err(Error::internal)?;
        while last.is_some_and(|last| from <= last) {
            let mut transaction = self.begin().await?;
            let changed = query!(
                "update distribution_member set user_id = $4
                 where job_id = $1 and ordinal >= $2 and ordinal < $2 + $5 and user_id = any ($3)",
                job,
                from,
                &erasure.ids().user_ids,
                erasure.pseudonym(),
                step
            );
            rows += execute(&mut transaction, changed).await?;
            transaction.commit().await?;
            from = from.saturating_add(step);
        }
        Ok(rows)
    }

    async fn erase_rejected_rows(
        &self,
        erasure: &Erasure,
        job: Uuid,
        chunks: i32,
        texts: &[String],
    ) -> Result<i64> {
        let (mut rows, mut from) = (0, 0);
        while from < chunks {
            let mut transaction = self.begin().await?;
            let changed = query!(
                "update import_rejection
                 set code = erased_text(code, $4, $5), detail = erased_text(detail, $4, $5), row = erased_text(row, $4, $5)
                 where job_id = $1 and chunk >= $2 and chunk < $2 + $3
                   and (code, detail, row) <> (erased_text(code, $4, $5), erased_text(detail, $4, $5), erased_text(row, $4, $5))",
                job,
                from,
                CHUNKS_AT_ONCE,
                texts,
                erasure.pseudonym()
            );
            rows += execute(&mut transaction, changed).await?;
            transaction.commit().await?;
            from += CHUNKS_AT_ONCE;
        }
        Ok(rows)
    }

    /// Stored answers of requests. A row has no business, but its book, or its account, has.
    async fn erase_answers(&self, erasure: &Erasure) -> Result<i64> {
        let texts = erasure.texts_in_rows();
        let (mut rows, mut after) = (0, Uuid::nil());
        loop {
            let mut transaction = self.begin().await?;
            let last = query_scalar!(
                "select id from (select id from request_key where id > $1 order by id limit $2) page
                 order by id desc limit 1",
                after,
                ROWS_AT_ONCE
            )
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(last) = last else { return Ok(rows) };
            let assigned = query!(
                "update request_key set answer = jsonb_set(answer, '{Ok,user}', to_jsonb($5::text))
                 where id > $1 and id <= $2 and answer -> 'Ok' ->> 'user' = any ($4)
                   and (answer -> 'Ok' ->> 'book')::uuid in (select id from coupon_book where business_id = $3)",
                after,
                last,
                erasure.ids().business.0,
                &erasure.ids().user_ids,
                erasure.pseudonym()
            );
            rows += execute(&mut transaction, assigned).await?;
            let accounts = query!(
                r#"update request_key set answer = answer || jsonb_build_object('Ok', answer -> 'Ok' || jsonb_build_object(
                     'id', gen_random_uuid(), 'user_id', $5::text, 'email', $5::text))
                   where id > $1 and id <= $2 and answer -> 'Ok' ? 'email'
                     and answer -> 'Ok' ->> 'business' = $3::text
                     and (answer -> 'Ok' ->> 'user_id' = any ($4) or answer -> 'Ok' ->> 'email' = any ($6)
                          or answer -> 'Ok' ->> 'id' = $7::text)"#,
                after,
                last,
                erasure.ids().business.to_string(),
                &erasure.ids().user_ids,
                erasure.pseudonym(),
                erasure.emails(),
                erasure.account().map(|account| account.to_string())
            );
            rows += execute(&mut transaction, accounts).await?;
            let jobs = query!(
                "update request_key set answer = erased_json(answer, $4, $5)
                 where id > $1 and id <= $2 and answer -> 'Ok' ? 'result' and answer -> 'Ok' ->> 'business' = $3::text
                   and erased_json(answer, $4, $5) <> answer",
                after,
                last,
                erasure.ids().business.to_string(),
                &texts,
                erasure.pseudonym()
            );
            rows += execute(&mut transaction, jobs).await?;
            transaction.commit().await?;
            after = last;
        }
    }

    /// The bodies of webhook deliveries, and the answers of receivers that contain an id.
    async fn erase_deliveries(&self, erasure: &Erasure) -> Result<i64> {
        let webhooks =
            query_scalar!("select id from webhook where business_id = $1", erasure.ids().business.0)
                .fetch_all(&self.pool)
                .await?;
        let mut rows = 0;
        for webhook in webhooks {
            let mut after = i64::MIN;
            while let Some((last, changed)) = self.erase_some_deliveries(erasure, webhook, after).await? {
                after = last;
                rows += changed;
            }
        }
        Ok(rows)
    }

    async fn erase_some_deliveries(
        &self,
        erasure: &Erasure,
        webhook: Uuid,
        after: i64,
    ) -> Result<Option<(i64, i64)>> {
        let mut transaction = self.begin().await?;
        let last = query_scalar!(
            "select number from (select number from webhook_delivery where webhook_id = $1 and number > $2
                                 order by number limit $3) page order by number desc limit 1",
            webhook,
            after,
            ROWS_AT_ONCE
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(last) = last else { return Ok(None) };
        let mut rows = 0;
        for (old, new) in erasure.ids().actors.iter().zip(&erasure.ids().erased_actors) {
            let (old, new) = (to_json(old)?, to_json(new)?);
            // The address and the user agent of an event are those of its actor.
            let acted = query!(
                r#"update webhook_delivery
                   set body = regexp_replace(replace(body, $4, $5), '"(ip|userAgent)":"([^"\\]|\\.)*"', '"\1":null', 'g')
                   where webhook_id = $1 and number > $2 and number <= $3 and position($4 in body) > 0"#,
                webhook,
                after,
                last,
                format!("\"actor\":{old}"),
                format!("\"actor\":{new}")
            );
            rows += execute(&mut transaction, acted).await?;
        }
        for old in &erasure.ids().user_ids {
            let held = query!(
                "update webhook_delivery set body = replace(body, $4, $5)
                 where webhook_id = $1 and number > $2 and number <= $3 and position($4 in body) > 0",
                webhook,
                after,
                last,
                format!("\"userId\":{}", to_json(old)?),
                format!("\"userId\":{}", to_json(erasure.pseudonym())?)
            );
            rows += execute(&mut transaction, held).await?;
        }
        let answers = query!(
            "update webhook_attempt a set answer = null from webhook_delivery d
             where d.webhook_id = $1 and d.number > $2 and d.number <= $3 and a.delivery_id = d.id
               and exists (select from unnest($4::text[]) old where position(old in a.answer) > 0)",
            webhook,
            after,
            last,
            &erasure.texts()
        );
        rows += execute(&mut transaction, answers).await?;
        transaction.commit().await?;
        Ok(Some((last, rows)))
    }
}

impl Erasure {
    /// The ids and emails as rows of files may have them: quotes are doubled in a quoted cell.
    pub(super) fn texts_in_rows(&self) -> Vec<String> {
        let mut texts = self.texts();
        for text in self.texts() {
            if text.contains('"') {
                texts.push(text.replace('"', "\"\""));
            }
        }
        texts
    }
}

fn to_json(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(Error::internal)
}
