//! Recorded amounts: a redemption stores the discount that its book gives, and the functions of the database compute it as the domain does.

mod random;
mod sums;

use cuponera_domain::book::{BookPatch, BookRules, Change};
use cuponera_domain::discount::Discount;
use cuponera_domain::money::{Amounts, Currency, Money};
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Call, Error, Lock, Redeem, RedemptionFilter, Rollback};
use cuponera_testkit::{CallExt, World, race, rules};
use serde_json::{Value, json};
use sqlx::{query, query_as, query_scalar};

use crate::bearer::bearer;

pub(crate) fn money(text: &str, code: &str) -> Money {
    Money::parse(text, Currency::parse(code).unwrap()).unwrap()
}

fn discount(value: Value) -> Option<Discount> {
    Some(serde_json::from_value(value).unwrap())
}

/// An active book with this discount, and `ana` as the holder of these codes.
async fn selling(value: Value, uses: i32, codes: i32) -> (World, Vec<String>) {
    let rules = BookRules { discount: discount(value), max_redeems_per_user: uses, ..rules() };
    let world = World::with(rules).await;
    let codes = world.insert_codes(codes).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    (world, codes)
}

/// A redemption of `ana` with this amount.
fn sale(world: &World, code: &str, amount: Money) -> Call<Redeem> {
    let mut call = world.redeem(code, "ana");
    call.ask.amount = Some(amount);
    call
}

fn lock(world: &World, code: &str, amount: Money) -> Call<Lock> {
    let mut call = world.lock(code, "ana");
    call.ask.amount = Some(amount);
    call
}

/// Amount, discount and total of an answer, as text.
fn texts(amounts: Option<Amounts>) -> [String; 3] {
    let amounts = amounts.expect("the answer has amounts");
    [amounts.amount(), amounts.discount(), amounts.total()].map(|money| money.to_string())
}

async fn change(world: &World, value: Option<Value>) {
    let patch = BookPatch { discount: Change::Set(value.and_then(discount)), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, patch).await.unwrap().outcome.unwrap();
}

/// Invariant I-84.
#[tokio::test]
async fn a_redemption_stores_the_amount_and_the_discount_of_its_book() {
    let (world, codes) = selling(json!({"type": "PERCENT", "value": 10.5}), 2, 2).await;
    let locked = world.run_batch(lock(&world, &codes[0], money("49.90", "EUR"))).await.outcome.unwrap();
    assert_eq!(texts(locked.amounts), ["49.90", "5.24", "44.66"]);
    let call = sale(&world, &codes[0], money("49.90", "EUR"));
    let valid = world.store().validate(&call).await.unwrap();
    assert_eq!(valid, locked.amounts);
    let first = world.run_batch(call.with_key("k")).await;
    assert_eq!(first.outcome.as_ref().unwrap().amounts, valid);
    let again = world.run_batch(sale(&world, &codes[0], money("49.90", "EUR")).with_key("k")).await;
    assert!(again.replayed);
    assert_eq!(again.outcome, first.outcome);
    let id = first.outcome.unwrap().redemption;
    assert_eq!(world.store().get_redemption(world.business, id).await.unwrap().amounts, valid);
    // Another currency, and none.
    world.run_batch(sale(&world, &codes[0], money("1000", "JPY"))).await.outcome.unwrap();
    let without = world.run_batch(world.redeem(&codes[1], "ana")).await.outcome.unwrap();
    assert_eq!(without.amounts, None);
    let stored: Vec<(Option<i64>, Option<i64>, Option<i64>, Option<String>)> =
        query_as("select amount, discount, total, currency from redemption order by at, id")
            .fetch_all(world.pool())
            .await
            .unwrap();
    let row = |amount, discount, currency: &str| {
        (Some(amount), Some(discount), Some(amount - discount), Some(currency.to_owned()))
    };
    assert_eq!(stored, [row(4_990, 524, "EUR"), row(1_000, 105, "JPY"), (None, None, None, None)]);
    for filter in [
        RedemptionFilter::default(),
        RedemptionFilter { user: Some("ana".into()), ..RedemptionFilter::default() },
    ] {
        let page = world.store().list_redemptions(world.business, &filter, 10).await.unwrap();
        let listed: Vec<_> =
            page.items.iter().map(|item| item.amounts.map(|one| one.total().to_string())).collect();
        assert_eq!(listed, [None, Some("895".to_owned()), Some("44.66".to_owned())]);
    }
    world.assert_invariants().await;
}

