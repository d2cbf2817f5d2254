use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const USERS: usize = 3;

/// A code, its users, and the number of codes of the book that each uses.
#[derive(Debug, Clone, PartialEq)]
struct World {
    code: SharedCode,
    users: Vec<SharedUser>,
    codes_of_user: Vec<i32>,
    events: Vec<(usize, SharedEvent)>,
}

impl World {
    fn new(rules: SharedRules) -> Self {
        let now = DateTime::UNIX_EPOCH;
        let code = SharedCode {
            rules,
            now,
            next_at: now,
            status: CouponStatus::Available,
            version: 0,
            redeem_count: 0,
            last_use: 0,
            lock_count: 0,
            expired_count: 0,
            first_end: None,
            redeemed_at: None,
            was_locked: false,
        };
        let users = vec![SharedUser::default(); USERS];
        Self { code, users, codes_of_user: vec![0; USERS], events: Vec::new() }
    }

    fn of(&mut self, user: usize) -> SharedUse<'_> {
        let (user, codes_of_user) = (&mut self.users[user], &mut self.codes_of_user[user]);
        SharedUse { code: &mut self.code, user, codes_of_user }
    }

    fn lock(&mut self, user: usize, ttl: i32) -> Result<SharedLock, Rejection> {
        let new = LockId(Uuid::from_u128(self.code.version.unsigned_abs().into()));
        let (lock, events) = self.of(user).lock(Some(ttl), new)?;
        self.note(user, events);
        Ok(lock)
    }

    fn redeem(&mut self, user: usize, named: Option<LockId>) -> Result<(), Rejection> {
        let events = self.of(user).redeem(named)?;
        self.note(user, events);
        Ok(())
    }

    fn unlock(&mut self, user: usize, named: Option<LockId>) -> Result<(), Rejection> {
        let event = self.of(user).unlock(named)?;
        self.note(user, event);
        Ok(())
    }

    fn note(&mut self, user: usize, events: impl IntoIterator<Item = SharedEvent>) {
        self.events.extend(events.into_iter().map(|event| (user, event)));
    }

    /// Reads the state again at a later time, as a later batch does.
    fn pass(&mut self, seconds: i64) {
        let now = self.code.next_at.max(self.code.now) + TimeDelta::seconds(seconds);
        let locks = || self.users.iter().filter_map(|user| user.lock);
        self.code.now = now;
        self.code.next_at = now;
        self.code.expired_count = i32::try_from(locks().filter(|lock| lock.until <= now).count()).unwrap();
        self.code.first_end = locks().map(|lock| lock.until).filter(|until| *until > now).min();
        for (user, codes) in self.users.iter().zip(&mut self.codes_of_user) {
            *codes = i32::from(user.is_using(now));
        }
    }
}

fn rules() -> SharedRules {
    SharedRules {
        rejection: None,
        max_redemptions: Some(3),
        max_redeems_per_user: 2,
        max_codes_per_user: None,
        require_lock: false,
        lock_ttl_seconds: 300,
        expires_at: None,
    }
}

#[test]
fn live_locks_count_in_all_limits_and_a_locked_use_is_always_redeemed() {
    let mut world = World::new(rules());
    let lock = world.lock(0, 60).unwrap();
    world.redeem(1, None).unwrap();
    world.redeem(1, None).unwrap();
    assert_eq!(world.redeem(1, None), Err(Rejection::RedeemLimitReached { limit: 2 }));
    assert_eq!(world.redeem(2, None), Err(Rejection::CouponLocked { locked_until: lock.until }));
    assert_eq!(world.lock(2, 1), Err(Rejection::CouponLocked { locked_until: lock.until }));
    assert_eq!(world.redeem(0, Some(LockId(Uuid::max()))), Err(Rejection::LockStale));
    world.redeem(0, None).unwrap();
    assert_eq!((world.code.status, world.code.lock_count), (CouponStatus::Redeemed, 0));
    assert_eq!(world.redeem(2, None), Err(Rejection::CouponAlreadyRedeemed));
    assert_eq!(world.lock(0, 1), Err(Rejection::CouponAlreadyRedeemed));
}

