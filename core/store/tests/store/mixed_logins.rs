//! Logins and accounts with concurrent programs of the previous version, which use only `user_account` and
//! `refresh_token`. Their statements are exact copies and run on the current schema.

use cuponera_domain::id::{AccountId, LoginId};
use cuponera_domain::principal::{KeyScope, RoleName};
use cuponera_store::Error;
use cuponera_store::GenerateId;
use cuponera_store::{AccountChange, NewAccount, NewApiKey, Rotated};
use cuponera_testkit::waits_for;
use sqlx::{Row, query, query_scalar};
use uuid::Uuid;

use crate::setup::{HASH, Setup, grant};

/// The statements of the previous version.
mod before {
    pub(super) const START_LOGIN: &str =
        "insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
             select $1, $2, a.id, $4, now() + make_interval(secs => $5) from user_account a
             where a.id = $3 and a.disabled_at is null and a.password_hash = $6
             for share";
    pub(super) const ROTATE: &str = "with used as (
  update refresh_token t set used_at = now()
  from user_account a
  where t.secret_hash = $1 and t.used_at is null and t.revoked_at is null and t.expires_at > now()
    and not exists (select from refresh_token f where f.family_id = t.family_id and f.revoked_at is not null)
    and a.id = t.account_id and a.disabled_at is null
  returning t.family_id, a.id, a.business_id, a.email, a.role, a.user_id, a.created_at, a.disabled_at
),
granted as (
  insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
  select $2, u.family_id, u.id, $3, now() + make_interval(secs => $4) from used u
)
select u.family_id, u.id, u.business_id, u.email, u.role, u.user_id, u.created_at, u.disabled_at from used u";
    pub(super) const END_IF_REUSED: &str = "update refresh_token set revoked_at = now()
             where revoked_at is null
               and family_id = (select family_id from refresh_token where secret_hash = $1 and used_at is not null)
             returning family_id";
    pub(super) const END_LOGIN: &str = "update refresh_token set revoked_at = now()
             where revoked_at is null and account_id = $1 and family_id = $2";
    pub(super) const END_ALL: &str = "update refresh_token set revoked_at = now()
         where account_id = $1 and revoked_at is null and family_id is distinct from $2";
    pub(super) const FIND_ADMIN: &str = "select a.id, a.business_id from user_account a
             where a.id = (select t.account_id from refresh_token t where t.family_id = $1 limit 1)
               and a.role = 'ADMIN' and a.disabled_at is null
               and not exists (select from refresh_token f where f.family_id = $1 and f.revoked_at is not null)";
    pub(super) const UPDATE_ACCOUNT: &str = "update user_account
             set password_hash = coalesce($3, password_hash),
                 disabled_at = case when $4::bool is null then disabled_at when $4 then coalesce(disabled_at, now()) end,
                 updated_at = now()
             where id = $1 and business_id = $2
             returning id, business_id, email, role, user_id, created_at, disabled_at";
    pub(super) const CREATE_ACCOUNT: &str =
        "insert into user_account (id, business_id, email, password_hash, role, user_id)
                 values ($1, $2, lower($3), $4, $5, coalesce(
                   (select stored from stored_user_id where business_id = $2 and user_id = $6), $6))
                 returning id, business_id, email, role, user_id, created_at, disabled_at";
    pub(super) const FIND_KEY: &str = "select id from api_key
               where secret_hash = any(array[$1, $2]::bytea[]) and revoked_at is null and coalesce(expires_at > now(), true)";
}

impl Setup {
    /// An admin created by a program of the previous version.
    async fn account_before(&self) -> AccountId {
        let (id, email) = (Uuid::now_v7(), format!("{}@shop.test", Uuid::now_v7()));
        self.create_before(id, &email, &id.to_string()).await.unwrap();
        AccountId(id)
    }

    async fn create_before(&self, id: Uuid, email: &str, user_id: &str) -> sqlx::Result<()> {
        let made = query(before::CREATE_ACCOUNT).bind(id).bind(self.business.0).bind(email).bind(HASH);
        made.bind("ADMIN").bind(user_id).fetch_one(self.database.pool()).await.map(drop)
    }

