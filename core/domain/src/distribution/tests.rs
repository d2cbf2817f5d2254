use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn rules(mode: Mode, amount: Amount, seed: u64) -> Rules {
    Rules { mode, amount, seed, on_shortage: OnShortage::Partial }
}

/// Whether no member has two codes more than another that has room for one more.
fn is_even(counts: &[u32], rooms: &[u32], most: u32) -> bool {
    let highest = counts.iter().max().copied().unwrap_or(0);
    (0..counts.len()).all(|n| counts[n] + 1 >= highest || counts[n] == rooms[n].min(most))
}

proptest! {
    #[test]
    fn equal_gives_all_codes_within_the_rooms_and_evenly(
        rooms in vec(0_u32..12, 0..60), codes in 0_u64..400, seed in 0..=MAX_SEED, most in 1_u32..8, has_most: bool
    ) {
        let amount = if has_most { Amount::PerUser(most) } else { Amount::Total(codes) };
        let most = if has_most { most } else { u32::MAX };
        let rules = rules(Mode::Equal, amount, seed);
        let needed = rules.needed(&rooms);
        let codes = codes.min(needed);
        let given = rules.allocate(&rooms, codes);
        prop_assert_eq!(given.total(), codes);
        prop_assert!(given.counts.iter().zip(&rooms).all(|(count, room)| *count <= (*room).min(most)));
        prop_assert!(is_even(&given.counts, &rooms, most), "{:?}", given.counts);
        prop_assert_eq!(given, rules.allocate(&rooms, codes));
    }

    #[test]
    fn random_gives_all_codes_within_the_rooms(rooms in vec(0_u32..12, 0..60), codes in 0_u64..400, seed in 0..=MAX_SEED) {
        let rules = rules(Mode::Random, Amount::Total(codes), seed);
        let needed = rules.needed(&rooms);
        prop_assert_eq!(needed, codes.min(rooms.iter().map(|room| u64::from(*room)).sum()));
        let given = rules.allocate(&rooms, needed);
        prop_assert_eq!(given.total(), needed);
        prop_assert!(given.counts.iter().zip(&rooms).all(|(count, room)| count <= room));
    }
}

/// They are part of the contract: a change of the generator or of the order of draws is found here.
#[test]
fn the_numbers_of_a_seed_never_change() {
    let rooms = [3, 0, u32::MAX, 2, 5, 9];
    let random = rules(Mode::Random, Amount::Total(14), 42).allocate(&rooms, 14);
    assert_eq!(random.counts, [2, 0, 5, 2, 2, 3]);
    let equal = rules(Mode::Equal, Amount::Total(13), 42).allocate(&rooms, 13);
    assert_eq!(equal.counts, [3, 0, 3, 2, 3, 2]);
}

#[test]
fn one_seed_gives_one_result_and_another_seed_another() {
    let rooms = vec![u32::MAX; 100];
    let of = |seed| rules(Mode::Random, Amount::Total(1_000), seed).allocate(&rooms, 1_000);
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

/// The probability of a chi-square value at least this large: the normal approximation of Wilson and Hilferty.
fn p_value(counts: &[u32]) -> f64 {
    let cells = f64::from(u32::try_from(counts.len()).unwrap());
    let total = f64::from(counts.iter().sum::<u32>());
    let expected = total / cells;
    let chi_square: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    let freedom = cells - 1.0;
    let spread = 2.0 / (9.0 * freedom);
    let z = ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
    upper_tail(z)
}

/// The upper tail of the normal distribution: Abramowitz and Stegun, 26.2.17.
fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let terms = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum: f64 = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

/// 1,000 members; every fourth has no room, and must not change the chances of the others.
#[test]
fn random_draws_uniformly_from_the_members_that_are_eligible() {
    let rooms: Vec<u32> = (0..1_000).map(|n| if n % 4 == 0 { 0 } else { u32::MAX }).collect();
    for seed in 0..50 {
        let given = rules(Mode::Random, Amount::Total(75_000), seed).allocate(&rooms, 75_000);
        let eligible: Vec<u32> = (0..1_000).filter(|n| n % 4 != 0).map(|n| given.counts[n]).collect();
        let p = p_value(&eligible);
        assert!(p > 0.001, "seed {seed}: p = {p}");
    }
}

/// Members whose room is used up leave the draw; the codes after that are uniform among the others.
#[test]
fn a_full_member_leaves_the_draw_and_does_not_skew_it() {
    let rooms: Vec<u32> = (0..500).map(|n| if n < 100 { 20 } else { u32::MAX }).collect();
    for seed in 0..20 {
        let given = rules(Mode::Random, Amount::Total(50_000), seed).allocate(&rooms, 50_000);
        assert!(given.counts[..100].iter().all(|count| *count == 20));
        let p = p_value(&given.counts[100..]);
        assert!(p > 0.001, "seed {seed}: p = {p}");
    }
}

/// The test of the tests before: a draw that gives 8 of 750 members twice the chance is noticed.
#[test]
fn a_skewed_draw_is_noticed() {
    let mut draw = Draw::new(1);
    let mut counts = vec![0; 750];
    for _ in 0..75_000 {
        let member = draw.below(750 + 8);
        counts[if member < 750 { member } else { member - 750 }] += 1;
    }
    assert!(p_value(&counts) < 0.001);
}

#[test]
fn the_members_that_get_one_more_are_drawn_uniformly() {
    let rooms = vec![u32::MAX; 100];
    let mut extra = vec![0; 100];
    for seed in 0..3_000 {
        let given = rules(Mode::Equal, Amount::Total(210), seed).allocate(&rooms, 210);
        for (count, member) in extra.iter_mut().zip(&given.counts) {
            assert!((2..=3).contains(member));
            *count += member - 2;
        }
    }
    assert!(p_value(&extra) > 0.001);
}

#[test]
fn a_request_names_exactly_one_amount_within_its_limits() {
    let fields = |mode, per_user, total, seed| match Rules::new(
        mode,
        per_user,
        total,
        seed,
        OnShortage::Fail,
        u64::MAX,
    ) {
        Ok(_) => Vec::new(),
        Err(Rejection::Invalid { faults }) => faults.into_iter().map(|fault| fault.field).collect(),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(fields(Mode::Equal, Some(1), None, Some(MAX_SEED)), Vec::<String>::new());
    assert_eq!(fields(Mode::Random, None, Some(1), None), Vec::<String>::new());
    assert_eq!(fields(Mode::Random, Some(1), None, None), ["codesPerUser"]);
    assert_eq!(fields(Mode::Equal, None, None, None), ["totalCodes"]);
    assert_eq!(fields(Mode::Equal, Some(1), Some(1), None), ["totalCodes"]);
    assert_eq!(fields(Mode::Equal, Some(0), None, Some(MAX_SEED + 1)), ["codesPerUser", "seed"]);
    let drawn = Rules::new(Mode::Equal, Some(1), None, None, OnShortage::Fail, u64::MAX).unwrap();
    assert_eq!(drawn.seed, MAX_SEED);
}
