//! Invariant I-71: the places with ids of users.

use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::id::{AccountId, JobId};
use cuponera_domain::principal::{AuditContext, Principal, Role, RoleName, parse_user_id};
use cuponera_domain::webhook::NewWebhook;
use cuponera_domain::webhook::signature::Secret;
use cuponera_store::{
    Call, GenerateId, IdempotencyKey, NewAccount, NewSharedCode, Presenter, Redeem, Rollback, Visibility,
};
use cuponera_testkit::{World, eventually};
use serde_json::{Value, json};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::{ANA, NEEDLE, erase, execute, tables_with};
use crate::audit_chain::{seal_to_end, texts, verify};
use crate::setup::{HASH, grant};
use crate::user_pool::new_pool;

const EMAIL: &str = "ana-needle@shop.test";

/// The user as a caller.
fn by_ana<T>(world: &World, ask: T, key: Option<IdempotencyKey>) -> Call<T> {
    let principal =
        Principal { business: world.business, id: Uuid::nil(), role: Role::User { user_id: ANA.to_owned() } };
    let audit = AuditContext::of_request(&principal, Some([203, 0, 113, 7].into()), Some("a browser"), None);
    Call { business: world.business, visibility: Visibility::All, audit, key, ask }
}

fn new_key() -> IdempotencyKey {
    IdempotencyKey { id: Uuid::now_v7(), fingerprint: Uuid::nil() }
}

async fn create_account(world: &World) -> AccountId {
    let new = NewAccount {
        business: world.business,
        email: EMAIL.to_owned(),
        password_hash: HASH.to_owned(),
        role: RoleName::User,
        user_id: Some(ANA.to_owned()),
    };
    world.store().create_account(Some(new_key()), &new).await.unwrap().outcome.unwrap().id
}

/// Coupons, redemptions, a rollback, quotas, answers, events and deliveries.
async fn use_codes(world: &World) {
    let mut random = world.random(ANA);
    world.insert_codes_into(world.book, "R", 1).await;
    random.ask.recipient_key = Some(format!("mailing 7 for {ANA}"));
    world.run_batch(random).await.outcome.unwrap();
    let codes = world.insert_codes(6).await;
    for code in &codes[..4] {
        let mut assign = world.named(code, ANA);
        assign.key = Some(new_key());
        world.run_batch(assign).await.outcome.unwrap();
    }
    world.give(&codes[4], "eva").await;
    let redeem = |code: &String| Redeem {
        code: code.clone(),
        presenter: Presenter::User(ANA.to_owned()),
        lock: None,
        reference: None,
        metadata: None,
    };
    world.run_batch(by_ana(world, redeem(&codes[0]), Some(new_key()))).await.outcome.unwrap();
    let redeemed = world.run_batch(by_ana(world, redeem(&codes[1]), None)).await.outcome.unwrap();
    let rollback = Rollback {
        redemption: redeemed.redemption,
        code: codes[1].clone(),
        user: None,
        reason: "a mistake".to_owned(),
    };
    world.run_batch(world.call(rollback)).await.outcome.unwrap();
    world.locked(&codes[2], ANA).await;
    query("update coupon set metadata = '{}' where code = $1")
        .bind(&codes[3])
        .execute(world.pool())
        .await
        .unwrap();
    // SHARED codes: one that the user has redeemed, and one that it has locked.
    let book = world.another_book(&crate::shared::shared()).await;
    for code in ["SHARED-1", "SHARED-2"] {
        let new = NewSharedCode {
            book,
            code: code.to_owned(),
            limits: SharedLimits::default(),
            metadata: None,
        };
        world.store().create_shared_code(None, world.business, &new).await.unwrap().outcome.unwrap();
    }
    world.run_batch(by_ana(world, redeem(&"SHARED-1".to_owned()), Some(new_key()))).await.outcome.unwrap();
    world.locked("SHARED-2", ANA).await;
    // A code of a caller that is the user, held by another user.
    let give = cuponera_store::AssignNamed { code: codes[5].clone(), user: "eva".to_owned() };
    world.run_batch(by_ana(world, give, None)).await.outcome.unwrap();
}

