//! Permanent keys: the reference of a redemption and the key of a recipient have one effect, however often and wherever they are repeated.

use cuponera_domain::book::{BookPatch, BookRules, BookStatus, Change};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::BookId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{
    AssignRandom, Assigned, Call, CallResult, Pools, Redeem, Redeemed, Revoke, Rollback, Store, Transition,
};
use cuponera_testkit::{CallExt, World, race, rules};
use sqlx::{query, query_scalar};

/// Number of repeated calls of a race, over [`SERVERS`].
const CALLS: usize = 1_000;
const SERVERS: usize = 4;

/// A world where `ana` holds one code with 50 redemptions.
async fn plenty() -> (World, String) {
    let world = World::with(BookRules { max_redeems_per_user: 50, ..rules() }).await;
    let code = world.insert_codes(1).await.remove(0);
    world.give(&code, "ana").await;
    (world, code)
}

fn redeem(world: &World, code: &str, user: &str, reference: &str) -> Call<Redeem> {
    let mut call = world.redeem(code, user);
    call.ask.reference = Some(reference.to_owned());
    call
}

fn assign(world: &World, book: BookId, user: &str, key: &str) -> Call<AssignRandom> {
    let (user, recipient_key) = (user.to_owned(), Some(key.to_owned()));
    world.call(AssignRandom { book, user, recipient_key })
}

/// Makes each call on one of four stores, in batches of eight.
async fn from_all_servers<T: Transition + Clone>(
    world: &World,
    call: &Call<T>,
) -> Vec<CallResult<T::Outcome>> {
    let mut stores: Vec<Store> = Vec::new();
    for _ in 0..SERVERS {
        stores.push(world.database.another_store(Pools::MIN).await);
    }
    let batches = (0..CALLS / 8).map(|number| (&stores[number % SERVERS], vec![call.clone(); 8]));
    let answers = race(16, batches, async |(store, calls)| store.run_batch(&calls).await.unwrap()).await;
    for store in stores {
        store.close().await;
    }
    answers.into_iter().flatten().collect()
}

/// Deletes the rows of idempotency keys, as housekeeping does after 24 hours.
async fn forget_request_keys(world: &World) {
    query("delete from request_key").execute(world.pool()).await.unwrap();
}

async fn count(world: &World, rows: &'static str) -> i64 {
    query_scalar(rows).fetch_one(world.pool()).await.unwrap()
}

fn redemptions(answers: &[CallResult<Redeemed>]) -> Vec<&Redeemed> {
    answers.iter().map(|answer| answer.outcome.as_ref().unwrap()).collect()
}

/// Invariant I-74.
#[tokio::test]
async fn a_thousand_redemptions_with_one_reference_from_four_servers_are_one() {
    let (world, code) = plenty().await;
    let answers = from_all_servers(&world, &redeem(&world, &code, "ana", "order 1")).await;
    let made = redemptions(&answers);
    assert_eq!(made.len(), CALLS);
    assert_eq!(made.iter().filter(|made| !made.replayed).count(), 1);
    assert!(made.iter().all(|one| one.redemption == made[0].redemption && one.redeem_count == 1));
    assert_eq!(world.coupon(&code).await.redeem_count, 1);
    // Another reference is another redemption, and the first one is found again.
    let second = redeem(&world, &code, "ana", "order 2").with_key("k");
    world.run_batch(second.clone()).await.outcome.unwrap();
    forget_request_keys(&world).await;
    let again = world.run_batch(second).await.outcome.unwrap();
    assert!(again.replayed && again.redeem_count == 2);
    let again = world.run_batch(redeem(&world, &code, "ana", "order 1").by_end_user()).await.outcome.unwrap();
    assert_eq!((again.redemption, again.redeem_count, again.replayed), (made[0].redemption, 1, true));
    assert_eq!(world.coupon(&code).await.redeem_count, 2);
    assert_eq!(count(&world, "select count(*) from redemption").await, 2);
    world.assert_invariants().await;
}

