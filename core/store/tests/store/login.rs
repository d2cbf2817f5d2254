//! Logins: they start only for verified credentials, a token can be refreshed once, and an ended login has no valid
//! token.

use cuponera_domain::id::{AccountId, LoginId};
use cuponera_domain::principal::{Principal, Role, RoleName};
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::GenerateId;
use cuponera_store::{Account, AccountChange, NewAccount, Rotated};
use cuponera_testkit::{race, waits_for};
use sqlx::{PgTransaction, query, query_scalar};
use uuid::Uuid;

use crate::setup::{HASH, Setup, grant};

impl Setup {
    async fn account(&self, role: RoleName) -> AccountId {
        let new = NewAccount {
            business: self.business,
            email: format!("{}@shop.test", Uuid::now_v7()),
            password_hash: HASH.to_owned(),
            role,
            user_id: None,
        };
        self.store().create_account(None, &new).await.unwrap().outcome.unwrap().id
    }

    async fn disable(&self, account: AccountId, disabled: bool) -> Result<Account, Error> {
        let change = AccountChange { disabled: Some(disabled), ..AccountChange::default() };
        self.store().update_account(self.business, account, &change).await
    }

    async fn refresh(&self, secret: &str, next: &str) -> Rotated {
        self.store().rotate_refresh_if_fresh(secret.as_bytes(), &grant(next)).await.unwrap()
    }

    /// A change of an account by `sql`, in an open transaction.
    async fn midway(&self, sql: &'static str, account: AccountId) -> PgTransaction<'static> {
        let mut transaction = self.database.pool().begin().await.unwrap();
        query(sql).bind(account.0).execute(&mut *transaction).await.unwrap();
        transaction
    }
}

#[tokio::test]
async fn a_login_is_given_only_while_the_account_is_enabled_and_has_the_password_that_was_verified() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    assert!(setup.log_in(account, "a").await.is_some());
    assert_eq!(setup.log_in_with(account, "another hash", "b").await, None);
    setup.disable(account, true).await.unwrap();
    assert_eq!(setup.log_in(account, "c").await, None);
    assert_eq!(setup.log_in(AccountId::generate(), "d").await, None);
}

/// Invariant I-38.
#[tokio::test]
async fn a_login_in_flight_while_the_account_is_disabled_or_gets_another_password_is_not_given() {
    let setup = Setup::new().await;
    for change in [
        "update user_account set disabled_at = now() where id = $1",
        "update user_account set password_hash = 'another' where id = $1",
    ] {
        let account = setup.account(RoleName::User).await;
        let transaction = setup.midway(change, account).await;
        let login = setup.log_in(account, change);
        let given = waits_for(setup.database.pool(), 1, transaction.commit(), login).await;
        assert_eq!(given, None, "{change}");
    }
}

#[tokio::test]
async fn disabling_ends_a_login_that_was_given_the_moment_before() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    let mut transaction = setup.database.pool().begin().await.unwrap();
    // As a login does: the share lock on the row, then the token.
    query("select from user_account where id = $1 for share")
        .bind(account.0)
        .execute(&mut *transaction)
        .await
        .unwrap();
    query(
        "insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
           values (gen_random_uuid(), gen_random_uuid(), $1, 'a', now() + interval '1 hour')",
    )
    .bind(account.0)
    .execute(&mut *transaction)
    .await
    .unwrap();
    let disable = setup.disable(account, true);
    waits_for(setup.database.pool(), 1, transaction.commit(), disable).await.unwrap();
    setup.disable(account, false).await.unwrap();
    assert_eq!(setup.refresh("a", "b").await, Rotated::Unknown);
}

#[tokio::test]
async fn of_16_who_bring_one_refresh_token_at_once_one_wins_and_the_login_is_over() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    for round in 0..20 {
        let first = format!("first {round}");
        let login = setup.log_in(account, &first).await.unwrap();
        let answers =
            race(16, 0..16, async |lane| setup.refresh(&first, &format!("{round} {lane}")).await).await;
        let fresh = |answer: &Rotated| matches!(answer, Rotated::Fresh(whose, of) if whose.id == account && *of == login);
        assert_eq!(answers.iter().filter(|answer| fresh(answer)).count(), 1, "{answers:?}");
        assert_eq!(
            answers.iter().filter(|answer| **answer == Rotated::Reused(login)).count(),
            1,
            "{answers:?}"
        );
        let winner = answers.iter().position(fresh).unwrap();
        assert_eq!(setup.refresh(&format!("{round} {winner}"), "next").await, Rotated::Unknown);
    }
}