/// Rows of jobs, as the workers write them.
async fn note_in_jobs(world: &World) {
    let pool = new_pool(world, "Pool").await;
    let members = [ANA.to_owned(), "eva".to_owned()];
    world.store().add_pool_users(None, world.business, pool, &members).await.unwrap().outcome.unwrap();
    for (kind, created_by) in [("IMPORT_CODES", "service:test"), ("DISTRIBUTE", "user:needle")] {
        let created_by = created_by.replace("needle", ANA);
        query(
            "with job as (
               insert into job (id, business_id, kind, status, created_by, work, chunks_total, chunks_done, finished_at, failed, result)
               select $1, $2, $3, 'SUCCEEDED', $4, jsonb_build_object('user', $5::text), 1, 1, now(), ($3 = 'IMPORT_CODES')::int, named
               from (select jsonb_build_object('sample', jsonb_build_array(jsonb_build_object('userId', $5::text))) as named) n
               returning id, business_id, result),
             answered as (
               insert into request_key (id, fingerprint, answer)
               select gen_random_uuid(), id, jsonb_build_object('Ok', jsonb_build_object('id', id, 'business', business_id, 'result', result))
               from job),
             chunk as (
               insert into job_chunk (job_id, number, status, work)
               select id, 0, 'DONE', jsonb_build_object('rows', jsonb_build_array(jsonb_build_object('user', $5::text, 'text', $6::text)))
               from job),
             rejected as (
               insert into import_rejection (job_id, chunk, line, code, reason, detail, row)
               select id, 0, 1, 'C1', 'invalid', 'of ' || $5, $6 from job where $3 = 'IMPORT_CODES'),
             noted as (insert into dry_run_code (job_id, code, holder) select id, 'C1', $5 from job)
             insert into distribution_member (job_id, ordinal, user_id) select id, 0, $5 from job where $3 = 'DISTRIBUTE'",
        )
        .bind(JobId::generate().0)
        .bind(world.business.0)
        .bind(kind)
        .bind(created_by)
        .bind(ANA)
        .bind(format!("C1,\"{}\",x", ANA.replace('"', "\"\"")))
        .execute(world.pool())
        .await
        .unwrap();
    }
}

async fn deliver(world: &World) {
    let new = NewWebhook {
        url: "https://receiver.example/hooks".to_owned(),
        description: None,
        event_types: vec!["*".to_owned()],
        per_code: false,
        enabled: true,
    };
    world
        .store()
        .create_webhook(None, world.business, &new, &Secret::new([7; 32]))
        .await
        .unwrap()
        .outcome
        .unwrap();
}

/// Everything that can be stored about a user.
async fn full_world() -> (World, AccountId) {
    let world = World::new().await;
    deliver(&world).await;
    let account = create_account(&world).await;
    let grant = grant("secret");
    let started = world.store().start_login_if_verified(
        account,
        world.business,
        HASH,
        &grant,
        Some([203, 0, 113, 7].into()),
    );
    started.await.unwrap().unwrap();
    world.store().count_password_attempt(EMAIL, None).await.unwrap();
    use_codes(&world).await;
    note_in_jobs(&world).await;
    query(
        "insert into stat_top_holder (scope_id, is_book, changed_at, holders) values ($1, true, now(), $2)
           on conflict (scope_id) do update set holders = excluded.holders",
    )
    .bind(world.book.0)
    .bind(json!([{"user_id": "eva", "held": 3}, {"user_id": ANA, "held": 2}]))
    .execute(world.pool())
    .await
    .unwrap();
    eventually("deliveries to be created", async || {
        world.store().read_webhook_events(1_000).await.unwrap();
        (query_scalar::<_, i64>("select count(*) from webhook_delivery where body like '%a browser%'")
            .fetch_one(world.pool())
            .await
            .unwrap()
            > 2)
        .then_some(())
    })
    .await;
    query(
        "with attempted as (update webhook_delivery set attempts = 1 returning id)
           insert into webhook_attempt (delivery_id, number, at, duration_ms, answer)
           select id, 1, now(), 1, 'thanks, ' || $1 from attempted",
    )
    .bind(ANA)
    .execute(world.pool())
    .await
    .unwrap();
    (world, account)
}