    async fn disable_before(&self, account: AccountId, disabled: bool) {
        let mut transaction = self.database.pool().begin().await.unwrap();
        let update = query(before::UPDATE_ACCOUNT).bind(account.0).bind(self.business.0);
        update.bind(None::<String>).bind(disabled).fetch_one(&mut *transaction).await.unwrap();
        if disabled {
            query(before::END_ALL)
                .bind(account.0)
                .bind(None::<Uuid>)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
    }

    async fn log_in_before(&self, account: AccountId, secret: &str) -> LoginId {
        let login = LoginId::generate();
        let started = query(before::START_LOGIN).bind(Uuid::now_v7()).bind(login.0).bind(account.0);
        let started = started.bind(secret.as_bytes()).bind(3600.0).bind(HASH).execute(self.database.pool());
        assert_eq!(started.await.unwrap().rows_affected(), 1);
        login
    }

    async fn try_refresh(&self, secret: &str, next: &str) -> Result<bool, Error> {
        let rotated = self.store().rotate_refresh_if_fresh(secret.as_bytes(), &grant(next)).await?;
        Ok(matches!(rotated, Rotated::Fresh(..)))
    }

    /// Whether a program of the previous version exchanges this refresh token for new tokens.
    async fn refresh_before(&self, secret: &str, next: &str) -> sqlx::Result<bool> {
        let rotated =
            query(before::ROTATE).bind(secret.as_bytes()).bind(Uuid::now_v7()).bind(next.as_bytes());
        Ok(rotated.bind(3600.0).fetch_optional(self.database.pool()).await?.is_some())
    }

    async fn end_before(&self, account: AccountId, login: LoginId) -> sqlx::Result<()> {
        query(before::END_LOGIN).bind(account.0).bind(login.0).execute(self.database.pool()).await.map(drop)
    }

    async fn is_live_before(&self, login: LoginId) -> bool {
        query(before::FIND_ADMIN).bind(login.0).fetch_optional(self.database.pool()).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn a_login_of_either_version_goes_on_at_both_and_its_end_at_one_is_its_end_at_the_other() {
    let setup = Setup::new().await;
    let account = setup.account_before().await;
    for (started_before, ended_before) in [(true, true), (true, false), (false, true), (false, false)] {
        let name = |step: u32| format!("{started_before} {ended_before} {step}");
        let login = if started_before {
            setup.log_in_before(account, &name(0)).await
        } else {
            setup.log_in(account, &name(0)).await.unwrap()
        };
        assert!(setup.is_live(login).await && setup.is_live_before(login).await);
        assert!(setup.try_refresh(&name(0), &name(1)).await.unwrap());
        assert!(setup.refresh_before(&name(1), &name(2)).await.unwrap());
        assert!(setup.is_live(login).await && setup.is_live_before(login).await);
        if ended_before {
            setup.end_before(account, login).await.unwrap();
        } else {
            setup.store().end_login(account, login).await.unwrap();
        }
        assert!(!setup.is_live(login).await && !setup.is_live_before(login).await, "{}", name(2));
        assert!(!setup.refresh_before(&name(2), &name(3)).await.unwrap());
        assert!(!setup.try_refresh(&name(2), &name(4)).await.unwrap());
    }
}

#[tokio::test]
async fn a_token_that_comes_twice_ends_the_login_whichever_version_sees_it() {
    let setup = Setup::new().await;
    let account = setup.account_before().await;
    let login = setup.log_in(account, "a").await.unwrap();
    assert!(setup.try_refresh("a", "b").await.unwrap());
    query(before::END_IF_REUSED).bind("a".as_bytes()).fetch_all(setup.database.pool()).await.unwrap();
    assert!(!setup.is_live(login).await);
    let login = setup.log_in_before(account, "c").await;
    assert!(setup.refresh_before("c", "d").await.unwrap());
    assert!(!setup.try_refresh("c", "x").await.unwrap());
    assert!(!setup.is_live_before(login).await);
    assert!(!setup.refresh_before("d", "e").await.unwrap());
}

#[tokio::test]
async fn the_version_before_ends_a_login_with_the_successor_that_it_does_not_see() {
    let setup = Setup::new().await;
    let account = setup.account_before().await;
    let login = setup.log_in(account, "a").await.unwrap();
    let mut refresh = setup.database.pool().begin().await.unwrap();
    let rotated = query(before::ROTATE).bind("a".as_bytes()).bind(Uuid::now_v7()).bind("b".as_bytes());
    assert!(rotated.bind(3600.0).fetch_optional(&mut *refresh).await.unwrap().is_some());
    // It waits for the token that the refresh has locked, and revokes only that token.
    let end = setup.end_before(account, login);
    waits_for(setup.database.pool(), 1, refresh.commit(), end).await.unwrap();
    assert!(!setup.is_live(login).await);
    let usable = "select count(*) from refresh_token where used_at is null and revoked_at is null";
    let usable: i64 = query_scalar(usable).fetch_one(setup.database.pool()).await.unwrap();
    assert_eq!(usable, 0, "the previous version accepts the successor after the used token is deleted");
}

/// Repeats the call: a deadlock between the two versions ends one of them with a transient error.
async fn until_done<T, E>(mut act: impl AsyncFnMut() -> Result<T, E>) -> T {
    loop {
        if let Ok(done) = act().await {
            return done;
        }
    }
}

/// Invariant I-39.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_logout_of_one_version_races_with_at_the_other_the_login_is_over_after_it() {
    let setup = Setup::new().await;
    let account = setup.account_before().await;
    for round in 0..30 {
        let ends_before = round % 2 == 0;
        let name = |step: u32| format!("{round} {step}");
        let login = setup.log_in(account, &name(0)).await.unwrap();
        let refreshing = async {
            let mut step = 0;
            loop {
                let (this, next) = (name(step), name(step + 1));
                let goes_on = if ends_before {
                    until_done(async || setup.try_refresh(&this, &next).await).await
                } else {
                    until_done(async || setup.refresh_before(&this, &next).await).await
                };
                if !goes_on {
                    return step;
                }
                step += 1;
                assert!(step < 10_000, "the login was refreshed after its end");
            }
        };
        let ending = async {
            if ends_before {
                until_done(async || setup.end_before(account, login).await).await;
            } else {
                until_done(async || setup.store().end_login(account, login).await).await;
            }
        };
        let (last, ()) = tokio::join!(refreshing, ending);
        assert!(!setup.is_live(login).await && !setup.is_live_before(login).await);
        assert!(!setup.refresh_before(&name(last), "x").await.unwrap(), "round {round}");
        let usable = "select count(*) from refresh_token where family_id = $1 and used_at is null and revoked_at is null";
        let usable: i64 = query_scalar(usable).bind(login.0).fetch_one(setup.database.pool()).await.unwrap();
        assert_eq!(usable, 0, "a concurrent refresh inserted a successor that the previous version accepts");
    }
}

#[tokio::test]
async fn an_account_of_the_version_before_is_a_member_and_disabling_it_there_ends_all_it_has_in_that_business()
 {
    let setup = Setup::new().await;
    let account = setup.account_before().await;
    let login = setup.log_in(account, "a").await.unwrap();
    let listed = setup.store().list_accounts(setup.business, None, 10).await.unwrap();
    assert_eq!(listed.items.iter().map(|account| account.id).collect::<Vec<_>>(), [account]);
    let key = NewApiKey {
        business: setup.business,
        name: "A key".to_owned(),
        role: RoleName::Service,
        secret_hash: vec![7; 32],
        hint: "hint".to_owned(),
        scope: KeyScope::default(),
        created_by: Some(account),
        expires_at: None,
    };
    setup.store().create_api_key(&key).await.unwrap();
    let find_key = async || {
        let here = setup.store().find_key_holder(&key.secret_hash).await.unwrap().is_some();
        let before = query(before::FIND_KEY).bind(&key.secret_hash).bind(&key.secret_hash);
        (here, before.fetch_optional(setup.database.pool()).await.unwrap().is_some())
    };
    assert_eq!(find_key().await, (true, true));
    setup.disable_before(account, true).await;
    assert!(!setup.is_live(login).await);
    assert_eq!(setup.log_in(account, "b").await, None);
    assert_eq!(find_key().await, (false, false), "a key outlives the account that made it");
    setup.disable_before(account, false).await;
    assert!(setup.log_in(account, "c").await.is_some());
    assert_eq!(find_key().await, (false, false), "a revoked key works again");
    let rejected = setup
        .store()
        .create_api_key(&NewApiKey { created_by: Some(AccountId::generate()), ..key.clone() })
        .await;
    assert!(matches!(rejected, Err(Error::Rejected(_))), "{rejected:?}");
}

#[tokio::test]
async fn disabling_here_disables_at_the_version_before_and_it_cannot_take_a_holder_id_of_a_further_member() {
    let setup = Setup::new().await;
    let (account, _other) = (setup.account_before().await, setup.account_before().await);
    let login = setup.log_in(account, "a").await.unwrap();
    let disable = AccountChange { disabled: Some(true), ..AccountChange::default() };
    setup.store().update_account(setup.business, account, &disable).await.unwrap();
    assert!(!setup.is_live_before(login).await);
    assert!(!setup.refresh_before("a", "b").await.unwrap());
    let disabled: bool = query("select disabled_at is not null from user_account where id = $1")
        .bind(account.0)
        .fetch_one(setup.database.pool())
        .await
        .unwrap()
        .get(0);
    assert!(disabled);
    let elsewhere = setup.store().create_business("Another business").await.unwrap();
    let new = |business, user_id: &str| NewAccount {
        business,
        email: "member@shop.test".to_owned(),
        password_hash: HASH.to_owned(),
        role: RoleName::User,
        user_id: Some(user_id.to_owned()),
    };
    setup.store().create_account(None, &new(elsewhere, "x")).await.unwrap().outcome.unwrap();
    setup.store().create_account(None, &new(setup.business, "taken")).await.unwrap().outcome.unwrap();
    let clash = setup.create_before(Uuid::now_v7(), "new@shop.test", "taken").await.unwrap_err();
    let constraint = clash.as_database_error().and_then(|error| error.constraint().map(str::to_owned));
    assert_eq!(
        constraint.as_deref(),
        Some("user_account_user_id"),
        "the version before does not know the refusal"
    );
}
