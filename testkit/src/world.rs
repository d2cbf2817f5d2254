//! The common setup of tests: a business, an active book, its codes, and calls.

use std::future::Future;

use cuponera_domain::book::{BookRules, Counts};
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::coupon::state::Coupon;
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::principal::AuditContext;
use cuponera_store::{
    AssignNamed, AssignRandom, Assigned, Call, CallResult, IdempotencyKey, Lock, LockOwner, Locked,
    NewSharedCode, Pools, Presenter, Redeem, Store, Transition, Unlock, Visibility,
};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, query, query_scalar};
use uuid::Uuid;

use crate::{TestDatabase, assert_invariants, rules, waits_for};

/// A database with a business and an active book.
#[derive(Debug)]
pub struct World {
    /// The database.
    pub database: TestDatabase,
    /// The business.
    pub business: BusinessId,
    /// The book.
    pub book: BookId,
}

impl World {
    /// A world whose book has the default rules; see [`rules`].
    pub async fn new() -> Self {
        Self::with(rules()).await
    }

    /// A world whose book has these rules.
    pub async fn with(rules: BookRules) -> Self {
        Self::on(TestDatabase::create().await, rules).await
    }

    /// A world whose store has these pools.
    pub async fn with_pools(rules: BookRules, pools: Pools) -> Self {
        Self::on(TestDatabase::create_with(pools).await, rules).await
    }

    async fn on(database: TestDatabase, rules: BookRules) -> Self {
        let business =
            database.store().create_business("A business").await.expect("creating a business failed");
        let book = active_book(database.store(), business, &rules).await;
        Self { database, business, book }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.database.store()
    }

    /// Direct connections, without the code under test.
    pub fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    /// Another active book of the business.
    pub async fn another_book(&self, rules: &BookRules) -> BookId {
        active_book(self.store(), self.business, rules).await
    }

    /// Another business.
    pub async fn another_business(&self) -> BusinessId {
        self.store().create_business("Another business").await.expect("creating a business failed")
    }

    /// Inserts the codes `C000000`, `C000001`, … into the book with plain SQL instead of a job: this is
    /// fast, and the codes are known. Returns them.
    pub async fn insert_codes(&self, count: i32) -> Vec<String> {
        self.insert_codes_into(self.book, "C", count).await
    }

    /// The same for any book of the business, with a prefix of the codes.
    pub async fn insert_codes_into(&self, book: BookId, prefix: &str, count: i32) -> Vec<String> {
        let codes: Vec<String> = (0..count).map(|number| format!("{prefix}{number:06}")).collect();
        insert(self.pool(), self.business, book, &codes).await.expect("inserting codes failed");
        codes
    }

    /// A call of a trusted backend, without an idempotency key.
    pub fn call<T>(&self, ask: T) -> Call<T> {
        let audit = AuditContext {
            ip: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            user_agent: Some("testkit".to_owned()),
            ..AuditContext::of_program("service:test")
        };
        Call { business: self.business, visibility: Visibility::All, audit, key: None, ask }
    }

    /// Assigns a random code of the book.
    pub fn random(&self, user: &str) -> Call<AssignRandom> {
        self.call(AssignRandom { book: self.book, user: user.to_owned(), recipient_key: None })
    }

    /// Assigns a code by name.
    pub fn named(&self, code: &str, user: &str) -> Call<AssignNamed> {
        self.call(AssignNamed { code: code.to_owned(), user: user.to_owned() })
    }

    /// Locks a code for the default TTL of the book.
    pub fn lock(&self, code: &str, user: &str) -> Call<Lock> {
        self.call(Lock { code: code.to_owned(), user: user.to_owned(), ttl_seconds: None })
    }

    /// Releases a user's lock of a code, whatever its id.
    pub fn unlock(&self, code: &str, user: &str) -> Call<Unlock> {
        self.call(Unlock { code: code.to_owned(), owner: LockOwner::User(user.to_owned()), lock: None })
    }

    /// Redeems a code, whether it is locked or not.
    pub fn redeem(&self, code: &str, user: &str) -> Call<Redeem> {
        let (code, presenter) = (code.to_owned(), Presenter::User(user.to_owned()));
        self.call(Redeem { code, presenter, lock: None, reference: None, metadata: None })
    }

    /// Executes one call as a batch.
    pub async fn run_batch<T: Transition>(&self, call: Call<T>) -> CallResult<T::Outcome> {
        let answers = self.store().run_batch(&[call]).await.expect("executing a batch of one call failed");
        answers.into_iter().next().expect("a batch of one call has one answer")
    }

    /// Assigns a code to a user.
    pub async fn give(&self, code: &str, user: &str) -> Assigned {
        self.run_batch(self.named(code, user)).await.outcome.expect("assigning a free code was rejected")
    }

    /// Locks a code for its holder.
    pub async fn locked(&self, code: &str, user: &str) -> Locked {
        self.run_batch(self.lock(code, user)).await.outcome.expect("locking a held code was rejected")
    }

    /// Creates a SHARED code with these limits.
    pub async fn shared(&self, code: &str, limits: SharedLimits) -> Coupon {
        let new = NewSharedCode { book: self.book, code: code.to_owned(), limits, metadata: None };
        let created = self.store().create_shared_code(None, self.business, &new).await;
        created.expect("creating a code failed").outcome.expect("the code was rejected")
    }