/// Invariant I-84.
#[tokio::test]
async fn a_book_without_a_discount_gives_none_and_its_codes_are_used() {
    let (world, codes) = selling(Value::Null, 1, 1).await;
    let redeemed = world.run_batch(sale(&world, &codes[0], money("49.90", "EUR"))).await.outcome.unwrap();
    assert_eq!(texts(redeemed.amounts), ["49.90", "0.00", "49.90"]);
    assert!(redeemed.is_final());
    world.assert_invariants().await;
}

/// Invariant I-84.
#[tokio::test]
async fn a_discount_that_is_not_for_an_amount_rejects_lock_validate_and_redeem() {
    let limited = json!({"type": "PERCENT", "value": 50, "currency": "EUR", "minAmount": "20.00", "maxDiscount": "15.00"});
    let (world, codes) = selling(limited, 1, 1).await;
    let code = &codes[0];
    let mismatch = Rejection::CurrencyMismatch { currency: "EUR".into() };
    let too_small = Rejection::AmountTooSmall { min_amount: "20.00".into(), currency: "EUR".into() };
    for (amount, rejection) in [
        (Some(money("49.90", "USD")), &mismatch),
        (Some(money("1", "JPY")), &mismatch),
        (Some(money("19.99", "EUR")), &too_small),
        (None, &Rejection::AmountRequired),
    ] {
        let (mut redeem, mut lock) = (world.redeem(code, "ana"), world.lock(code, "ana"));
        (redeem.ask.amount, lock.ask.amount) = (amount, amount);
        let validated = world.store().validate(&redeem).await;
        assert!(matches!(&validated, Err(Error::Rejected(found)) if found == rejection), "{validated:?}");
        assert_eq!(world.run_batch(redeem).await.outcome.as_ref(), Err(rejection));
        assert_eq!(world.run_batch(lock).await.outcome.as_ref(), Err(rejection));
    }
    let (mut redeem, mut lock_of_eva) = (sale(&world, code, money("1", "EUR")), world.lock(code, "eva"));
    redeem.ask.presenter = cuponera_store::Presenter::User("eva".into());
    lock_of_eva.ask.amount = Some(money("1", "EUR"));
    let hidden = Err(Rejection::not_found("coupon"));
    assert_eq!(world.run_batch(redeem.by_end_user()).await.outcome, hidden, "the book is not shown");
    assert!(
        world
            .run_batch(lock_of_eva.by_end_user())
            .await
            .outcome
            .is_err_and(|found| found.code() == "not_found")
    );
    let locked = world.run_batch(lock(&world, code, money("20", "EUR"))).await.outcome.unwrap();
    assert_eq!(texts(locked.amounts), ["20.00", "10.00", "10.00"]);
    // A live lock is renewed by the same rules, and released without an amount.
    assert_eq!(world.run_batch(world.lock(code, "ana")).await.outcome, Err(Rejection::AmountRequired));
    world.run_batch(world.unlock(code, "ana")).await.outcome.unwrap();
    let redeemed = world.run_batch(sale(&world, code, money("49.90", "EUR"))).await.outcome.unwrap();
    assert_eq!(texts(redeemed.amounts), ["49.90", "15.00", "34.90"]);
    world.assert_invariants().await;
}

