//! Setups that several test files share.

use std::time::Duration;

use cuponera_domain::csv::{Columns, Delimiter};
use cuponera_domain::id::{AccountId, BusinessId, JobId, LoginId};
use cuponera_domain::job::import;
use cuponera_store::GenerateId;
use cuponera_store::{Claim, NewImport, RefreshGrant, Store};
use cuponera_testkit::{TestDatabase, World, claim, read_as};

/// The password hash of all accounts.
pub(crate) const HASH: &str = "the hash of a password";

/// A database with a business, for tests of logins.
pub(crate) struct Setup {
    pub(crate) database: TestDatabase,
    pub(crate) business: BusinessId,
}

impl Setup {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let business = database.store().create_business("A business").await.unwrap();
        Self { database, business }
    }

    pub(crate) fn store(&self) -> &Store {
        self.database.store()
    }

    pub(crate) async fn log_in(&self, account: AccountId, secret: &str) -> Option<LoginId> {
        self.log_in_with(account, HASH, secret).await
    }

    pub(crate) async fn log_in_with(&self, account: AccountId, hash: &str, secret: &str) -> Option<LoginId> {
        let grant = grant(secret);
        let started = self.store().start_login_if_verified(account, self.business, hash, &grant, None);
        started.await.unwrap().map(|(login, _)| login)
    }

    pub(crate) async fn is_live(&self, login: LoginId) -> bool {
        self.store().find_login_holder(login).await.unwrap().is_some()
    }
}

pub(crate) fn grant(secret: &str) -> RefreshGrant {
    RefreshGrant { secret_hash: secret.as_bytes().to_vec(), ttl: Duration::from_hours(1) }
}

/// An import of codes without users, in these parts.
pub(crate) fn import_of(world: &World, parts: Vec<import::Chunk>) -> NewImport {
    NewImport {
        id: JobId::generate(),
        book: world.book,
        columns: Columns::default(),
        delimiter: Delimiter::default(),
        read_as: read_as(),
        dry_run: false,
        may_repeat_codes: false,
        parts,
        rows: 0,
        last_place: 0,
    }
}

/// Claims the next chunk.
pub(crate) async fn next(world: &World) -> Claim {
    claim(world.store(), "worker").await.expect("there is a runnable chunk")
}