#[tokio::test]
async fn a_refresh_token_that_has_expired_is_not_exchanged() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    setup.log_in(account, "a").await.unwrap();
    let expire = "update refresh_token set expires_at = now()";
    query(expire).execute(setup.database.pool()).await.unwrap();
    assert_eq!(setup.refresh("a", "b").await, Rotated::Unknown);
}

#[tokio::test]
async fn a_refresh_that_waited_for_the_end_of_its_login_is_refused() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    setup.log_in(account, "a").await.unwrap();
    let end = "update refresh_token set revoked_at = now() where account_id = $1";
    let transaction = setup.midway(end, account).await;
    let refresh = setup.refresh("a", "b");
    let answer = waits_for(setup.database.pool(), 1, transaction.commit(), refresh).await;
    assert_eq!(answer, Rotated::Unknown);
}

#[tokio::test]
async fn whatever_a_logout_races_with_the_login_is_over_after_it() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    for round in 0..30 {
        let name = |step: u32| format!("{round} {step}");
        let login = setup.log_in(account, &name(0)).await.unwrap();
        let refreshing = async {
            let mut step = 0;
            while let Rotated::Fresh(..) = setup.refresh(&name(step), &name(step + 1)).await {
                step += 1;
                assert!(step < 10_000, "the login was refreshed after its end");
            }
            step
        };
        let (last, ended) = tokio::join!(refreshing, setup.store().end_login(account, login));
        ended.unwrap();
        assert_eq!(setup.refresh(&name(last), "next").await, Rotated::Unknown);
        assert!(!setup.is_live(login).await);
    }
}

#[tokio::test]
async fn a_used_token_ends_its_login_while_it_is_kept_and_is_unknown_later() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    let age = async |days: i32, secret: &str| {
        query("update refresh_token set used_at = now() - make_interval(days => $1) where secret_hash = $2")
            .bind(days)
            .bind(secret.as_bytes())
            .execute(setup.database.pool())
            .await
            .unwrap();
    };
    let [kept, gone] = ["kept", "gone"];
    let [first, second] =
        [setup.log_in(account, kept).await.unwrap(), setup.log_in(account, gone).await.unwrap()];
    setup.refresh(kept, "kept 2").await;
    setup.refresh(gone, "gone 2").await;
    age(6, kept).await;
    age(8, gone).await;
    assert_eq!(setup.store().forget_refresh_tokens().await.unwrap(), 1);
    assert_eq!(setup.refresh(gone, "x").await, Rotated::Unknown);
    assert!(setup.is_live(second).await, "an unknown token ended a login");
    assert!(matches!(setup.refresh("gone 2", "gone 3").await, Rotated::Fresh(..)));
    assert_eq!(setup.refresh(kept, "x").await, Rotated::Reused(first));
    assert!(!setup.is_live(first).await);
    assert_eq!(setup.refresh("kept 2", "x").await, Rotated::Unknown);
}

#[tokio::test]
async fn a_login_is_kept_while_it_has_a_token_and_while_it_shows_that_its_address_is_known() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    let [idle, recent, over] = [
        setup.log_in(account, "idle").await.unwrap(),
        setup.log_in(account, "recent").await.unwrap(),
        setup.log_in(account, "over").await.unwrap(),
    ];
    for (login, days) in [(idle, 100), (recent, 36), (over, 38)] {
        query("update login set last_used_at = now() - make_interval(days => $2) where id = $1")
            .bind(login.0)
            .bind(days)
            .execute(setup.database.pool())
            .await
            .unwrap();
    }
    query("delete from refresh_token where family_id <> $1")
        .bind(idle.0)
        .execute(setup.database.pool())
        .await
        .unwrap();
    assert_eq!(setup.store().forget_logins().await.unwrap(), 1);
    let left: Vec<Uuid> =
        query_scalar("select id from login order by id").fetch_all(setup.database.pool()).await.unwrap();
    assert_eq!(left, [idle.0, recent.0]);
}

