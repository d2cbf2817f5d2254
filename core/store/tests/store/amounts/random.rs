//! The functions of the database and those of the domain, on random discounts and amounts.

use cuponera_domain::discount::{Discount, DiscountKind, discounted};
use cuponera_domain::money::{Currency, MAX_MINOR_UNITS, Money};
use cuponera_testkit::{World, is_soak};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sqlx::query_as;

const CODES: [&str; 5] = ["EUR", "USD", "JPY", "KWD", "CLP"];

/// Cases of a test: a million with `CUPONERA_SOAK=1`.
fn cases() -> usize {
    if is_soak() { 1_000_000 } else { 40_000 }
}

/// A number of minor units: small ones, whole units, and any.
fn minor_units(random: &mut StdRng) -> i64 {
    match random.random_range(0..4) {
        0 => random.random_range(1..100),
        1 => random.random_range(1..1_000) * 100,
        2 => random.random_range(1..10_000_000),
        _ => random.random_range(1..=MAX_MINOR_UNITS),
    }
}

/// A discount. One in ten has a value that only earlier programs stored.
fn any_discount(random: &mut StdRng) -> Option<Discount> {
    if random.random_bool(0.05) {
        return None;
    }
    let currency = Currency::parse(CODES[random.random_range(0..CODES.len())]).unwrap();
    let is_percent = random.random_bool(0.6);
    let unit = f64::from(if is_percent { 10_000 } else { currency.minor_units() });
    let value = match (random.random_range(0..10), is_percent) {
        // Many digits, up to 100 percent.
        (0, true) => random.random_range(0.0..100.0),
        (0, false) => 10_f64.powi(random.random_range(-20..20)) * random.random_range(1.0..10.0),
        // A quarter, an eighth, …: many products are exactly half a minor unit.
        (1..=3, true) => 100.0 / f64::from(1 << random.random_range(0..4_u32)),
        (_, true) => f64::from(random.random_range(1_u32..=1_000_000)) / unit,
        (_, false) => f64::from(random.random_range(1_u32..=1_000_000)) / unit,
    };
    let mut limit = || random.random_bool(0.3).then(|| currency.decimal_text(minor_units(random).into()));
    let (min_amount, max_discount) = (limit(), limit());
    let needs_currency = !is_percent || min_amount.is_some() || max_discount.is_some();
    let has_currency = needs_currency || random.random_bool(0.3);
    Some(Discount {
        kind: if is_percent { DiscountKind::Percent } else { DiscountKind::Fixed },
        value,
        currency: has_currency.then(|| currency.code().to_owned()),
        min_amount,
        max_discount,
    })
}

/// An amount, mostly of the currency of the discount; or none.
fn any_amount(random: &mut StdRng, discount: Option<&Discount>) -> Option<Money> {
    if random.random_bool(0.05) {
        return None;
    }
    let own = discount.and_then(|discount| discount.currency.as_deref()).filter(|_| random.random_bool(0.9));
    let currency = Currency::parse(own.unwrap_or(CODES[random.random_range(0..CODES.len())])).unwrap();
    Money::parse(&currency.decimal_text(minor_units(random).into()), currency).ok()
}

/// Invariant I-84.
#[tokio::test]
async fn the_database_computes_the_discounts_of_the_domain() {
    let world = World::new().await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut given, mut rejected) = (0, 0);
    for _ in 0..cases().div_ceil(10_000) {
        let cases: Vec<_> = (0..10_000)
            .map(|_| {
                let discount = any_discount(&mut random);
                let amount = any_amount(&mut random, discount.as_ref());
                (discount, amount)
            })
            .collect();
        let discounts: Vec<Option<Value>> = cases
            .iter()
            .map(|(discount, _)| discount.as_ref().map(|discount| serde_json::to_value(discount).unwrap()))
            .collect();
        let amounts: Vec<Option<i64>> = cases.iter().map(|case| case.1.map(Money::minor_units)).collect();
        let currencies: Vec<Option<&str>> =
            cases.iter().map(|case| case.1.map(|amount| amount.currency().code())).collect();
        let units: Vec<Option<i32>> =
            cases.iter().map(|case| case.1.map(|amount| amount.currency().minor_units())).collect();
        let computed: Vec<(Option<i64>, Option<String>)> = query_as(
            "select case when amount is not null then discount_on(discount, amount, minor_units) end,
                    discount_rejection(discount, amount, currency, minor_units)
             from unnest($1::jsonb[], $2::bigint[], $3::text[], $4::int[]) with ordinality
               i (discount, amount, currency, minor_units, n) order by n",
        )
        .bind(discounts)
        .bind(amounts)
        .bind(currencies)
        .bind(units)
        .fetch_all(world.pool())
        .await
        .unwrap();
        for ((discount, amount), (of_database, rejection)) in cases.iter().zip(computed) {
            match discounted(discount.as_ref(), *amount) {
                Ok(amounts) => {
                    let of_domain = amounts.map(|amounts| amounts.discount().minor_units());
                    assert_eq!((of_database, rejection), (of_domain, None), "{discount:?} on {amount:?}");
                    given += usize::from(of_domain.is_some_and(|given| given > 0));
                }
                Err(error) => {
                    assert_eq!(rejection.as_deref(), Some(error.code()), "{discount:?} on {amount:?}");
                    rejected += 1;
                }
            }
        }
    }
    println!("{given} discounts, {rejected} rejections");
    assert!(given > cases() / 3 && rejected > cases() / 50, "{given} discounts, {rejected} rejections");
}
