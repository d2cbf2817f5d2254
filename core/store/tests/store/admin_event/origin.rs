//! Actors: of requests, of programs, of other versions and of SQL by hand.

use cuponera_domain::pool::PoolPatch;
use cuponera_domain::principal::{AuditContext, Principal, Role, RoleName};
use cuponera_store::{GenerateId, IdempotencyKey};
use cuponera_testkit::{key, rules};
use sqlx::{AssertSqlSafe, Connection, PgConnection, query};
use uuid::Uuid;

use super::{administered, create_account, pairs, take, took};
use crate::setup::{HASH, grant};
use crate::user_pool::new_pool;

/// Invariant I-63.
#[tokio::test]
async fn a_change_by_sql_has_the_actor_sql_and_one_of_a_program_without_a_caller_system() {
    let (world, store, admin) = administered().await;
    let mut by_hand = PgConnection::connect(world.database.url()).await.unwrap();
    for (sql, expected) in [
        ("update coupon_book set name = 'By hand'", &[("BOOK", "UPDATE")][..]),
        ("update membership set role = 'USER'", &[("MEMBERSHIP", "UPDATE")]),
        ("update user_account set email = 'other@shop.test'", &[("USER", "UPDATE")]),
        ("update user_account set password_hash = 'another'", &[("USER", "CHANGE_PASSWORD")]),
        ("delete from user_account", &[("USER", "DELETE"), ("MEMBERSHIP", "DELETE")]),
    ] {
        query(sql).execute(&mut by_hand).await.unwrap();
        let events = take(world.pool()).await;
        assert!(events.iter().all(|event| event.actor == "sql" && event.ip.is_none()), "{sql}: {events:?}");
        let found: Vec<_> = events.into_iter().map(|event| (event.subject, event.action)).collect();
        assert_eq!(found, pairs(expected), "{sql}");
    }
    let pool = new_pool(&world, "A pool").await;
    assert_eq!(take(world.pool()).await[0].actor, "system");
    // The setting ends with its transaction, also on the same connection.
    for _ in 0..20 {
        let name = Some(Uuid::now_v7().to_string());
        let patch = PoolPatch { name, description: None };
        store.update_pool(None, world.business, pool, patch.clone()).await.unwrap().outcome.unwrap();
        let patch = PoolPatch { name: Some(Uuid::now_v7().to_string()), ..patch };
        world.store().update_pool(None, world.business, pool, patch).await.unwrap().outcome.unwrap();
        let actors: Vec<String> = take(world.pool()).await.into_iter().map(|event| event.actor).collect();
        assert_eq!(actors, [format!("admin:{admin}"), "system".to_owned()]);
    }
}

