//! The sums of recorded amounts in the statistics.

use cuponera_domain::id::BookId;
use cuponera_domain::money::MAX_MINOR_UNITS;
use cuponera_domain::money::sums::CurrencySums;
use cuponera_domain::statistics::{Interval, Window};
use cuponera_testkit::World;
use serde_json::{Value, json};
use sqlx::query;

use super::{money, roll_back, sale, selling};

async fn shown(world: &World, book: Option<BookId>) -> Vec<Value> {
    let window = Window { from: None, to: None, interval: Interval::Day, time_zone: "UTC".to_owned() };
    let found = world.store().statistics(world.business, book, &window).await.unwrap();
    found.expect("the statistics are complete").amounts.iter().map(CurrencySums::shown).collect()
}

fn sums(redemptions: i64, amount: &str, discount: &str, total: &str) -> Value {
    json!({"redemptions": redemptions, "amount": amount, "discount": discount, "total": total})
}

/// Invariant I-85.
#[tokio::test]
async fn the_sums_of_each_currency_are_those_of_the_redemptions() {
    let (world, codes) = selling(json!({"type": "PERCENT", "value": 10}), 1, 6).await;
    assert_eq!(shown(&world, Some(world.book)).await, Vec::<Value>::new());
    let mut made = Vec::new();
    for (code, amount, currency) in
        [(0, "49.90", "EUR"), (1, "0.05", "EUR"), (2, "1000", "JPY"), (3, "100", "EUR")]
    {
        let call = sale(&world, &codes[code], money(amount, currency));
        made.push(world.run_batch(call).await.outcome.unwrap().redemption);
    }
    let without = world.run_batch(world.redeem(&codes[4], "ana")).await.outcome.unwrap().redemption;
    let eur = |rolled_back: Value| json!({"currency": "EUR", "redeemed": sums(3, "149.95", "15.00", "134.95"), "rolledBack": rolled_back});
    let jpy = json!({"currency": "JPY", "redeemed": sums(1, "1000", "100", "900"), "rolledBack": sums(0, "0", "0", "0")});
    let expected = [eur(sums(0, "0.00", "0.00", "0.00")), jpy.clone()];
    for book in [Some(world.book), None] {
        assert_eq!(shown(&world, book).await, expected);
    }
    world.store().roll_up_statistics().await.unwrap();
    world.run_batch(roll_back(&world, &codes[3], made[3])).await.outcome.unwrap();
    world.run_batch(roll_back(&world, &codes[4], without)).await.outcome.unwrap();
    let expected = [eur(sums(1, "100.00", "10.00", "90.00")), jpy];
    for rolls_up in [false, true] {
        if rolls_up {
            world.store().roll_up_statistics().await.unwrap();
        }
        for book in [Some(world.book), None] {
            assert_eq!(shown(&world, book).await, expected);
        }
        world.assert_invariants().await;
    }
}

/// A statement of the previous version, which does not know amounts.
///
/// Invariant I-85.
#[tokio::test]
async fn a_rollback_by_an_earlier_program_is_counted_and_a_row_changed_by_hand_is_a_difference() {
    let (world, codes) = selling(json!({"type": "PERCENT", "value": 10}), 1, 2).await;
    for code in &codes {
        world.run_batch(sale(&world, code, money("49.90", "EUR"))).await.outcome.unwrap();
    }
    query("update redemption set rolled_back_at = now() where code = 'C000001'")
        .execute(world.pool())
        .await
        .unwrap();
    let found = shown(&world, Some(world.book)).await;
    assert_eq!(found[0]["rolledBack"], sums(1, "49.90", "4.99", "44.91"));
    world.store().roll_up_statistics().await.unwrap();
    let differences = |found: Vec<cuponera_store::Difference>| -> Vec<(String, i64)> {
        let mut all: Vec<_> = found.into_iter().map(|one| (one.number, one.recounted - one.stored)).collect();
        all.sort();
        all.dedup();
        all.retain(|(number, _)| number.starts_with("EUR"));
        all
    };
    assert_eq!(differences(world.store().reconcile(None).await.unwrap()), []);
    query("update stat_amount set amount = amount + 1, rolled_back_discount = 0")
        .execute(world.pool())
        .await
        .unwrap();
    let found = world.store().reconcile(Some(world.book)).await.unwrap();
    assert!(found.iter().all(|difference| difference.scope == world.book.0));
    let expected = [("EUR amount".to_owned(), -1), ("EUR rolled back discount".to_owned(), 499)];
    assert_eq!(differences(found), expected);
    assert_eq!(differences(world.store().reconcile(None).await.unwrap()), expected);
}

/// A caller that names huge amounts stops neither the roll-up nor the statistics.
#[tokio::test]
async fn sums_beyond_64_bits_are_exact() {
    let (world, codes) = selling(json!({"type": "PERCENT", "value": 100}), 1, 1).await;
    let huge = money(&MAX_MINOR_UNITS.to_string(), "JPY");
    world.run_batch(sale(&world, &codes[0], huge)).await.outcome.unwrap();
    query("insert into stat_amount_delta select s.* from stat_amount_delta s, generate_series(1, 19999)")
        .execute(world.pool())
        .await
        .unwrap();
    let expected = sums(20_000, "20000000000000000000", "20000000000000000000", "0");
    assert_eq!(shown(&world, None).await[0]["redeemed"], expected);
    world.store().roll_up_statistics().await.unwrap();
    assert_eq!(shown(&world, Some(world.book)).await[0]["redeemed"], expected);
    assert!(!world.store().reconcile(None).await.unwrap().is_empty(), "the copies have no redemptions");
}
