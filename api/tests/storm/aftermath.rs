//! The assertions after the storm.

use std::collections::HashSet;
use std::time::Duration;

use cuponera_testkit::{eventually, race};
use futures::future::join_all;
use serde_json::json;
use sqlx::query_scalar;

use super::request::Kind;
use super::{AT_ONCE, CONNECTIONS, HELD, Sea, held_code};
use crate::support::Reply;

/// Time limit for running work to end. Far below the time after which Postgres ends an idle transaction.
const QUIET: Duration = Duration::from_secs(20);

impl Sea {
    async fn count_rows(&self, sql: &'static str) -> usize {
        let count: i64 = query_scalar(sql).fetch_one(self.server.database.pool()).await.expect(sql);
        usize::try_from(count).expect("counts are not negative")
    }

    async fn count_in_book(&self, sql: &'static str, book: &str) -> usize {
        let pool = self.server.database.pool();
        let count: i64 = query_scalar(sql).bind(book).fetch_one(pool).await.expect(sql);
        usize::try_from(count).expect("counts are not negative")
    }

    /// No connection runs a statement or has an open transaction, and no request had only a part of its effect.
    pub(super) async fn assert_quiet_and_whole(&self) {
        let busy = "select count(*) from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
                      and backend_type = 'client backend'";
        let quiet = eventually("the connections to be idle", async || {
            (self.count_rows(busy).await == 0).then_some(())
        });
        if tokio::time::timeout(QUIET, quiet).await.is_err() {
            let left = "select string_agg(state || ': ' || query, E'\\n') from pg_stat_activity
                        where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
                          and backend_type = 'client backend'";
            let left: Option<String> =
                query_scalar(left).fetch_one(self.server.database.pool()).await.expect("the query failed");
            panic!("connections are not idle:\n{}", left.unwrap_or_default());
        }
        let halves = "select count(*) from (select family_id from refresh_token group by family_id
                      having count(*) <> 1 + count(used_at)) f";
        assert_eq!(self.count_rows(halves).await, 0, "a used refresh token has no successor");
        let halves =
            "select count(*) from coupon_book where metadata ->> 'number' is distinct from description";
        assert_eq!(self.count_rows(halves).await, 0, "a change of a book is incomplete");
        let halves = "select count(*) from job where chunks_total <> (select count(*) from job_chunk c where c.job_id = job.id)";
        assert_eq!(self.count_rows(halves).await, 0, "a job lacks chunks");
        let halves = "select count(*) from code_space s where next_index <> (
                        select sum(total) from job j where j.work ->> 'pattern' = s.pattern)";
        assert_eq!(self.count_rows(halves).await, 0, "codes were reserved without a job");
        self.server.assert_invariants().await;
    }

    /// Sends all requests again; returns the replies in the same order.
    pub(super) async fn repeat_all(&self) -> Vec<Reply> {
        race(AT_ONCE, &self.requests, async |request| request.repeat(&self.client).await).await
    }

    fn replies<'a>(&'a self, kind: Kind, replies: &'a [Reply]) -> impl Iterator<Item = &'a Reply> {
        let both = self.requests.iter().zip(replies);
        both.filter(move |(request, _)| request.kind == kind).map(|(_, reply)| reply)
    }

    /// The number of different objects in these replies, all of which have this status.
    fn distinct(&self, kind: Kind, replies: &[Reply], status: u16, id: &str) -> usize {
        let ids: HashSet<String> = self
            .replies(kind, replies)
            .map(|reply| {
                assert_eq!(reply.status, status, "{kind:?}: {}", reply.text);
                reply.json()[id].as_str().unwrap_or_else(|| panic!("{kind:?}: {}", reply.text)).to_owned()
            })
            .collect();
        ids.len()
    }

    /// Each request had its effect once, and its repetition had none.
    pub(super) async fn assert_each_was_had_once(&self, replies: &[Reply]) {
        let effects = [
            (Kind::AssignRandom, 201, "id", self.events("ASSIGN", &self.stock).await),
            (Kind::AssignNamed, 201, "id", self.events("ASSIGN", &self.named).await),
            (Kind::Redeem, 200, "redemptionId", self.events("REDEEM", &self.held).await),
            (Kind::Generate, 202, "id", self.jobs("GENERATE_CODES").await),
            (Kind::Upload, 202, "id", self.jobs("IMPORT_CODES").await),
            (
                Kind::Create,
                201,
                "id",
                self.count_rows("select count(*) from coupon_book where name like 'Storm %'").await,
            ),
        ];
        for (kind, status, id, had) in effects {
            assert_eq!(had, self.count(kind), "{kind:?} did not have its effect exactly once");
            assert_eq!(
                self.distinct(kind, replies, status, id),
                had,
                "{kind:?} was answered with the effect of another request"
            );
        }
        self.distinct(Kind::Cancel, replies, 200, "id");
        self.distinct(Kind::Lock, replies, 200, "lockId");
        self.distinct(Kind::Unlock, replies, 200, "code");
        self.distinct(Kind::Patch, replies, 200, "id");
        assert_eq!(
            self.events("LOCK", &self.held).await,
            self.count(Kind::Lock),
            "a lock did not have its effect exactly once"
        );
        let twice = "select count(*) from (select from coupon_event where request_id like 'storm-%' and action <> 'EXPIRE'
                     group by request_id having count(*) > 1) e";
        assert_eq!(self.count_rows(twice).await, 0, "a request had two effects");
        let cancelled = "select count(*) from job where status = 'CANCELLED'";
        assert_eq!(self.count_rows(cancelled).await, self.count(Kind::Cancel));
        for reply in self.replies(Kind::Refresh, replies) {
            assert!(matches!(reply.status, 200 | 401), "{}", reply.text);
        }
    }

    async fn events(&self, action: &'static str, book: &str) -> usize {
        let count = "select count(*) from coupon_event where action = $1 and book_id = $2::text::uuid and request_id like 'storm-%'";
        let count: i64 = query_scalar(count)
            .bind(action)
            .bind(book)
            .fetch_one(self.server.database.pool())
            .await
            .expect(count);
        usize::try_from(count).expect("counts are not negative")
    }

    async fn jobs(&self, kind: &'static str) -> usize {
        let count = "select count(*) from job where kind = $1 and book_id = $2::text::uuid";
        let count: i64 = query_scalar(count)
            .bind(kind)
            .bind(&self.made)
            .fetch_one(self.server.database.pool())
            .await
            .expect(count);
        usize::try_from(count).expect("counts are not negative")
    }

    /// All connections that the server may open can be used at once: none is lost or stuck.
    pub(super) async fn assert_all_connections_are_usable(&self) {
        let writes = async || join_all((0..HELD).map(|number| self.lock_and_more(number))).await;
        let reads = async || join_all((0..CONNECTIONS.cast_signed()).map(|number| self.read(number))).await;
        // First without the gate: a write waits at the gate for at most three seconds, so no request may have to
        // connect while others wait.
        writes().await;
        self.assert_all_wait_at_a_gate(writes()).await;
        self.assert_all_wait_at_a_gate(reads()).await;
    }

    /// Runs requests that together need all connections of one kind.
    async fn assert_all_wait_at_a_gate<T>(&self, requests: impl Future<Output = T>) {
        let mut gate = self.server.database.pool().begin().await.expect("beginning failed");
        let lock = sqlx::query("lock table coupon in access exclusive mode");
        lock.execute(&mut *gate).await.expect("locking failed");
        let open_when_all_wait = async {
            self.wait_for_waiting(CONNECTIONS).await;
            gate.rollback().await.expect("opening the gate failed");
        };
        futures::join!(requests, open_when_all_wait);
    }

    async fn wait_for_waiting(&self, connections: u32) {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("all connections to wait at the gate", async || {
            (u32::try_from(self.count_rows(waiting).await) == Ok(connections)).then_some(())
        })
        .await;
    }

    async fn read(&self, number: i32) {
        self.client.get(&format!("coupons/{}", held_code(number))).await.expect(200);
    }

    /// Calls that use the lanes of all kinds.
    async fn lock_and_more(&self, number: i32) {
        let (user, code) = (json!({"userId": "ann"}), held_code(number));
        let post = async |path: String| self.client.post(&path, user.clone()).await.expect(200);
        futures::join!(
            post(format!("coupons/{code}/lock")),
            post(format!("coupons/{code}/unlock")),
            post(format!("coupons/{code}/redeem")),
            async { self.client.post(&format!("assignments/{code}"), user.clone()).await.expect(200) },
        );
    }

    /// All jobs succeed, counts agree, and every file belongs to a job.
    pub(super) async fn assert_all_is_in_order(&self) {
        self.server.work().await;
        let open = "select count(*) from job where status not in ('SUCCEEDED', 'CANCELLED')";
        assert_eq!(self.count_rows(open).await, 0, "a job did not succeed");
        let codes = "select count(*) from coupon where book_id = $1::text::uuid";
        let expected = 3 * (self.count(Kind::Generate) + self.count(Kind::Upload));
        assert_eq!(self.count_in_book(codes, &self.made).await, expected);
        self.server.assert_invariants().await;
        eventually("files without a job to be deleted", async || {
            self.has_no_stray_uploads().await.then_some(())
        })
        .await;
        assert_eq!(self.server.open_files(), 0, "a file is still open");
    }

    async fn has_no_stray_uploads(&self) -> bool {
        let Ok(folders) = std::fs::read_dir(self.server.files.path().join("uploads")) else { return true };
        let names =
            folders.map(|folder| folder.expect("a folder").file_name().to_string_lossy().into_owned());
        let strays = "select count(*) from unnest($1::text[]) name where not exists (select from job where id = name::uuid)";
        let pool = self.server.database.pool();
        let strays: i64 =
            query_scalar(strays).bind(names.collect::<Vec<_>>()).fetch_one(pool).await.expect(strays);
        strays == 0
    }
}
