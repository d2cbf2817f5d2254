use std::net::{IpAddr, Ipv4Addr};

use cuponera_domain::id::BusinessId;
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

/// Adds a request to the queue.
fn enter(queue: &Arc<Queue>, by: &Claimant, account: u64) -> (UsageGuard, oneshot::Receiver<HashPermit>) {
    let side = usize::from(!matches!(by, Claimant::Known { .. }));
    let usage_keys = by.competitors().map(UsageKey::Owner).chain([UsageKey::Account(account)]).collect();
    queue.enter(side, usage_keys)
}

/// All permits.
fn all_permits(queue: &Arc<Queue>) -> Vec<HashPermit> {
    (0..HASHES_AT_ONCE)
        .map(|_| enter(queue, &admin(), 0).1.now_or_never().expect("a permit").expect("a permit"))
        .collect()
}

type Entry = (UsageGuard, oneshot::Receiver<HashPermit>);

/// The order in which the entries get a permit that is passed on.
fn order(permit: HashPermit, mut entries: Vec<(&'static str, Entry)>) -> Vec<&'static str> {
    let (mut order, mut permit) = (Vec::new(), Some(permit));
    while let Some(given) = permit.take() {
        drop(given);
        entries.retain_mut(|(name, (_, receiver))| match receiver.try_recv() {
            Ok(next) => {
                order.push(*name);
                permit = Some(next);
                false
            }
            Err(_) => true,
        });
    }
    order
}

#[test]
fn a_new_address_goes_before_addresses_with_many_requests() {
    let queue = queue(64);
    let mut permits = all_permits(&queue);
    let mut entries: Vec<_> = (0..6).map(|n| ("flood", enter(&queue, &stranger(1), n))).collect();
    entries.push(("new", enter(&queue, &stranger(2), 9)));
    let order = order(permits.pop().unwrap(), entries);
    assert_eq!(order, ["new", "flood", "flood", "flood", "flood", "flood", "flood"]);
}

#[test]
fn wrong_passwords_count_for_the_address_and_correct_ones_do_not() {
    let queue = queue(64);
    let mut permits = all_permits(&queue);
    for (n, has_succeeded) in [(1, false), (2, true)] {
        let (mut usage_guard, _) = enter(&queue, &stranger(n), u64::from(n));
        usage_guard.has_succeeded = has_succeeded;
    }
    let entries = vec![("guesser", enter(&queue, &stranger(1), 3)), ("user", enter(&queue, &stranger(2), 4))];
    assert_eq!(order(permits.pop().unwrap(), entries), ["user", "guesser"]);
}

#[test]
fn with_equal_use_by_address_the_account_with_fewer_requests_goes_first() {
    let queue = queue(64);
    let mut permits = all_permits(&queue);
    let mut entries: Vec<_> = (1..4).map(|n| ("flood", enter(&queue, &stranger(n), 7))).collect();
    entries.push(("another account", enter(&queue, &stranger(9), 8)));
    assert_eq!(order(permits.pop().unwrap(), entries), ["another account", "flood", "flood", "flood"]);
}

#[test]
fn a_full_queue_rejects_the_highest_rank_and_not_the_new_address() {
    let queue = queue(4);
    let _permits = all_permits(&queue);
    let mut flood: Vec<_> = (0..4).map(|n| enter(&queue, &stranger(1), n)).collect();
    let mut new = enter(&queue, &stranger(2), 9);
    let rejected =
        |entry: &mut Entry| matches!(entry.1.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert!(!rejected(&mut new));
    assert_eq!(flood.iter_mut().map(rejected).collect::<Vec<_>>(), [false, false, false, true]);
    let mut more = enter(&queue, &stranger(1), 10);
    assert!(rejected(&mut more), "the request with the highest rank was accepted");
}

#[test]
fn rejected_requests_count_so_a_new_address_goes_before_a_flood() {
    let queue = queue(4);
    let mut permits = all_permits(&queue);
    // Each request was in the queue and got no permit.
    (1..5).for_each(|n| drop(enter(&queue, &stranger(n), n.into())));
    let flood = (1..5).map(|n| ("flood", enter(&queue, &stranger(n), 10 + u64::from(n))));
    let entries = flood.collect::<Vec<_>>().into_iter().chain([("new", enter(&queue, &stranger(6), 7))]);
    assert_eq!(order(permits.pop().unwrap(), entries.collect()), ["new", "flood", "flood", "flood"]);
}

#[test]
fn callers_with_and_without_credentials_alternate() {
    let queue = queue(64);
    let mut permits = all_permits(&queue);
    let mut entries: Vec<_> = (1..5).map(|n| ("anonymous", enter(&queue, &stranger(n), 1))).collect();
    entries.extend((0..2).map(|n| ("known", enter(&queue, &admin(), n))));
    let order = order(permits.pop().unwrap(), entries);
    let position = |name| order.iter().rposition(|other| *other == name).unwrap();
    assert!(position("known") <= 3, "{order:?}");
    assert_eq!(order.len(), 6);
}

#[test]
fn a_dropped_request_passes_its_permit_on() {
    let queue = queue(64);
    let permits = all_permits(&queue);
    let gone = enter(&queue, &stranger(1), 1);
    let mut stays = enter(&queue, &stranger(2), 2);
    drop(gone);
    drop(permits);
    drop(stays.1.try_recv().expect("the permit was lost"));
    stays.0.has_succeeded = true;
    drop(stays);
    assert_eq!(queue.state().running, 0);
}

#[test]
fn failures_expire_after_ten_minutes() {
    let (mut usage, now, usage_keys) = (Usage::default(), Instant::now(), [UsageKey::Account(1)]);
    assert_eq!(usage.add(&usage_keys, now), (0, 0));
    usage.remove(&usage_keys, true, now);
    assert_eq!(usage.add(&usage_keys, now), (0, 1));
    usage.remove(&usage_keys, true, now);
    let later = now + usage::FAILURE_TTL;
    usage.evict_idle(later - std::time::Duration::from_secs(1));
    assert_eq!(usage.len(), 1);
    assert_eq!(usage.add(&usage_keys, later), (0, 0));
    usage.remove(&usage_keys, false, later);
    assert_eq!(usage.len(), 0);
}

#[tokio::test]
async fn a_dropped_caller_keeps_its_permit_until_its_hash_is_done() {
    let hashing = Hashing::new(64, TaskTracker::new()).unwrap();
    let by = stranger(1);
    let verify = async || {
        let turn = hashing.turn(&by, "x").await.unwrap();
        hashing.verify(turn, "x".to_owned().into(), None).await.unwrap()
    };
    let mut gone: Vec<_> = (0..HASHES_AT_ONCE).map(|_| Box::pin(verify())).collect();
    for one in &mut gone {
        assert!(futures::poll!(one).is_pending());
    }
    drop(gone);
    assert_eq!(hashing.queue.state().running, HASHES_AT_ONCE, "the permit of a running hash was released");
    assert!(!verify().await);
    assert_eq!(
        hashing.queue.state().usage.len(),
        2,
        "it does not count as a failure of its address and account"
    );
}