/// Invariant I-63.
#[tokio::test]
async fn a_change_that_is_rolled_back_leaves_no_event_and_one_under_a_repeated_key_leaves_one() {
    let (world, store, _) = administered().await;
    let book = store.create_book(Some(key("k", "b")), world.business, &rules()).await.unwrap();
    let again = store.create_book(Some(key("k", "b")), world.business, &rules()).await.unwrap();
    assert_eq!((book.replayed, again.replayed), (false, true));
    assert_eq!(took(&world).await, pairs(&[("BOOK", "CREATE")]));
    let taken = key("taken", "b");
    new_pool(&world, "Taken").await;
    take(world.pool()).await;
    let rejected = store.create_pool(Some(taken), world.business, "Taken", None).await.unwrap();
    assert!(rejected.outcome.is_err());
    let mut transaction = world.pool().begin().await.unwrap();
    query("update coupon_book set name = 'Rolled back'").execute(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    // The last step of this creation, the insertion of its key, fails.
    let used = IdempotencyKey { fingerprint: Uuid::now_v7(), ..taken };
    assert!(store.create_book(Some(used), world.business, &rules()).await.unwrap().outcome.is_err());
    assert_eq!(took(&world).await, []);
}

/// Invariant I-63. An account has another name in each of its businesses; no event shows the one of another business.
#[tokio::test]
async fn an_account_of_two_businesses_acts_in_each_under_its_name_there() {
    let (world, _, _) = administered().await;
    let (store, here, there) = (world.store(), world.business, world.another_business().await);
    let ann = create_account(store, here, "ann@shop.test", RoleName::User).await;
    create_account(store, there, "ann@shop.test", RoleName::Admin).await;
    let origin = AuditContext::of_program("system").with_request(None, Some("a browser"), None);
    let logging_in = store.clone().acting_as(origin.with_account(ann));
    take(world.pool()).await;
    let log_in = async |business, token: &str| {
        let grant = grant(token);
        logging_in.start_login_if_verified(ann, business, HASH, &grant, None).await.unwrap().unwrap().0
    };
    let (kept, moved) = (log_in(here, "one").await, log_in(here, "two").await);
    log_in(there, "three").await;
    let names = [(here.0, "user:ann".to_owned()), (there.0, format!("admin:{ann}"))];
    let by = |events: Vec<super::Stored>| -> Vec<(Uuid, String)> {
        events.into_iter().map(|event| (event.business_id, event.actor)).collect()
    };
    assert_eq!(by(take(world.pool()).await), [names[0].clone(), names[0].clone(), names[1].clone()]);
    let principal = Principal { business: here, id: ann.0, role: Role::User { user_id: "ann".to_owned() } };
    let acting = store.clone().acting_as(AuditContext::of_request(&principal, None, None, None));
    acting.switch_login(moved, there, &grant("four"), None).await.unwrap().unwrap();
    assert_eq!(by(take(world.pool()).await), [names[0].clone(), names[1].clone()]);
    assert!(acting.change_password_if_unchanged(ann, HASH, "another", kept).await.unwrap());
    let mut events = take(world.pool()).await;
    events.retain(|event| event.action == "CHANGE_PASSWORD");
    let mut changed = by(events);
    changed.sort();
    let mut expected = names.to_vec();
    expected.sort();
    assert_eq!(changed, expected);
    acting.end_all_logins(ann).await.unwrap();
    assert_eq!(by(take(world.pool()).await), [names[0].clone()]);
}

/// Invariant I-63. The statements of the version before: without the setting, and a book is changed after it is inserted.
#[tokio::test]
async fn statements_of_the_version_before_are_recorded_too() {
    let (world, _, _) = administered().await;
    let mut older = PgConnection::connect(world.database.url()).await.unwrap();
    query("set application_name = 'cuponera'").execute(&mut older).await.unwrap();
    let [id, family] = [Uuid::now_v7(), Uuid::now_v7()];
    let business = world.business;
    for sql in [
        format!("insert into coupon_book (id, business_id, name) values ('{id}', '{business}', 'Older')"),
        format!("update coupon_book set status = 'ACTIVE', name = 'Older' where id = '{id}'"),
        format!(
            "insert into user_account (id, business_id, email, password_hash, role, user_id)
             values ('{id}', '{business}', 'older@shop.test', 'hash', 'USER', 'older')"
        ),
        format!(
            "insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
             values (gen_random_uuid(), '{family}', '{id}', 'secret', now() + interval '1 day')"
        ),
        format!("update refresh_token set revoked_at = now() where family_id = '{family}'"),
        format!("update user_account set disabled_at = now() where id = '{id}'"),
        "select set_config('application_name', 'chunk 1 2 3', false)".to_owned(),
        format!(
            "insert into user_pool (id, business_id, name) values ('{}', '{business}', 'Older')",
            cuponera_domain::id::PoolId::generate()
        ),
    ] {
        query(AssertSqlSafe(sql)).execute(&mut older).await.unwrap();
    }
    let events = take(world.pool()).await;
    assert!(events.iter().all(|event| event.actor == "system"), "{events:?}");
    let found: Vec<_> = events.into_iter().map(|event| (event.subject, event.action)).collect();
    let expected = [
        ("BOOK", "CREATE"),
        ("BOOK", "UPDATE"),
        ("USER", "CREATE"),
        ("MEMBERSHIP", "CREATE"),
        ("LOGIN", "START"),
        ("LOGIN", "END"),
        ("MEMBERSHIP", "UPDATE"),
        ("POOL", "CREATE"),
    ];
    assert_eq!(found, pairs(&expected));
}