/// A free code has an amount and a limit of its user to check; the detail of each rejection is its own.
#[tokio::test]
async fn a_free_code_of_a_bearer_book_is_presented_with_an_amount() {
    let discount = discount(json!({"type": "FIXED", "value": 5, "currency": "EUR", "minAmount": "10.00"}));
    let world = World::with(BookRules { discount, max_codes_per_user: Some(1), ..bearer() }).await;
    let codes = world.insert_codes(3).await;
    assert_eq!(world.run_batch(world.redeem(&codes[0], "ana")).await.outcome, Err(Rejection::AmountRequired));
    let redeemed = world.run_batch(sale(&world, &codes[0], money("12", "EUR"))).await.outcome.unwrap();
    assert_eq!(texts(redeemed.amounts), ["12.00", "5.00", "7.00"]);
    let limit = Rejection::UserLimitReached { limit: 1 };
    let too_small = Rejection::AmountTooSmall { min_amount: "10.00".into(), currency: "EUR".into() };
    for (amount, rejection) in [("12", limit), ("9.99", too_small)] {
        let amount = money(amount, "EUR");
        let redeem = world.run_batch(sale(&world, &codes[1], amount)).await.outcome;
        assert_eq!(redeem, Err(rejection.clone()));
        assert_eq!(world.run_batch(lock(&world, &codes[1], amount)).await.outcome, Err(rejection));
    }
    world.assert_invariants().await;
}

/// Invariant I-84.
#[tokio::test]
async fn a_repeated_reference_has_the_stored_amounts_whatever_it_names() {
    let (world, codes) = selling(json!({"type": "PERCENT", "value": 10}), 2, 1).await;
    let with_reference = |amount: Option<Money>| {
        let mut call = world.redeem(&codes[0], "ana");
        (call.ask.amount, call.ask.reference) = (amount, Some("order 1".into()));
        call
    };
    let first = world.run_batch(with_reference(Some(money("49.90", "EUR")))).await.outcome.unwrap();
    // Neither the new discount nor the new amount counts, and the minimum requires no amount of a repeated call.
    change(&world, Some(json!({"type": "FIXED", "value": 1, "currency": "USD", "minAmount": "900.00"})))
        .await;
    for amount in [None, Some(money("49.90", "EUR")), Some(money("12", "KWD"))] {
        let again = world.run_batch(with_reference(amount)).await.outcome.unwrap();
        assert!(again.replayed);
        assert_eq!((again.redemption, again.amounts), (first.redemption, first.amounts));
    }
    world.assert_invariants().await;
}

/// Redeems while the discount of the book changes, and so do its currency, its minimum and its maximum.
///
/// Invariant I-84.
#[tokio::test(flavor = "multi_thread")]
async fn a_discount_that_changes_meanwhile_is_one_that_a_version_of_the_book_gave() {
    const SALES: usize = 400;
    let versions = [
        json!({"type": "PERCENT", "value": 10, "currency": "EUR", "minAmount": "49.00"}),
        json!({"type": "FIXED", "value": 20, "currency": "EUR", "maxDiscount": "7.00"}),
        json!({"type": "FIXED", "value": 3, "currency": "USD"}),
        json!({"type": "PERCENT", "value": 90, "currency": "EUR", "minAmount": "50.00"}),
    ];
    let (world, codes) = selling(versions[0].clone(), 1, i32::try_from(SALES).unwrap()).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let changes = async {
        let mut changed = 0;
        for version in versions.iter().cycle().skip(1) {
            if stop.is_cancelled() {
                return changed;
            }
            change(&world, Some(version.clone())).await;
            changed += 1;
        }
        changed
    };
    let sales = async {
        let batches = codes.chunks(4).map(|codes| {
            codes.iter().map(|code| sale(&world, code, money("49.90", "EUR"))).collect::<Vec<_>>()
        });
        let answers = race(8, batches, async |calls| world.store().run_batch(&calls).await.unwrap()).await;
        stop.cancel();
        answers.into_iter().flatten().map(|answer| answer.outcome).collect::<Vec<_>>()
    };
    let (changed, outcomes) = tokio::join!(changes, sales);
    let mut found = std::collections::BTreeMap::new();
    for outcome in outcomes {
        let answer = match &outcome {
            Ok(redeemed) => redeemed.amounts.unwrap().discount().to_string(),
            Err(rejection) => rejection.to_string(),
        };
        *found.entry(answer).or_insert(0) += 1;
    }
    println!("{changed} changes: {found:?}");
    let mismatch = Rejection::CurrencyMismatch { currency: "USD".into() }.to_string();
    let too_small =
        Rejection::AmountTooSmall { min_amount: "50.00".into(), currency: "EUR".into() }.to_string();
    let given = ["4.99", "7.00", mismatch.as_str(), too_small.as_str()];
    assert!(found.keys().all(|answer| given.contains(&answer.as_str())), "{found:?}");
    assert!(found.len() > 1 && changed > 4, "the sales and the changes did not meet: {changed} {found:?}");
    let stored: Vec<i64> =
        query_scalar("select distinct discount from redemption").fetch_all(world.pool()).await.unwrap();
    assert!(stored.iter().all(|discount| [499, 700].contains(discount)), "{stored:?}");
    world.assert_invariants().await;
}

