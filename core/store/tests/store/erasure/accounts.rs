//! Accounts of erased users, and what prevents an erasure.

use cuponera_domain::id::{AccountId, BusinessId};
use cuponera_domain::principal::RoleName;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{ErasureStart, Error, NewAccount};
use cuponera_testkit::World;
use sqlx::{query, query_scalar};

use super::{erase, execute, tables_with};
use crate::setup::{HASH, grant, import_of};

async fn create(
    world: &World,
    business: BusinessId,
    email: &str,
    user_id: &str,
    role: RoleName,
) -> AccountId {
    let new = NewAccount {
        business,
        email: email.to_owned(),
        password_hash: HASH.to_owned(),
        role,
        user_id: Some(user_id.to_owned()),
    };
    world.store().create_account(None, &new).await.unwrap().outcome.unwrap().id
}

#[tokio::test]
async fn an_account_of_two_businesses_only_leaves_the_one() {
    for erased_first in [true, false] {
        let world = World::new().await;
        let other = world.another_business().await;
        let (first, second) = if erased_first { (world.business, other) } else { (other, world.business) };
        let account = create(&world, first, "ana@shop.test", "ana", RoleName::User).await;
        create(&world, second, "ana@shop.test", "ana", RoleName::User).await;
        let mut logins = Vec::new();
        for (business, secret) in [(world.business, "one"), (other, "two")] {
            let started =
                world.store().start_login_if_verified(account, business, HASH, &grant(secret), None).await;
            logins.push(started.unwrap().unwrap().0);
        }
        erase(&world, "ana").await;
        let memberships = world.store().list_memberships(account).await.unwrap();
        assert_eq!(memberships.iter().map(|member| member.business).collect::<Vec<_>>(), [other]);
        let is_live = async |login| world.store().find_login_holder(login).await.unwrap().is_some();
        assert!(!is_live(logins[0]).await && is_live(logins[1]).await);
        let events: i64 = query_scalar(
            "select count(*) from admin_event where business_id = $1
               and (position('ana' in subject_id || coalesce(before::text, '') || coalesce(after::text, '')) > 0 or subject_id = $2)",
        )
        .bind(world.business.0)
        .bind(account.to_string())
        .fetch_one(world.pool())
        .await
        .unwrap();
        assert_eq!(events, 0);
        world.assert_invariants().await;
    }
}

#[tokio::test]
async fn the_last_admin_an_unknown_user_and_a_user_of_an_open_job_are_not_erased() {
    let world = World::new().await;
    let begin = async |user: &str| world.store().begin_erasure(world.business, user, false).await;
    assert!(matches!(begin("ana").await.unwrap(), ErasureStart::UnknownUser));
    create(&world, world.business, "ana@shop.test", "ana", RoleName::Admin).await;
    assert!(matches!(begin("ana").await, Err(Error::Rejected(Rejection::LastAdmin))));
    let admin = create(&world, world.business, "eva@shop.test", "eva", RoleName::Admin).await;
    let parts = vec![cuponera_domain::job::import::Chunk::at_line("a".to_owned(), 1)];
    let job =
        world.store().submit_import(None, world.business, "service:test", import_of(&world, parts)).await;
    let job = job.unwrap().outcome.unwrap().id;
    assert!(matches!(begin("ana").await.unwrap(), ErasureStart::JobsOpen(jobs) if jobs == [job]));
    assert_eq!(execute(&world, "delete from erasure").await, 0);
    query("update job set status = 'CANCELLED', finished_at = now() where id = $1")
        .bind(job.0)
        .execute(world.pool())
        .await
        .unwrap();
    erase(&world, "ana").await;
    assert_eq!(tables_with(&world, "ana@shop.test").await, Vec::<String>::new());
    assert!(world.store().get_account(world.business, admin).await.is_ok());
}

/// The stored spelling of an id of an earlier version, which its trimmed form finds.
#[tokio::test]
async fn the_stored_spelling_of_an_id_is_erased_too() {
    let world = World::new().await;
    let code = world.insert_codes(1).await.remove(0);
    world.give(&code, "\u{feff}ana-needle").await;
    assert_eq!(tables_with(&world, "\u{feff}ana-needle").await.len(), 4);
    let erased = erase(&world, "ana-needle").await;
    assert_eq!(erased.coupons, 1);
    assert_eq!(tables_with(&world, "ana-needle").await, Vec::<String>::new());
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_user_of_rejected_rows_only_is_erased_on_demand() {
    let world = World::new().await;
    query(
        "with job as (
           insert into job (id, business_id, kind, status, created_by, work, chunks_total, chunks_done, finished_at, failed)
           values (gen_random_uuid(), $1, 'IMPORT_CODES', 'SUCCEEDED', 'service:test', '{}', 1, 1, now(), 1) returning id)
         insert into import_rejection (job_id, chunk, line, code, reason, detail, row)
         select id, 0, 1, 'C1', 'invalid', 'too long', 'C1,zoe-needle' from job",
    )
    .bind(world.business.0)
    .execute(world.pool())
    .await
    .unwrap();
    let begin =
        async |is_forced| world.store().begin_erasure(world.business, "zoe-needle", is_forced).await.unwrap();
    assert!(matches!(begin(false).await, ErasureStart::UnknownUser));
    let ErasureStart::Begun(erasure) = begin(true).await else { panic!("the erasure has not begun") };
    world.store().erase_rows(&erasure, None, |_| {}).await.unwrap();
    world.store().finish_erasure(*erasure).await.unwrap();
    assert_eq!(tables_with(&world, "zoe-needle").await, Vec::<String>::new());
}