#[test]
fn a_renewed_lock_keeps_its_id_and_takes_no_further_use() {
    let mut world = World::new(SharedRules { max_redemptions: Some(1), ..rules() });
    let first = world.lock(0, 10).unwrap();
    world.pass(5);
    let second = world.lock(0, 10).unwrap();
    assert_eq!((first.id, first.at), (second.id, second.at));
    assert!(second.until > first.until);
    assert_eq!(world.code.lock_count, 1);
    let reasons: Vec<_> = world.events.iter().map(|(_, event)| event.reason).collect();
    assert_eq!(reasons, [None, Some(RENEWED)]);
}

#[test]
fn an_expired_lock_is_absent_and_the_next_transition_of_its_user_ends_it() {
    let mut world = World::new(SharedRules { max_redemptions: Some(1), ..rules() });
    let lock = world.lock(0, 10).unwrap();
    world.pass(10);
    assert_eq!(world.redeem(0, Some(lock.id)), Err(Rejection::LockExpired));
    world.lock(1, 10).unwrap();
    assert_eq!((world.code.lock_count, world.code.live_locks()), (2, 1));
    world.unlock(0, Some(lock.id)).unwrap();
    world.unlock(0, Some(lock.id)).unwrap();
    assert_eq!((world.code.lock_count, world.code.live_locks()), (1, 1));
    world.unlock(1, None).unwrap();
    world.lock(0, 10).unwrap();
    let actions: Vec<_> = world.events.iter().map(|(user, event)| (*user, event.action)).collect();
    assert_eq!(actions, [(0, "LOCK"), (1, "LOCK"), (0, "EXPIRE"), (1, "UNLOCK"), (0, "LOCK")]);
}

#[test]
fn a_required_lock_is_named_as_expired_if_it_expired() {
    let mut world = World::new(SharedRules { require_lock: true, ..rules() });
    assert_eq!(world.redeem(0, None), Err(Rejection::LockRequired));
    world.lock(0, 10).unwrap();
    world.pass(11);
    assert_eq!(world.redeem(0, None), Err(Rejection::LockExpired));
    world.unlock(0, None).unwrap();
    assert_eq!(world.redeem(0, None), Err(Rejection::LockExpired), "also after the sweep");
    world.lock(0, 10).unwrap();
    world.redeem(0, None).unwrap();
    assert_eq!(world.redeem(0, None), Err(Rejection::LockRequired));
}

#[test]
fn the_limit_of_the_book_counts_codes_and_not_uses() {
    let mut world = World::new(SharedRules { max_codes_per_user: Some(1), ..rules() });
    world.redeem(0, None).unwrap();
    world.redeem(0, None).unwrap();
    world.codes_of_user[1] = 1;
    assert_eq!(world.redeem(1, None), Err(Rejection::UserLimitReached { limit: 1 }));
    let event = world.of(0).roll_back();
    assert_eq!((world.codes_of_user[0], event.redeem_count), (1, Some(1)));
    world.of(0).roll_back();
    assert_eq!((world.codes_of_user[0], world.code.redeemed_at), (0, None));
}

#[test]
fn no_lock_ends_after_its_code() {
    let expires_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(30);
    let mut world = World::new(SharedRules { expires_at: Some(expires_at), ..rules() });
    assert_eq!(world.lock(0, 60).unwrap().until, expires_at);
}

/// A step of a random history.
#[derive(Debug, Clone, Copy)]
enum Step {
    Lock(usize, i32),
    Redeem(usize),
    RedeemLocked(usize),
    Unlock(usize),
    RollBack(usize),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    prop_oneof![
        (user.clone(), 1..20).prop_map(|(user, ttl)| Step::Lock(user, ttl)),
        user.clone().prop_map(Step::Redeem),
        user.clone().prop_map(Step::RedeemLocked),
        user.clone().prop_map(Step::Unlock),
        user.prop_map(Step::RollBack),
        (0_i64..15).prop_map(Step::Pass),
    ]
}