    /// The current state of a coupon.
    pub async fn coupon(&self, code: &str) -> Coupon {
        self.store().get_coupon(self.business, code).await.expect("the coupon does not exist")
    }

    /// A coupon's actions, oldest first.
    pub async fn actions(&self, code: &str) -> Vec<String> {
        let history =
            self.store().history(self.business, code, None, 500).await.expect("the coupon does not exist");
        history.items.into_iter().rev().map(|event| event.action).collect()
    }

    /// The book's counts by status.
    pub async fn counts(&self) -> Counts {
        self.store().get_book(self.business, self.book).await.expect("the book does not exist").counts
    }

    /// Moves all locks to the past, in `lock_agenda` as well, so that they have expired. Do not call it
    /// while a sweep runs: both lock coupons and agenda, in different orders.
    pub async fn expire_all_locks(&self) {
        expire_all(self.pool()).await.expect("moving the locks failed");
    }

    /// Runs `act` while the coupon's row is locked, until at least `waiting` connections wait for it: all
    /// read before any writes.
    pub async fn all_at_once_on<T>(&self, code: &str, waiting: i64, act: impl Future<Output = T>) -> T {
        let mut holding = self.pool().begin().await.expect("beginning failed");
        let hold = "select from coupon where business_id = $1 and code = $2 for update";
        let row = query(hold).bind(self.business.0).bind(code).fetch_one(&mut *holding).await;
        row.expect("the coupon does not exist");
        waits_for(self.pool(), waiting, holding.rollback(), act).await
    }

    /// See [`assert_invariants`].
    pub async fn assert_invariants(&self) {
        assert_invariants(self.pool()).await;
    }
}

async fn active_book(store: &Store, business: BusinessId, rules: &BookRules) -> BookId {
    let book = store.create_book(None, business, rules).await.expect("creating a book failed");
    let book = book.outcome.expect("the book's rules were rejected").id;
    let changed =
        store.update_book(None, business, book, crate::active()).await.expect("changing a book failed");
    changed.outcome.expect("activating a book was rejected");
    book
}

/// Inserts the codes at the book's next positions and updates its counts.
async fn insert(pool: &PgPool, business: BusinessId, book: BookId, codes: &[String]) -> sqlx::Result<()> {
    query(
        "with place as (
           update coupon_book set next_position = next_position + cardinality($3) where id = $2
           returning next_position - cardinality($3) as first),
         planted as (
           insert into coupon (business_id, book_id, job_id, position, code)
           select $1, $2, '00000000-0000-7000-8000-000000000000', place.first + (number - 1)::int, code
           from place, unnest($3) with ordinality planted (code, number))
         insert into book_delta (book_id, generated, available) values ($2, cardinality($3), cardinality($3))",
    )
    .bind(business.0)
    .bind(book.0)
    .bind(codes)
    .execute(pool)
    .await?;
    Ok(())
}

async fn expire_all(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    let held = "select lock_id from coupon where status = 'LOCKED' order by business_id, code for update";
    let locks: Vec<Uuid> = query_scalar(held).fetch_all(&mut *transaction).await?;
    for sql in [
        "update lock_agenda set locked_until = locked_until - interval '2 days' where lock_id = any($1)",
        "update coupon set locked_at = locked_at - interval '2 days', locked_until = locked_until - interval '2 days'
         where lock_id = any($1)",
    ] {
        query(sql).bind(&locks).execute(&mut *transaction).await?;
    }
    let of_shared_codes = "update shared_use set locked_at = locked_at - interval '2 days', locked_until = locked_until - interval '2 days'
                           where lock_id is not null";
    query(of_shared_codes).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// An idempotency key with this name, and the fingerprint of this body.
pub fn key(name: &str, body: &str) -> IdempotencyKey {
    IdempotencyKey { id: uuid_of(name), fingerprint: uuid_of(body) }
}

/// Equal texts give equal ids, like the hash of a request.
fn uuid_of(text: &str) -> Uuid {
    let hash = Sha256::digest(text.as_bytes());
    Uuid::from_slice(&hash[..16]).expect("a hash has 16 bytes and more")
}

/// Variants of a call.
pub trait CallExt: Sized {
    /// With the idempotency key of this name; the body is the same for all calls.
    #[must_use]
    fn with_key(self, name: &str) -> Self {
        self.with_request_key(key(name, "body"))
    }

    /// With this idempotency key.
    #[must_use]
    fn with_request_key(self, key: IdempotencyKey) -> Self;

    /// As an end user: coupons of other users are invisible.
    #[must_use]
    fn by_end_user(self) -> Self;

    /// In another business.
    #[must_use]
    fn in_business(self, business: BusinessId) -> Self;
}

impl<T> CallExt for Call<T> {
    fn with_request_key(self, key: IdempotencyKey) -> Self {
        Self { key: Some(key), ..self }
    }

    fn by_end_user(self) -> Self {
        Self { visibility: Visibility::OwnOnly, ..self }
    }

    fn in_business(self, business: BusinessId) -> Self {
        Self { business, ..self }
    }
}
