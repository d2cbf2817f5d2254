//! What is recorded of each kind of change.

use chrono::Utc;
use cuponera_domain::book::{BookPatch, BookStatus, Change};
use cuponera_domain::id::ApiKeyId;
use cuponera_domain::job::JobError;
use cuponera_domain::pool::PoolPatch;
use cuponera_domain::principal::{KeyScope, RoleName};
use cuponera_domain::webhook::delivery::Attempt;
use cuponera_domain::webhook::signature::Secret;
use cuponera_domain::webhook::{NewWebhook, WebhookPatch};
use cuponera_store::{AccountChange, AttemptOutcome, ClaimLimits, JobFilter, NewApiKey, Notifier, Store};
use cuponera_testkit::{World, claim, generate, rules};
use serde_json::{Value, json};
use sqlx::{query, query_scalar};
use std::time::Duration;

use super::{Stored, administered, create_account, dump, pairs, take, took};
use crate::setup::{HASH, grant};
use crate::user_pool::{ids, new_pool};

/// The only event since the last call.
async fn one(world: &World) -> Stored {
    let mut events = take(world.pool()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

fn values(event: &Stored) -> (&str, &str, Value, Value) {
    let value = |value: &Option<Value>| value.clone().unwrap_or_default();
    (&event.subject, &event.action, value(&event.before), value(&event.after))
}

/// Invariant I-63.
#[tokio::test]
async fn a_change_of_a_book_has_the_changed_values_before_and_after_and_its_origin() {
    let (world, store, admin) = administered().await;
    let draft = rules();
    let book = store.create_book(None, world.business, &draft).await.unwrap().outcome.unwrap();
    let event = one(&world).await;
    let created = json!({"name": "A book", "codeKind": "UNIQUE", "status": "DRAFT", "maxRedeemsPerUser": 1, "requireLock": false,
                         "lockTtlSeconds": draft.lock_ttl_seconds, "timeZone": "UTC"});
    assert_eq!(values(&event), ("BOOK", "CREATE", Value::Null, created));
    assert_eq!((event.subject_id, event.business_id), (book.id.to_string(), world.business.0));
    assert_eq!(
        (event.actor.as_str(), event.ip.as_deref()),
        (&*format!("admin:{admin}"), Some("203.0.113.7"))
    );
    assert_eq!(
        (event.user_agent.as_deref(), event.request_id.as_deref()),
        (Some("a browser"), Some("request-1"))
    );
    let change = BookPatch {
        status: Change::Set(BookStatus::Active),
        name: Change::Set("Another".to_owned()),
        description: Change::Set(Some("New".to_owned())),
        max_redeems_per_user: Change::Set(1),
        ..BookPatch::default()
    };
    store.update_book(None, world.business, book.id, change.clone()).await.unwrap().outcome.unwrap();
    let before = json!({"name": "A book", "status": "DRAFT", "description": null});
    let after = json!({"name": "Another", "status": "ACTIVE", "description": "New"});
    assert_eq!(values(&one(&world).await), ("BOOK", "UPDATE", before, after));
    let same = BookPatch { status: Change::Keep, ..change };
    store.update_book(None, world.business, book.id, same).await.unwrap().outcome.unwrap();
    assert_eq!(took(&world).await, [], "a change without an effect was recorded");
    store.delete_book_if_unused(world.business, "admin:1", book.id).await.unwrap();
    let event = one(&world).await;
    assert_eq!((event.what(), event.after.is_none()), (("BOOK", "DELETE"), true));
    assert_eq!(event.before.unwrap()["name"], "Another");
}

/// Invariant I-63.
#[tokio::test]
async fn keys_users_memberships_and_logins_are_recorded_and_no_secret_is() {
    let (world, store, admin) = administered().await;
    let (business, pool) = (world.business, world.pool());
    let key = NewApiKey {
        business,
        name: "A key".to_owned(),
        role: RoleName::Service,
        secret_hash: b"the hash of a key".to_vec(),
        hint: "cpn_hint".to_owned(),
        scope: KeyScope { books: Some(vec![world.book]), ..KeyScope::default() },
        created_by: Some(admin),
        expires_at: None,
    };
    let made = store.create_api_key(&key).await.unwrap();
    let values_of_key =
        json!({"name": "A key", "role": "SERVICE", "createdBy": admin, "couponBookIds": [world.book]});
    assert_eq!(values(&one(&world).await), ("API_KEY", "CREATE", Value::Null, values_of_key.clone()));
    assert!(store.find_key_holder(&key.secret_hash).await.unwrap().is_some());
    assert_eq!(took(&world).await, [], "the use of a key was recorded");
    store.revoke_api_key(business, made.id).await.unwrap();
    assert_eq!(values(&one(&world).await), ("API_KEY", "REVOKE", values_of_key, Value::Null));
    assert!(store.revoke_api_key(business, ApiKeyId(made.id.0)).await.is_err());

    let ann = create_account(&store, business, "ann@shop.test", RoleName::User).await;
    let events = take(pool).await;
    assert_eq!(
        events.iter().map(values).collect::<Vec<_>>(),
        [
            ("USER", "CREATE", Value::Null, json!({"email": "ann@shop.test"})),
            ("MEMBERSHIP", "CREATE", Value::Null, json!({"role": "USER", "userId": "ann"})),
        ]
    );
    assert!(events.iter().all(|event| event.subject_id == ann.to_string()));
    let grants = [grant("first token"), grant("second token"), grant("third token")];
    let started =
        store.start_login_if_verified(ann, business, HASH, &grants[0], None).await.unwrap().unwrap();
    let event = one(&world).await;
    assert_eq!(values(&event), ("LOGIN", "START", Value::Null, json!({"accountId": ann})));
    assert_eq!(event.subject_id, started.0.to_string());
    store.rotate_refresh_if_fresh(&grants[0].secret_hash, &grants[1]).await.unwrap();
    assert_eq!(took(&world).await, [], "a refresh was recorded");
    store.rotate_refresh_if_fresh(&grants[0].secret_hash, &grants[2]).await.unwrap();
    assert_eq!(took(&world).await, pairs(&[("LOGIN", "END")]), "the login of a copied token");

    for (change, expected) in [
        (AccountChange { role: Some(RoleName::Admin), ..AccountChange::default() }, json!({"role": "ADMIN"})),
        (AccountChange { disabled: Some(false), ..AccountChange::default() }, Value::Null),
    ] {
        store.update_account(business, ann, &change).await.unwrap();
        let after: Vec<Value> = take(pool).await.into_iter().filter_map(|event| event.after).collect();
        assert_eq!(after.first().cloned().unwrap_or_default(), expected);
    }
    store.start_login_if_verified(ann, business, HASH, &grants[2], None).await.unwrap().unwrap();
    let password =
        AccountChange { password_hash: Some("another hash".to_owned()), ..AccountChange::default() };
    store.update_account(business, ann, &password).await.unwrap();
    let events = take(pool).await;
    let found: Vec<_> = events.iter().map(Stored::what).collect();
    assert_eq!(found, [("LOGIN", "START"), ("USER", "CHANGE_PASSWORD"), ("LOGIN", "END")]);
    assert_eq!((&events[1].before, &events[1].after), (&None, &None));
    let disabled = AccountChange { disabled: Some(true), ..AccountChange::default() };
    store.update_account(business, ann, &disabled).await.unwrap();
    let event = one(&world).await;
    assert_eq!(event.what(), ("MEMBERSHIP", "UPDATE"));
    assert_eq!(event.before, Some(json!({"disabledAt": null})));
}

/// Invariant I-63. Each secret is stored by the program itself.
#[tokio::test]
async fn the_table_of_admin_events_has_no_hash_and_no_token() {
    let (world, store, admin) = administered().await;
    let business = world.business;
    let key = |name: &str| NewApiKey {
        business,
        name: name.to_owned(),
        role: RoleName::Admin,
        secret_hash: format!("hash of {name}").into_bytes(),
        hint: "cpn_hint".to_owned(),
        scope: KeyScope::default(),
        created_by: None,
        expires_at: None,
    };
    for name in ["one", "two"] {
        let made = store.create_api_key(&key(name)).await.unwrap();
        store.revoke_api_key(business, made.id).await.unwrap();
    }
    let (_, account) =
        store.start_login_if_verified(admin, business, HASH, &grant("a token"), None).await.unwrap().unwrap();
    store.rotate_refresh_if_fresh(b"a token", &grant("its successor")).await.unwrap();
    store.reset_password(&account.email, "the hash of another password").await.unwrap();
    query("update api_key set secret_hash = convert_to('by hand ' || id, 'UTF8')")
        .execute(world.pool())
        .await
        .unwrap();
    query("delete from user_account").execute(world.pool()).await.unwrap();
    let dump = dump(world.pool()).await;
    assert!(dump.contains("CHANGE_SECRET") && dump.contains("CHANGE_PASSWORD"), "{dump}");
    let secrets: Vec<String> = query_scalar(
        "select secret from (
           select encode(secret_hash, 'hex') from refresh_token union all select encode(secret_hash, 'base64') from refresh_token
           union all select encode(secret_hash, 'hex') from api_key union all select encode(secret_hash, 'base64') from api_key
           union all select hint from api_key union all select password_hash from user_account) s (secret)",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let known = [HASH, "the hash of another password", "a token", "its successor", "hash of one", "by hand"];
    let hex = known.map(|text| text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")));
    for secret in
        known.iter().copied().chain(hex.iter().map(String::as_str)).chain(secrets.iter().map(String::as_str))
    {
        assert!(!dump.contains(secret), "{secret} is in\n{dump}");
    }
}

/// Invariant I-63.
#[tokio::test]
async fn a_bulk_change_of_the_users_of_a_pool_is_one_event_with_their_number() {
    let (world, store, _) = administered().await;
    let business = world.business;
    let pool = store.create_pool(None, business, "VIP", Some("The best")).await.unwrap().outcome.unwrap().id;
    let created = json!({"name": "VIP", "description": "The best"});
    assert_eq!(values(&one(&world).await), ("POOL", "CREATE", Value::Null, created.clone()));
    store.add_pool_users(None, business, pool, &ids(0..1_000)).await.unwrap().outcome.unwrap();
    assert_eq!(values(&one(&world).await), ("POOL", "ADD_USERS", Value::Null, json!({"users": 1000})));
    store.add_pool_users(None, business, pool, &ids(0..1_000)).await.unwrap().outcome.unwrap();
    assert_eq!(took(&world).await, [], "no user was added");
    store.remove_pool_users(None, business, pool, &ids(0..300)).await.unwrap().outcome.unwrap();
    assert_eq!(values(&one(&world).await), ("POOL", "REMOVE_USERS", json!({"users": 300}), Value::Null));
    store.remove_pool_user(business, pool, "user-000400").await.unwrap();
    assert_eq!(values(&one(&world).await), ("POOL", "REMOVE_USERS", json!({"users": 1}), Value::Null));
    let renamed = PoolPatch { name: Some("Very".to_owned()), description: None };
    store.update_pool(None, business, pool, renamed).await.unwrap().outcome.unwrap();
    let (before, after) = (json!({"name": "VIP"}), json!({"name": "Very"}));
    assert_eq!(values(&one(&world).await), ("POOL", "UPDATE", before, after));
    store.delete_pool(business, pool).await.unwrap();
    let deleted = json!({"name": "Very", "description": "The best"});
    assert_eq!(values(&one(&world).await), ("POOL", "DELETE", deleted, Value::Null));
    store.forget_deleted_pools().await.unwrap();
    assert_eq!(took(&world).await, [], "housekeeping of a deleted pool was recorded");
    let by_hand = new_pool(&world, "By hand").await;
    take(world.pool()).await;
    query("delete from user_pool where id = $1").bind(by_hand.0).execute(world.pool()).await.unwrap();
    assert_eq!(took(&world).await, pairs(&[("POOL", "DELETE")]));
}

async fn fail(store: &Store) {
    let error = JobError { code: "sorry".to_owned(), detail: "it did not work".to_owned() };
    store.fail_chunk_if_held(&claim(store, "worker").await.unwrap(), &error).await.unwrap();
}

/// Invariant I-63.
#[tokio::test]
async fn a_job_is_recorded_when_it_is_submitted_retried_cancelled_ended_and_discarded_and_no_progress_is() {
    let (world, store, admin) = administered().await;
    let business = world.business;
    let done = generate(&store, business, world.book, "G-{XXXXXXXX}", 60_000).await;
    let events = take(world.pool()).await;
    assert_eq!(events.iter().map(Stored::what).collect::<Vec<_>>(), [("JOB", "SUBMIT"), ("JOB", "SUCCEED")]);
    let submitted = json!({"kind": "GENERATE_CODES", "status": "QUEUED", "couponBookId": world.book, "total": 60_000,
                           "createdBy": "service:test", "succeeded": 0, "failed": 0});
    assert_eq!(events[0].after, Some(submitted));
    assert_eq!(
        (&events[0].actor, &events[1].actor),
        (&format!("admin:{admin}"), &format!("job:{}", done.id))
    );
    assert_eq!(events[1].after.as_ref().unwrap()["status"], "SUCCEEDED");

    let store = store.with_outbox(&Notifier::default());
    let pattern = cuponera_domain::coupon::pattern::Pattern::parse("F-{XXXXXXXX}").unwrap();
    let job = store.submit_generation(None, business, "service:test", world.book, &pattern, 3).await;
    let job = job.unwrap().outcome.unwrap().id;
    fail(&store).await;
    let events = take(world.pool()).await;
    let found: Vec<_> = events.iter().map(|event| (event.what(), event.actor.as_str())).collect();
    let (by, by_job) = (format!("admin:{admin}"), format!("job:{job}"));
    let letter = ("DEAD_LETTER", "CREATE");
    assert_eq!(found, [(("JOB", "SUBMIT"), &*by), (("JOB", "FAIL"), &*by_job), (letter, &*by_job)]);
    assert_eq!(events[1].after.as_ref().unwrap()["error"]["code"], "sorry");
    assert_eq!(events[2].after, Some(json!({"kind": "GENERATE_CODES", "chunk": 0, "attempt": 1})));
    store.retry_job_if_failed(None, business, job).await.unwrap().outcome.unwrap();
    store.cancel_job_if_open(None, business, job).await.unwrap().outcome.unwrap();
    let events = take(world.pool()).await;
    assert_eq!(events.iter().map(Stored::what).collect::<Vec<_>>(), [("JOB", "RETRY"), ("JOB", "CANCEL")]);
    assert!(events.iter().all(|event| event.actor == by && event.subject_id == job.to_string()));

    assert_eq!(world.store().mark_jobs_to_discard(Duration::ZERO).await.unwrap().len(), 2);
    world.store().mark_jobs_to_discard(Duration::ZERO).await.unwrap();
    for id in [done.id, job] {
        world.store().discard_job(id).await.unwrap();
    }
    let events = take(world.pool()).await;
    assert_eq!(events.iter().map(Stored::what).collect::<Vec<_>>(), [("JOB", "DISCARD"); 2]);
    assert!(events.iter().all(|event| event.actor == "system"));
    assert_eq!(store.list_jobs(business, &JobFilter::default(), 10).await.unwrap().items.len(), 2);
}

/// Invariant I-63.
#[tokio::test]
async fn a_webhook_is_recorded_without_its_secrets_and_its_deliveries_are_not() {
    let (world, store, admin) = administered().await;
    let new = NewWebhook {
        url: "https://receiver.example/".to_owned(),
        description: None,
        event_types: vec!["*".to_owned()],
        per_code: false,
        enabled: true,
    };
    let made = store.create_webhook(None, world.business, &new, &Secret::new([7; 32])).await.unwrap();
    let id = made.outcome.unwrap().webhook.id;
    let event = one(&world).await;
    let created =
        json!({"url": "https://receiver.example/", "eventTypes": ["*"], "perCode": false, "enabled": true});
    assert_eq!(values(&event), ("WEBHOOK", "CREATE", Value::Null, created.clone()));
    assert_eq!((event.actor, event.subject_id), (format!("admin:{admin}"), id.to_string()));
    store.rotate_webhook_secret(None, world.business, id, &Secret::new([8; 32])).await.unwrap();
    assert_eq!(values(&one(&world).await), ("WEBHOOK", "CHANGE_SECRET", Value::Null, Value::Null));
    store.test_webhook(None, world.business, id).await.unwrap().outcome.unwrap();
    let claimed = store.claim_deliveries(&ClaimLimits::at_most(1), Duration::from_mins(1)).await.unwrap();
    let attempt = Attempt { at: Utc::now(), status: Some(410), error: None, duration_ms: 1, answer: None };
    store.finish_attempt_if_held(&claimed[0], &attempt, AttemptOutcome::Gone).await.unwrap();
    let (before, after) = (
        json!({"enabled": true, "disabledReason": null}),
        json!({"enabled": false, "disabledReason": "GONE"}),
    );
    assert_eq!(values(&one(&world).await), ("WEBHOOK", "UPDATE", before, after));
    store.delete_webhook(world.business, id).await.unwrap();
    let event = one(&world).await;
    assert_eq!((event.what(), &*event.actor), (("WEBHOOK", "DELETE"), &*format!("admin:{admin}")));
    while store.forget_deliveries().await.unwrap() > 0 {}
    assert_eq!(took(&world).await, [], "housekeeping of a deleted webhook was recorded");
}

/// Invariant I-63.
#[tokio::test]
async fn a_changed_query_of_a_webhook_is_recorded_without_its_text() {
    let (world, store, _) = administered().await;
    let new = NewWebhook {
        url: "https://receiver.example/hooks?token=needle-1".to_owned(),
        description: None,
        event_types: vec!["*".to_owned()],
        per_code: false,
        enabled: true,
    };
    let made = store.create_webhook(None, world.business, &new, &Secret::new([7; 32])).await.unwrap();
    let id = made.outcome.unwrap().webhook.id;
    let created = one(&world).await;
    let patch = WebhookPatch {
        url: Some("https://receiver.example/hooks?token=needle-2".to_owned()),
        ..WebhookPatch::default()
    };
    store.update_webhook(world.business, id, &patch).await.unwrap();
    let updated = one(&world).await;
    assert_eq!(created.after.as_ref().unwrap()["url"], "https://receiver.example/hooks");
    assert_eq!(updated.what(), ("WEBHOOK", "UPDATE"));
    let queries = [&created.after, &updated.before, &updated.after]
        .map(|values| values.as_ref().unwrap()["query"].as_str().unwrap().to_owned());
    assert!(queries[0] == queries[1] && queries[1] != queries[2], "{queries:?}");
    assert!(!format!("{created:?}{updated:?}").contains("needle"));
}