#[tokio::test]
async fn the_holder_of_a_login_is_found_until_that_ends_or_the_account_is_disabled_or_gone() {
    let setup = Setup::new().await;
    let user = setup.account(RoleName::User).await;
    let of_user = setup.log_in(user, "user").await.unwrap();
    let found = setup.store().find_login_holder(of_user).await.unwrap().unwrap();
    let role = Role::User { user_id: user.to_string() };
    assert_eq!(found.principal, Principal { business: setup.business, id: user.0, role });
    let [one, two, three] = [
        setup.account(RoleName::Admin).await,
        setup.account(RoleName::Admin).await,
        setup.account(RoleName::Admin).await,
    ];
    let [first, second, third] = [
        setup.log_in(one, "1").await.unwrap(),
        setup.log_in(two, "2").await.unwrap(),
        setup.log_in(three, "3").await.unwrap(),
    ];
    for login in [first, second, third] {
        assert!(setup.is_live(login).await);
    }
    setup.store().end_login(one, first).await.unwrap();
    setup.disable(two, true).await.unwrap();
    query("delete from user_account where id = $1")
        .bind(three.0)
        .execute(setup.database.pool())
        .await
        .unwrap();
    setup.disable(two, false).await.unwrap();
    for login in [first, second, third, LoginId::generate()] {
        assert!(!setup.is_live(login).await);
    }
    setup.store().end_login(one, of_user).await.unwrap();
    assert!(setup.is_live(of_user).await, "an account ended the login of another");
}

#[tokio::test]
async fn a_password_that_an_admin_sets_while_the_account_becomes_a_member_elsewhere_is_refused() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    let elsewhere = setup.store().create_business("Another business").await.unwrap();
    // As when a membership is added.
    let mut adding = setup.midway("select from user_account where id = $1 for no key update", account).await;
    query("insert into membership (account_id, business_id, role, user_id) values ($1, $2, 'ADMIN', 'x')")
        .bind(account.0)
        .bind(elsewhere.0)
        .execute(&mut *adding)
        .await
        .unwrap();
    let change = AccountChange { password_hash: Some("the admin's".to_owned()), ..AccountChange::default() };
    let change = setup.store().update_account(setup.business, account, &change);
    let changed = waits_for(setup.database.pool(), 1, adding.commit(), change).await;
    assert!(matches!(changed, Err(Error::Rejected(Rejection::AccountShared))), "{changed:?}");
    assert!(setup.log_in(account, "a").await.is_some(), "the password was changed");
}

#[tokio::test]
async fn of_admins_who_disable_each_other_at_once_one_stays() {
    let setup = Setup::new().await;
    for _ in 0..20 {
        let admins = [setup.account(RoleName::Admin).await, setup.account(RoleName::Admin).await];
        let disable = async |id| setup.disable(id, true).await;
        let answers = race(2, admins, disable).await;
        let rejected =
            answers.iter().filter(|answer| matches!(answer, Err(Error::Rejected(Rejection::LastAdmin))));
        assert_eq!(rejected.count(), 1, "{answers:?}");
        let enabled = "select count(*) from user_account where disabled_at is null";
        let enabled: i64 = query_scalar(enabled).fetch_one(setup.database.pool()).await.unwrap();
        assert_eq!(enabled, 1);
        query("update user_account set disabled_at = now() where disabled_at is null")
            .execute(setup.database.pool())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_password_is_changed_only_from_the_one_that_was_verified_and_ends_all_logins_but_one() {
    let setup = Setup::new().await;
    let account = setup.account(RoleName::User).await;
    let kept = setup.log_in(account, "kept").await.unwrap();
    setup.log_in(account, "other").await.unwrap();
    let change =
        async |from| setup.store().change_password_if_unchanged(account, from, "new", kept).await.unwrap();
    assert!(!change("another").await);
    assert!(matches!(setup.refresh("other", "other 2").await, Rotated::Fresh(..)));
    assert!(change(HASH).await);
    assert!(!change(HASH).await);
    assert_eq!(setup.refresh("other 2", "x").await, Rotated::Unknown);
    assert!(matches!(setup.refresh("kept", "y").await, Rotated::Fresh(..)));
}