/// Invariant I-71.
#[tokio::test]
async fn after_an_erasure_no_column_has_the_id_or_the_email_or_the_account() {
    let (world, account) = full_world().await;
    // The newest events are not sealed yet.
    seal_to_end(&world).await;
    world.give(&world.insert_codes_into(world.book, "D", 1).await[0], ANA).await;
    let expected = [
        "admin_event",
        "coupon",
        "coupon_event",
        "distribution_member",
        "dry_run_code",
        "import_rejection",
        "job",
        "job_chunk",
        "membership",
        "pool_member",
        "recipient_key",
        "redemption",
        "request_key",
        "shared_use",
        "stat_top_holder",
        "user_account",
        "user_quota",
        "webhook_attempt",
        "webhook_delivery",
    ];
    let found = tables_with(&world, NEEDLE).await;
    assert_eq!(found, expected, "the places of the test");
    world.assert_invariants().await;

    let erased = erase(&world, ANA).await;
    assert_eq!(parse_user_id(&erased.pseudonym), Ok(erased.pseudonym.as_str()));
    assert_eq!((erased.coupons, erased.coupons_with_metadata, erased.had_account), (6, 1, true));
    assert_eq!(tables_with(&world, NEEDLE).await, Vec::<String>::new());
    assert_eq!(tables_with(&world, &account.to_string()).await, Vec::<String>::new());
    assert_eq!(tables_with(&world, "203.0.113.7").await, Vec::<String>::new(), "the address of the user");
    assert_eq!(tables_with(&world, "a browser").await, Vec::<String>::new());
    assert_eq!(execute(&world, "delete from password_attempt").await, 0);
    world.assert_invariants().await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    seal_to_end(&world).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    world.assert_invariants().await;
    others_are_as_before(&world, &erased.pseudonym).await;
    assert!(world.store().preview_erasure(world.business, ANA).await.unwrap().is_none());
    a_later_user_is_new(&world).await;
}

async fn others_are_as_before(world: &World, pseudonym: &str) {
    let rows: Vec<(String, String)> =
        query_as("select row, detail from import_rejection").fetch_all(world.pool()).await.unwrap();
    assert_eq!(rows, [(format!("C1,\"{pseudonym}\",x"), format!("of {pseudonym}"))]);
    let holders: Vec<Value> =
        query_scalar("select holders from stat_top_holder").fetch_all(world.pool()).await.unwrap();
    assert!(
        holders.contains(&json!([{"user_id": "eva", "held": 3}, {"user_id": pseudonym, "held": 2}])),
        "{holders:?}"
    );
    let held: Vec<(String, i32)> = query_as("select user_id, held from user_quota order by user_id")
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert_eq!(held, [(pseudonym.to_owned(), 6), ("eva".to_owned(), 2)]);
    let members: Vec<String> = query_scalar("select user_id from pool_member order by user_id")
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert_eq!(members, [pseudonym, "eva"]);
    let records: Vec<(String, Value)> = query_as(
        "select actor, after from admin_event where subject = 'USER' and action = 'ERASE' and subject_id = $1 order by epoch, tx, id",
    )
    .bind(pseudonym)
    .fetch_all(world.pool())
    .await
    .unwrap();
    assert!(records.iter().all(|(actor, _)| actor == "cli"), "{records:?}");
    assert_eq!(records.last().unwrap().1["coupons"], 6, "{records:?}");
    let bodies: Vec<String> =
        query_scalar("select body from webhook_delivery").fetch_all(world.pool()).await.unwrap();
    assert!(bodies.iter().all(|body| serde_json::from_str::<Value>(body).is_ok()), "{bodies:?}");
    assert!(bodies.iter().any(|body| body.contains("127.0.0.1")), "addresses of other callers remain");
}

async fn a_later_user_is_new(world: &World) {
    let code = world.insert_codes_into(world.book, "E", 1).await.remove(0);
    world.give(&code, ANA).await;
    let held: i32 = query_scalar("select held from user_quota where user_id = $1")
        .bind(ANA)
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(held, 1);
    let second = erase(world, ANA).await;
    assert_eq!((second.coupons, second.events, second.had_account), (1, 1, false));
    assert_eq!(tables_with(world, NEEDLE).await, Vec::<String>::new());
    world.assert_invariants().await;
}
