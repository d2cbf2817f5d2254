use std::net::{IpAddr, Ipv4Addr};

use cuponera_core::id::BusinessId;
use futures::FutureExt;
use uuid::Uuid;

use super::*;

fn stranger(n: u8) -> Claimant {
    Claimant::Anonymous { address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))) }
}

fn admin() -> Claimant {
    Claimant::Known { caller: Uuid::now_v7(), business: BusinessId(Uuid::now_v7()), address: None }
}

fn queue(room: usize) -> Arc<Queue> {
    let queue = Queue { room, metrics: Resource::new("passwords"), state: Mutex::default() };
    Arc::new(queue)
}

/// Takes a place in the queue.
fn enter(queue: &Arc<Queue>, by: &Claimant, account: u64) -> (Counted, oneshot::Receiver<Turn>) {
    let side = usize::from(!matches!(by, Claimant::Known { .. }));
    let rivals = by.rivals().map(Rival::Owner).chain([Rival::Account(account)]).collect();
    queue.enter(side, rivals)
}

/// All turns there are.
fn all_turns(queue: &Arc<Queue>) -> Vec<Turn> {
    (0..HASHES_AT_ONCE)
        .map(|_| enter(queue, &admin(), 0).1.now_or_never().expect("a turn").expect("a turn"))
        .collect()
}

type Place = (Counted, oneshot::Receiver<Turn>);

/// The places that get a turn as one turn is given on and on, in this order.
fn order(turn: Turn, mut places: Vec<(&'static str, Place)>) -> Vec<&'static str> {
    let (mut order, mut turn) = (Vec::new(), Some(turn));
    while let Some(given) = turn.take() {
        drop(given);
        places.retain_mut(|(name, (_, receiver))| match receiver.try_recv() {
            Ok(next) => {
                order.push(*name);
                turn = Some(next);
                false
            }
            Err(_) => true,
        });
    }
    order
}

#[test]
fn an_address_that_comes_new_goes_before_those_with_many_in_the_queue() {
    let queue = queue(64);
    let mut turns = all_turns(&queue);
    let mut places: Vec<_> = (0..6).map(|n| ("flood", enter(&queue, &stranger(1), n))).collect();
    places.push(("new", enter(&queue, &stranger(2), 9)));
    let order = order(turns.pop().unwrap(), places);
    assert_eq!(order, ["new", "flood", "flood", "flood", "flood", "flood", "flood"]);
}

#[test]
fn wrong_passwords_count_against_the_address_and_right_ones_do_not() {
    let queue = queue(64);
    let mut turns = all_turns(&queue);
    for (n, went_well) in [(1, false), (2, true)] {
        let (mut counted, _) = enter(&queue, &stranger(n), u64::from(n));
        counted.went_well = went_well;
    }
    let places = vec![("guesser", enter(&queue, &stranger(1), 3)), ("user", enter(&queue, &stranger(2), 4))];
    assert_eq!(order(turns.pop().unwrap(), places), ["user", "guesser"]);
}

#[test]
fn among_addresses_with_equal_use_the_account_that_is_tried_least_goes_first() {
    let queue = queue(64);
    let mut turns = all_turns(&queue);
    let mut places: Vec<_> = (1..4).map(|n| ("flood", enter(&queue, &stranger(n), 7))).collect();
    places.push(("another account", enter(&queue, &stranger(9), 8)));
    assert_eq!(order(turns.pop().unwrap(), places), ["another account", "flood", "flood", "flood"]);
}

#[test]
fn where_the_queue_is_full_the_highest_rank_is_refused_and_not_the_newcomer() {
    let queue = queue(4);
    let _turns = all_turns(&queue);
    let mut flood: Vec<_> = (0..4).map(|n| enter(&queue, &stranger(1), n)).collect();
    let mut new = enter(&queue, &stranger(2), 9);
    let refused = |place: &mut Place| matches!(place.1.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert!(!refused(&mut new));
    assert_eq!(flood.iter_mut().map(refused).collect::<Vec<_>>(), [false, false, false, true]);
    let mut more = enter(&queue, &stranger(1), 10);
    assert!(refused(&mut more), "one that ranks last was let in");
}

#[test]
fn what_was_refused_counts_too_so_that_one_who_comes_new_is_before_all_who_flood() {
    let queue = queue(4);
    let mut turns = all_turns(&queue);
    // Each was in the queue once, and had no turn.
    (1..5).for_each(|n| drop(enter(&queue, &stranger(n), n.into())));
    let flood = (1..5).map(|n| ("flood", enter(&queue, &stranger(n), 10 + u64::from(n))));
    let places = flood.collect::<Vec<_>>().into_iter().chain([("new", enter(&queue, &stranger(6), 7))]);
    assert_eq!(order(turns.pop().unwrap(), places.collect()), ["new", "flood", "flood", "flood"]);
}

#[test]
fn callers_with_credentials_and_without_take_turns() {
    let queue = queue(64);
    let mut turns = all_turns(&queue);
    let mut places: Vec<_> = (1..5).map(|n| ("anonymous", enter(&queue, &stranger(n), 1))).collect();
    places.extend((0..2).map(|n| ("known", enter(&queue, &admin(), n))));
    let order = order(turns.pop().unwrap(), places);
    let position = |name| order.iter().rposition(|other| *other == name).unwrap();
    assert!(position("known") <= 3, "{order:?}");
    assert_eq!(order.len(), 6);
}

#[test]
fn who_goes_away_leaves_the_turn_to_others() {
    let queue = queue(64);
    let turns = all_turns(&queue);
    let gone = enter(&queue, &stranger(1), 1);
    let mut stays = enter(&queue, &stranger(2), 2);
    drop(gone);
    drop(turns);
    drop(stays.1.try_recv().expect("the turn went to nobody"));
    stays.0.went_well = true;
    drop(stays);
    assert_eq!(queue.state().running, 0);
}

#[test]
fn wrong_passwords_are_forgotten_after_ten_minutes() {
    let (mut usage, now, rivals) = (Usage::default(), Instant::now(), [Rival::Account(1)]);
    assert_eq!(usage.add(&rivals, now), (0, 0));
    usage.remove(&rivals, true, now);
    assert_eq!(usage.add(&rivals, now), (0, 1));
    usage.remove(&rivals, true, now);
    let later = now + usage::FAILURE_MEMORY;
    usage.forget_quiet(later - std::time::Duration::from_secs(1));
    assert_eq!(usage.len(), 1);
    assert_eq!(usage.add(&rivals, later), (0, 0));
    usage.remove(&rivals, false, later);
    assert_eq!(usage.len(), 0);
}

#[tokio::test]
async fn a_caller_who_goes_away_keeps_its_turn_until_its_hash_is_done() {
    let hashing = Hashing::new(64, TaskTracker::new()).unwrap();
    let by = stranger(1);
    let mut gone: Vec<_> = (0..HASHES_AT_ONCE)
        .map(|_| Box::pin(hashing.verify(&by, "x", "x".to_owned().into(), None)))
        .collect();
    for one in &mut gone {
        assert!(futures::poll!(one).is_pending());
    }
    drop(gone);
    assert_eq!(hashing.queue.state().running, HASHES_AT_ONCE, "a hash that still runs gave its turn away");
    assert!(!hashing.verify(&by, "x", "x".to_owned().into(), None).await.unwrap());
    assert_eq!(
        hashing.queue.state().usage.len(),
        2,
        "it counts as a wrong password of its address and account"
    );
}
