//! User pools: members are counted exactly whatever races, and a deleted pool is gone at once.

use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::id::PoolId;
use cuponera_domain::job::{JobStatus, Task};
use cuponera_domain::pool::{AddedUsers, PoolPatch};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::{csv, job};
use cuponera_store::Error;
use cuponera_store::GenerateId;
use cuponera_store::{ClaimState, ImportPart, ImportRow, NewMemberImport, RejectedRow, RejectedRowCursor};
use cuponera_testkit::{World, claim, key, race, read_as};
use sqlx::query_scalar;

pub(crate) async fn new_pool(world: &World, name: &str) -> PoolId {
    world.store().create_pool(None, world.business, name, None).await.unwrap().outcome.unwrap().id
}

pub(crate) fn ids(users: impl IntoIterator<Item = u32>) -> Vec<String> {
    users.into_iter().map(|user| format!("user-{user:06}")).collect()
}

async fn add(world: &World, pool: PoolId, users: &[String]) -> AddedUsers {
    world.store().add_pool_users(None, world.business, pool, users).await.unwrap().outcome.unwrap()
}

async fn members(world: &World, pool: PoolId) -> i64 {
    world.store().get_pool(world.business, pool).await.unwrap().member_count
}

#[tokio::test]
async fn a_name_is_unique_within_a_business_until_its_pool_is_deleted() {
    let world = World::new().await;
    let (store, business) = (world.store(), world.business);
    let first = new_pool(&world, " VIP ").await;
    assert_eq!(store.get_pool(business, first).await.unwrap().name, "VIP");
    let again = store.create_pool(None, business, "VIP", None).await.unwrap().outcome;
    assert_eq!(again, Err(Rejection::NameTaken));
    let other = new_pool(&world, "Other").await;
    let renamed = PoolPatch { name: Some("VIP".into()), description: None };
    let renamed = store.update_pool(None, business, other, renamed).await.unwrap().outcome;
    assert_eq!(renamed, Err(Rejection::NameTaken));
    let elsewhere = world.another_business().await;
    store.create_pool(None, elsewhere, "VIP", None).await.unwrap().outcome.unwrap();
    assert!(matches!(
        store.get_pool(elsewhere, first).await,
        Err(Error::Rejected(Rejection::NotFound { .. }))
    ));
    store.delete_pool(business, first).await.unwrap();
    new_pool(&world, "VIP").await;
    let races =
        race(8, 0..8, async |_| store.create_pool(None, business, "Raced", None).await.unwrap()).await;
    assert_eq!(races.iter().filter(|answer| answer.outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn users_are_counted_as_added_known_or_invalid_and_the_answer_is_replayed() {
    let world = World::new().await;
    let pool = new_pool(&world, "Pool").await;
    add(&world, pool, &ids(0..3)).await;
    let mut users = ids(2..5);
    users.extend([" user-000004 ", "", "a\u{200b}b", "\u{0}"].map(str::to_owned));
    let expected = AddedUsers { added: 2, already_members: 2, invalid: 3 };
    for replayed in [false, true] {
        let answer = world
            .store()
            .add_pool_users(Some(key("add", "body")), world.business, pool, &users)
            .await
            .unwrap();
        assert_eq!((answer.outcome.unwrap(), answer.replayed), (expected, replayed));
    }
    assert_eq!(members(&world, pool).await, 5);
    let none = world.store().add_pool_users(None, world.business, pool, &[]).await.unwrap().outcome;
    assert!(matches!(none, Err(Rejection::Invalid { .. })));
    let many =
        world.store().add_pool_users(None, world.business, pool, &ids(0..10_001)).await.unwrap().outcome;
    assert!(matches!(many, Err(Rejection::Invalid { .. })));
    world.assert_invariants().await;
}

#[tokio::test]
async fn members_are_listed_in_order_by_prefix_and_page() {
    let world = World::new().await;
    let (store, business) = (world.store(), world.business);
    let pool = new_pool(&world, "Pool").await;
    let other = new_pool(&world, "Other").await;
    let users = ["ana", "ana maría", "anb", "b", "ñandú", "日本"].map(str::to_owned);
    add(&world, pool, &users).await;
    add(&world, other, &ids(0..100)).await;
    let list = async |prefix: Option<&str>, after: Option<&str>, limit| {
        let page = store.list_pool_members(business, pool, prefix, after, limit).await.unwrap();
        let users: Vec<String> = page.items.into_iter().map(|member| member.user_id).collect();
        (users, page.next_cursor, page.total)
    };
    assert_eq!(list(None, None, 10).await, (users.to_vec(), None, Some(6)));
    assert_eq!(list(Some("an"), None, 2).await, (users[..2].to_vec(), Some("ana maría".into()), None));
    assert_eq!(list(Some("an"), Some("ana maría"), 2).await, (users[2..3].to_vec(), None, None));
    assert_eq!(list(Some("ñ"), None, 2).await.0, ["ñandú"]);
    assert_eq!(list(Some("x"), None, 2).await.0, Vec::<String>::new());
}

/// Invariant I-53.
#[tokio::test]
async fn members_that_are_added_and_removed_at_once_are_counted_exactly() {
    let world = World::new().await;
    let pool = new_pool(&world, "Pool").await;
    race(12, 0..60_u32, async |round| {
        let users = ids((0..200).map(|user| (user * 7 + round * 31) % 400));
        if round % 3 == 0 {
            let removed = world.store().remove_pool_users(None, world.business, pool, &users).await.unwrap();
            removed.outcome.unwrap();
        } else {
            add(&world, pool, &users).await;
        }
    })
    .await;
    world.assert_invariants().await;
    let members: i64 =
        query_scalar("select count(*) from pool_member").fetch_one(world.pool()).await.unwrap();
    assert!(members > 0);
    let user = ids(0..400).into_iter().next().unwrap();
    add(&world, pool, std::slice::from_ref(&user)).await;
    world.store().remove_pool_user(world.business, pool, &user).await.unwrap();
    let again = world.store().remove_pool_user(world.business, pool, &user).await;
    assert!(matches!(again, Err(Error::Rejected(Rejection::NotFound { .. }))));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_deleted_pool_takes_no_members_and_housekeeping_deletes_those_it_has() {
    let world = World::new().await;
    let (store, business) = (world.store(), world.business);
    let kept = new_pool(&world, "Kept").await;
    add(&world, kept, &ids(0..10)).await;
    let pool = new_pool(&world, "Pool").await;
    let adding = race(8, 0..20_u32, async |round| {
        store
            .add_pool_users(None, business, pool, &ids(round * 100..(round + 1) * 100))
            .await
            .unwrap()
            .outcome
    });
    let (added, deleted) = futures::join!(adding, store.delete_pool(business, pool));
    deleted.unwrap();
    assert!(added.iter().all(|added| matches!(added, Ok(_) | Err(Rejection::NotFound { .. }))));
    assert!(store.list_pools(business, None, 10).await.unwrap().items.iter().all(|found| found.id == kept));
    assert!(matches!(
        store.delete_pool(business, pool).await,
        Err(Error::Rejected(Rejection::NotFound { .. }))
    ));
    store.forget_deleted_pools().await.unwrap();
    let left: i64 = query_scalar("select count(*) from pool_member").fetch_one(world.pool()).await.unwrap();
    assert_eq!(left, 10);
    world.assert_invariants().await;
}

fn import(parts: usize) -> NewMemberImport {
    let part = |part: usize| job::import::Chunk::at_line(format!("uploads/x/{part}"), 1);
    NewMemberImport {
        id: cuponera_domain::id::JobId::generate(),
        columns: csv::Columns::default(),
        delimiter: csv::Delimiter::default(),
        read_as: read_as(),
        parts: (0..parts).map(part).collect(),
        rows: 20,
    }
}

fn part_of(users: &[String]) -> ImportPart {
    let row = |(line, user): (u64, &String)| ImportRow {
        code: user.clone(),
        line,
        place: line,
        user: None,
        metadata: None,
        limits: SharedLimits::default(),
        text: user.clone(),
    };
    ImportPart { rows: (1..).zip(users).map(row).collect(), ..ImportPart::default() }
}

#[tokio::test]
async fn an_import_adds_each_user_once_and_reports_the_others() {
    let world = World::new().await;
    let pool = new_pool(&world, "Pool").await;
    add(&world, pool, &ids(0..2)).await;
    let submitted = world.store().submit_member_import(None, world.business, "test", pool, import(2)).await;
    let submitted = submitted.unwrap().outcome.unwrap();
    let first = claim(world.store(), "one").await.unwrap();
    let second = claim(world.store(), "two").await.unwrap();
    assert!(matches!(first.task, Task::ImportMembers(..)));
    let lost = job::JobKind::ImportMembers;
    assert_eq!(first.task.kind(), lost);
    let mut part = part_of(&ids(0..10));
    let rejection = RejectedRow {
        line: 11,
        code: "a\u{200b}b".into(),
        reason: "bad_user_id".into(),
        detail: "the user id is wrong".into(),
        row: "x".into(),
    };
    part.rejections.push(rejection);
    let other = part_of(&ids(5..12));
    let (one, two) = futures::join!(
        world.store().finish_imported_members(&first, pool, &part),
        world.store().finish_imported_members(&second, pool, &other)
    );
    assert_eq!((one.unwrap(), two.unwrap()), (ClaimState::Held, ClaimState::Held));
    let again = world.store().finish_imported_members(&second, pool, &part_of(&ids(50..60))).await.unwrap();
    assert_eq!(again, ClaimState::Lost, "a chunk that is done adds nothing");
    let done = world.store().get_job(world.business, submitted.id).await.unwrap();
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 10, 8));
    let counts = ["addedCount", "alreadyMembersCount", "duplicatesCount", "invalidRowsCount"];
    assert_eq!(counts.map(|count| done.result[count].as_i64()), [Some(10), Some(7), Some(0), Some(1)]);
    assert_eq!(members(&world, pool).await, 12);
    let rejections =
        world.store().list_rejected_rows(done.id, RejectedRowCursor::default()).await.unwrap().rejections;
    assert_eq!(rejections.len(), 8);
    world.assert_invariants().await;
}

#[tokio::test]
async fn an_import_into_a_pool_that_was_deleted_stops() {
    let world = World::new().await;
    let pool = new_pool(&world, "Pool").await;
    let submitted = world.store().submit_member_import(None, world.business, "test", pool, import(1)).await;
    submitted.unwrap().outcome.unwrap();
    world.store().delete_pool(world.business, pool).await.unwrap();
    let chunk = claim(world.store(), "one").await.unwrap();
    let stopped = world.store().finish_imported_members(&chunk, pool, &part_of(&ids(0..5))).await;
    assert!(matches!(stopped, Err(Error::Rejected(Rejection::NotFound { .. }))));
    let rejected = world.store().submit_member_import(None, world.business, "test", pool, import(1)).await;
    assert!(matches!(rejected.unwrap().outcome, Err(Rejection::NotFound { .. })));
    world.assert_invariants().await;
}