/// A batch with and without amounts, in several currencies, and with a code twice.
#[tokio::test]
async fn each_item_of_a_batch_has_its_own_amount() {
    let (world, codes) = selling(json!({"type": "PERCENT", "value": 10}), 2, 20).await;
    let amount = |place: usize| match place % 3 {
        0 => None,
        1 => Some(money(&(place + 1).to_string(), "EUR")),
        _ => Some(money(&(place + 1).to_string(), "JPY")),
    };
    let calls: Vec<_> = (0..40)
        .map(|place| {
            let mut call = world.redeem(&codes[place % 20], "ana");
            call.ask.amount = amount(place);
            call
        })
        .collect();
    let answers = world.store().run_batch(&calls).await.unwrap();
    for (place, answer) in answers.into_iter().enumerate() {
        let amounts = answer.outcome.unwrap().amounts;
        assert_eq!(amounts.map(Amounts::amount), amount(place), "{place}");
    }
    world.assert_invariants().await;
}

/// Rows that a program of the previous version writes, and the constraint on others.
#[tokio::test]
async fn a_redemption_has_all_amounts_or_none_and_its_total_is_the_rest() {
    let (world, codes) = selling(Value::Null, 2, 1).await;
    world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    for (values, is_valid) in [
        ("null, null, null, null", true),
        ("4990, 499, 4491, 'EUR'", true),
        ("4990, 4990, 0, 'EUR'", true),
        ("4990, 499, 4490, 'EUR'", false),
        ("4990, 4991, -1, 'EUR'", false),
        ("4990, -1, 4991, 'EUR'", false),
        ("0, 0, 0, 'EUR'", false),
        ("4990, 499, 4491, null", false),
        ("null, 0, null, null", false),
        ("4990, null, null, 'EUR'", false),
    ] {
        let sql = format!("update redemption set (amount, discount, total, currency) = ({values})");
        let written = query(sqlx::AssertSqlSafe(sql)).execute(world.pool()).await;
        assert_eq!(written.is_ok(), is_valid, "{values}");
    }
}

/// A change of the book without its discount, or with the same discount, keeps one that is not valid for a new book.
#[tokio::test]
async fn a_discount_that_an_earlier_program_has_stored_stays_and_is_computed() {
    let (world, codes) = selling(Value::Null, 1, 2).await;
    let stored = json!({"type": "FIXED", "value": 2.555, "currency": "EUR"});
    query("update coupon_book set discount = $1").bind(&stored).execute(world.pool()).await.unwrap();
    let renamed = BookPatch { name: Change::Set("Another".into()), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, renamed).await.unwrap().outcome.unwrap();
    change(&world, Some(stored.clone())).await;
    let clone = world.store().clone_book(None, world.business, world.book, None).await.unwrap();
    assert_eq!(clone.outcome.unwrap().rules.discount, discount(stored));
    let other = json!({"type": "FIXED", "value": 2.556, "currency": "EUR"});
    let patch = BookPatch { discount: Change::Set(discount(other)), ..BookPatch::default() };
    let changed = world.store().update_book(None, world.business, world.book, patch).await.unwrap();
    let Err(Rejection::Invalid { faults }) = changed.outcome else { panic!("a new discount is checked") };
    assert_eq!(faults[0].field, "discount.value");
    let redeemed = world.run_batch(sale(&world, &codes[0], money("49.90", "EUR"))).await.outcome.unwrap();
    assert_eq!(texts(redeemed.amounts)[1], "2.56");
}

fn roll_back(world: &World, code: &str, redemption: cuponera_domain::id::RedemptionId) -> Call<Rollback> {
    world.call(Rollback { redemption, code: code.to_owned(), user: None, reason: "returned".into() })
}