/// Both have seen that the reference is not used when they wait for the code.
/// Invariant I-74.
#[tokio::test]
async fn two_redemptions_with_one_reference_that_wait_for_the_code_are_one() {
    let (world, code) = plenty().await;
    let other = world.database.another_store(Pools::MIN).await;
    for number in 1..=8 {
        let call = redeem(&world, &code, "ana", &format!("order {number}"));
        let redeem_on = async |store: &Store| {
            store.run_batch(std::slice::from_ref(&call)).await.unwrap().remove(0).outcome.unwrap()
        };
        let both = async { tokio::join!(redeem_on(world.store()), redeem_on(&other)) };
        let (one, two) = Box::pin(world.all_at_once_on(&code, 2, both)).await;
        assert_eq!(one.redemption, two.redemption);
        assert_ne!(one.replayed, two.replayed);
        assert_eq!(world.coupon(&code).await.redeem_count, number);
    }
    other.close().await;
    world.assert_invariants().await;
}

/// Invariant I-74.
#[tokio::test]
async fn a_reference_is_found_whatever_became_of_the_code_and_the_book() {
    let (world, code) = plenty().await;
    let first = world.run_batch(redeem(&world, &code, "ana", "order 1")).await.outcome.unwrap();
    let closed = BookPatch { status: Change::Set(BookStatus::Closed), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, closed).await.unwrap().outcome.unwrap();
    let replayed = Redeemed { replayed: true, version: 0, ..first.clone() };
    assert_eq!(world.run_batch(redeem(&world, &code, "ana", "order 1")).await.outcome, Ok(replayed));
    assert_eq!(
        world.run_batch(redeem(&world, &code, "ana", "order 2")).await.outcome,
        Err(Rejection::BookNotActive)
    );
    let rollback = Rollback {
        redemption: first.redemption,
        code: code.clone(),
        user: None,
        reason: "returned".to_owned(),
    };
    world.run_batch(world.call(rollback)).await.outcome.unwrap();
    assert_eq!(
        world.run_batch(redeem(&world, &code, "ana", "order 1")).await.outcome,
        Err(Rejection::AlreadyRolledBack)
    );
    let other = redeem(&world, &code, "eva", "order 1");
    assert_eq!(world.run_batch(other.clone()).await.outcome, Err(Rejection::ReferenceUsed));
    assert_eq!(world.run_batch(other.by_end_user()).await.outcome, Err(Rejection::not_found("coupon")));
    world.assert_invariants().await;
}

/// Invariant I-74.
#[tokio::test]
async fn of_redemptions_with_one_reference_that_an_earlier_program_made_the_first_keeps_it() {
    let (world, code) = plenty().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(world.run_batch(world.redeem(&code, "ana")).await.outcome.unwrap().redemption);
    }
    query("update redemption set reference = 'order 1'").execute(world.pool()).await.unwrap();
    let again = world.run_batch(redeem(&world, &code, "ana", "order 1")).await.outcome.unwrap();
    assert_eq!((again.redemption, again.redeem_count, again.replayed), (made[0], 1, true));
    assert_eq!(world.coupon(&code).await.redeem_count, 3);
    world.assert_invariants().await;
}

/// Invariant I-74.
#[tokio::test]
async fn a_reference_is_of_one_code_of_one_business() {
    let (world, code) = plenty().await;
    let another = world.insert_codes_into(world.book, "D", 1).await.remove(0);
    world.give(&another, "ana").await;
    for code in [&code, &another] {
        let made = world.run_batch(redeem(&world, code, "ana", "order 1")).await.outcome.unwrap();
        assert!(!made.replayed, "{code}");
    }
    world.assert_invariants().await;
}

fn assignments(answers: &[CallResult<Assigned>]) -> Vec<&Assigned> {
    answers.iter().map(|answer| answer.outcome.as_ref().unwrap()).collect()
}