fn take(world: &mut World, step: Step) -> Result<(), Rejection> {
    match step {
        Step::Lock(user, ttl) => world.lock(user, ttl).map(drop),
        Step::Redeem(user) => world.redeem(user, None),
        Step::RedeemLocked(user) => {
            let named = world.users[user].lock.map(|lock| lock.id);
            world.redeem(user, named)
        }
        Step::Unlock(user) => world.unlock(user, None),
        Step::RollBack(user) if world.users[user].used > 0 => {
            let event = world.of(user).roll_back();
            world.note(user, Some(event));
            Ok(())
        }
        Step::RollBack(_) => Ok(()),
        Step::Pass(seconds) => {
            world.pass(seconds);
            Ok(())
        }
    }
}

/// The uses and the lock of each user, and the status, as the events tell them.
fn replay(events: &[(usize, SharedEvent)]) -> (BTreeMap<usize, (i32, bool)>, CouponStatus) {
    let mut users = BTreeMap::<usize, (i32, bool)>::new();
    let mut status = CouponStatus::Available;
    for ((user, event), version) in events.iter().zip(1..) {
        assert_eq!((event.version, event.from), (version, status));
        status = event.to;
        let (used, is_locked) = users.entry(*user).or_default();
        match event.action {
            "LOCK" => *is_locked = true,
            "UNLOCK" | "EXPIRE" => *is_locked = false,
            "REDEEM" => (*used, *is_locked) = (*used + 1, false),
            "ROLLBACK" => *used -= 1,
            other => panic!("{other}"),
        }
    }
    (users, status)
}

proptest! {
    #[test]
    fn no_history_exceeds_a_limit_and_its_events_give_the_state(
        steps in vec(step(), 0..60), most in 1..5, of_user in 1..3, codes in proptest::option::of(0..2), require_lock: bool,
    ) {
        let rules = SharedRules {
            max_redemptions: Some(most), max_redeems_per_user: of_user, max_codes_per_user: codes, require_lock, ..rules()
        };
        let mut world = World::new(rules);
        for step in steps {
            let before = world.clone();
            if take(&mut world, step).is_err() {
                prop_assert_eq!(&before, &world, "a rejection changes nothing");
            }
            let code = &world.code;
            prop_assert!(code.redeem_count + code.live_locks() <= most);
            prop_assert_eq!(code.redeem_count, world.users.iter().map(|user| user.used).sum::<i32>());
            let locks = world.users.iter().filter(|user| user.lock.is_some()).count();
            prop_assert_eq!(usize::try_from(code.lock_count).unwrap(), locks);
            prop_assert_eq!(code.status == CouponStatus::Redeemed, code.redeem_count == most);
            prop_assert_eq!(code.redeemed_at.is_some(), code.redeem_count > 0);
            for (user, codes_of_user) in world.users.iter().zip(&world.codes_of_user) {
                let live = i32::from(user.live_lock(code.now).is_some());
                prop_assert!(user.used + live <= of_user);
                prop_assert_eq!(*codes_of_user, i32::from(user.is_using(code.now)));
                prop_assert!(codes.is_none_or(|most| *codes_of_user <= most));
            }
        }
        let (users, status) = replay(&world.events);
        prop_assert_eq!(status, world.code.status);
        for (user, of_user) in world.users.iter().enumerate() {
            let told = users.get(&user).copied().unwrap_or_default();
            prop_assert_eq!(told, (of_user.used, of_user.lock.is_some()));
        }
        prop_assert!(world.events.windows(2).all(|pair| pair[0].1.at < pair[1].1.at));
    }
}