/// Invariant I-75.
#[tokio::test]
async fn a_thousand_assignments_with_one_recipient_key_from_four_servers_are_one() {
    let world = World::new().await;
    world.insert_codes(50).await;
    let answers = from_all_servers(&world, &assign(&world, world.book, "ana", "mail 1")).await;
    let given = assignments(&answers);
    assert_eq!(given.iter().filter(|given| !given.repeated).count(), 1);
    assert!(given.iter().all(|one| one.id == given[0].id && one.code == given[0].code));
    assert_eq!(count(&world, "select count(*) from coupon where holder is not null").await, 1);
    let second = assign(&world, world.book, "ana", "mail 2").with_key("k");
    let first = world.run_batch(second.clone()).await.outcome.unwrap();
    forget_request_keys(&world).await;
    let again = world.run_batch(second).await.outcome.unwrap();
    assert_eq!(again, Assigned { repeated: true, ..first });
    assert_eq!(count(&world, "select count(*) from coupon where holder is not null").await, 2);
    world.assert_invariants().await;
}

/// Invariant I-75.
#[tokio::test]
async fn a_recipient_key_finds_its_code_whatever_became_of_the_code_and_the_book() {
    let world = World::new().await;
    world.insert_codes(2).await;
    let first = world.run_batch(assign(&world, world.book, "ana", "mail 1")).await.outcome.unwrap();
    world.run_batch(world.redeem(&first.code, "ana")).await.outcome.unwrap();
    let closed = BookPatch { status: Change::Set(BookStatus::Closed), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, closed).await.unwrap().outcome.unwrap();
    let again = world.run_batch(assign(&world, world.book, "ana", "mail 1")).await.outcome.unwrap();
    assert_eq!(again, Assigned { repeated: true, status: CouponStatus::Redeemed, ..first });
    let other = world.run_batch(assign(&world, world.book, "eva", "mail 1")).await.outcome;
    assert_eq!(other, Err(Rejection::RecipientKeyUsed));
    let new = world.run_batch(assign(&world, world.book, "ana", "mail 2")).await.outcome;
    assert_eq!(new, Err(Rejection::BookNotActive));
    world.assert_invariants().await;
}

/// Invariant I-75.
#[tokio::test]
async fn a_recipient_key_whose_code_was_taken_back_is_rejected() {
    let world = World::new().await;
    world.insert_codes(1).await;
    let first = world.run_batch(assign(&world, world.book, "ana", "mail 1")).await.outcome.unwrap();
    let revoke =
        Revoke { code: first.code.clone(), user: None, assignment: None, reason: "a mistake".to_owned() };
    world.run_batch(world.call(revoke)).await.outcome.unwrap();
    for user in ["ana", "eva"] {
        let again = world.run_batch(assign(&world, world.book, user, "mail 1")).await.outcome;
        assert_eq!(again, Err(Rejection::RecipientKeyUsed), "{user}");
    }
    // Another user may hold the code now.
    world.give(&first.code, "eva").await;
    let again = world.run_batch(assign(&world, world.book, "ana", "mail 1")).await.outcome;
    assert_eq!(again, Err(Rejection::RecipientKeyUsed));
    world.assert_invariants().await;
}

/// Invariant I-75.
#[tokio::test]
async fn a_recipient_key_is_of_one_book_and_is_not_used_by_a_rejected_call() {
    let world = World::new().await;
    let another = world.another_book(&rules()).await;
    world.insert_codes_into(another, "B", 1).await;
    let sold_out = assign(&world, world.book, "ana", "mail 1");
    assert_eq!(world.run_batch(sold_out.clone()).await.outcome, Err(Rejection::SoldOut));
    assert!(!world.run_batch(assign(&world, another, "eva", "mail 1")).await.outcome.unwrap().repeated);
    world.insert_codes(1).await;
    assert!(!world.run_batch(sold_out).await.outcome.unwrap().repeated);
    let foreign = assign(&world, world.book, "ana", "mail 1").in_business(world.another_business().await);
    assert_eq!(world.run_batch(foreign).await.outcome, Err(Rejection::not_found("coupon book")));
    world.assert_invariants().await;
}
