//! That a discount is exact, and what is no valid discount.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn discount(value: Value) -> Discount {
    serde_json::from_value(value).unwrap()
}

fn money(text: &str, code: &str) -> Money {
    Money::parse(text, Currency::parse(code).unwrap()).unwrap()
}

fn on(discount: Value, amount: &str, code: &str) -> [String; 3] {
    let amounts = self::discount(discount).on(money(amount, code)).unwrap();
    [amounts.amount(), amounts.discount(), amounts.total()].map(|money| money.to_string())
}

#[test]
fn a_percentage_is_rounded_half_up_to_the_minor_unit() {
    for (percent, amount, code, discount, total) in [
        (json!(10), "49.90", "EUR", "4.99", "44.91"),
        (json!(10.5), "49.90", "EUR", "5.24", "44.66"),
        (json!(50), "0.01", "EUR", "0.01", "0.00"),
        (json!(49.9999), "0.01", "EUR", "0.00", "0.01"),
        (json!(12.5), "0.04", "EUR", "0.01", "0.03"),
        (json!(12.5), "0.99", "EUR", "0.12", "0.87"),
        (json!(33.3333), "100", "JPY", "33", "67"),
        (json!(0.5), "100", "JPY", "1", "99"),
        (json!(0.0001), "10000000000000", "EUR", "10000000.00", "9999990000000.00"),
        (json!(100), "10000000000000", "EUR", "10000000000000.00", "0.00"),
        (json!(15), "1.001", "KWD", "0.150", "0.851"),
    ] {
        let value = json!({"type": "PERCENT", "value": percent});
        assert_eq!(on(value, amount, code)[1..], [discount, total], "{percent} % of {amount} {code}");
    }
}

#[test]
fn a_fixed_discount_is_at_most_the_amount_and_the_maximum() {
    let five = json!({"type": "FIXED", "value": 5, "currency": "EUR"});
    assert_eq!(on(five.clone(), "49.90", "EUR"), ["49.90", "5.00", "44.90"]);
    assert_eq!(on(five.clone(), "5", "EUR"), ["5.00", "5.00", "0.00"]);
    assert_eq!(on(five, "4.99", "EUR"), ["4.99", "4.99", "0.00"]);
    let capped = json!({"type": "PERCENT", "value": 50, "currency": "EUR", "maxDiscount": "10.00"});
    assert_eq!(on(capped.clone(), "20.01", "EUR")[1], "10.00");
    assert_eq!(on(capped, "19.98", "EUR")[1], "9.99");
}

#[test]
fn a_discount_with_a_currency_rejects_others_and_one_with_a_minimum_rejects_less_and_nothing() {
    let fixed = discount(json!({"type": "FIXED", "value": 5, "currency": "EUR"}));
    let mismatch = Rejection::CurrencyMismatch { currency: "EUR".into() };
    assert_eq!(fixed.on(money("49.90", "USD")), Err(mismatch.clone()));
    assert_eq!(discounted(Some(&fixed), None), Ok(None));
    let least = json!({"type": "PERCENT", "value": 10, "currency": "EUR", "minAmount": "20.00"});
    let least = discount(least);
    let too_small = Rejection::AmountTooSmall { min_amount: "20.00".into(), currency: "EUR".into() };
    assert_eq!(least.on(money("19.99", "EUR")), Err(too_small));
    assert_eq!(least.on(money("1", "JPY")), Err(mismatch), "the currency is checked first");
    assert_eq!(least.on(money("20", "EUR")).unwrap().discount().to_string(), "2.00");
    assert_eq!(discounted(Some(&least), None), Err(Rejection::AmountRequired));
    let plain = discounted(None, Some(money("49.90", "EUR"))).unwrap().unwrap();
    assert_eq!((plain.discount().minor_units(), plain.total().minor_units()), (0, 4990));
    assert_eq!(discounted(None, None), Ok(None));
}

#[test]
fn a_discount_that_an_earlier_program_has_stored_has_a_value_too() {
    let fixed = |value: f64| on(json!({"type": "FIXED", "value": value, "currency": "EUR"}), "49.90", "EUR");
    for (value, discount) in [(2.555, "2.56"), (1e300, "49.90"), (1e-300, "0.00"), (0.005, "0.01")] {
        assert_eq!(fixed(value)[1], discount, "{value}");
    }
    let percent = |value: f64| on(json!({"type": "PERCENT", "value": value}), "0.50", "EUR");
    for (value, discount) in [(1.0, "0.01"), (0.999_999_999_999, "0.00"), (5e-324, "0.00")] {
        assert_eq!(percent(value)[1], discount, "{value}");
    }
}

#[test]
fn each_fault_of_a_discount_is_named() {
    let percent = |rest: Value| {
        let mut value = json!({"type": "PERCENT", "value": 10});
        value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        value
    };
    let fixed = |value: f64, code: &str| json!({"type": "FIXED", "value": value, "currency": code});
    let long = "9".repeat(50);
    for (discount, fields) in [
        (percent(json!({})), vec![]),
        (percent(json!({"value": 0.0001})), vec![]),
        (percent(json!({"value": 100, "currency": "EUR", "minAmount": "10", "maxDiscount": "0.5"})), vec![]),
        (percent(json!({"value": 0.00001})), vec!["value"]),
        (percent(json!({"value": 100.0001})), vec!["value"]),
        (percent(json!({"value": 0})), vec!["value"]),
        (percent(json!({"currency": "XAU"})), vec!["currency"]),
        (percent(json!({"currency": "euro"})), vec!["currency"]),
        (percent(json!({"minAmount": "10"})), vec!["currency"]),
        (percent(json!({"maxDiscount": "x"})), vec!["currency", "maxDiscount"]),
        (percent(json!({"currency": "JPY", "minAmount": "10.5"})), vec!["minAmount"]),
        (
            percent(json!({"currency": "EUR", "minAmount": "0", "maxDiscount": long})),
            vec!["minAmount", "maxDiscount"],
        ),
        (json!({"type": "FIXED", "value": 5}), vec!["currency"]),
        (fixed(2.5, "EUR"), vec![]),
        (fixed(2.505, "EUR"), vec!["value"]),
        (fixed(2.5, "JPY"), vec!["value"]),
        (fixed(2.505, "KWD"), vec![]),
        (fixed(1e13, "EUR"), vec![]),
        (fixed(1.000_000_000_000_1e13, "EUR"), vec!["value"]),
        (fixed(1e300, "EUR"), vec!["value"]),
    ] {
        let found = self::discount(discount.clone()).faults();
        let found: Vec<_> = found.iter().map(|fault| fault.field.trim_start_matches("discount.")).collect();
        assert_eq!(found, fields, "{discount}");
    }
}

#[test]
fn the_amounts_of_a_discount_are_stored_with_all_decimals() {
    let given =
        json!({"type": "PERCENT", "value": 10, "currency": "EUR", "minAmount": "10", "maxDiscount": "007.5"});
    let stored = discount(given).normalized();
    assert_eq!((stored.min_amount.as_deref(), stored.max_discount.as_deref()), (Some("10.00"), Some("7.50")));
    let invalid = discount(json!({"type": "PERCENT", "value": 10, "minAmount": "10"})).normalized();
    assert_eq!(invalid.min_amount.as_deref(), Some("10"));
}

/// A valid discount of EUR, JPY or KWD, or of any currency.
fn any_discount() -> impl Strategy<Value = (Discount, Currency)> {
    let limit = || prop::option::of(prop_oneof![1_i64..100_000, 1_i64..=MAX_MINOR_UNITS]);
    let value = prop_oneof![1_u32..=1_000_000, 1_u32..=100];
    (any::<bool>(), any::<bool>(), value, limit(), limit(), "EUR|JPY|KWD").prop_map(
        |(is_percent, has_currency, value, least, most, code)| {
            let currency = Currency::parse(&code).unwrap();
            let text = |limit: Option<i64>| limit.map(|limit| currency.decimal_text(limit.into()));
            let unit = f64::from(if is_percent { 10_000 } else { currency.minor_units() });
            let has_currency = has_currency || !is_percent || least.is_some() || most.is_some();
            let discount = Discount {
                kind: if is_percent { DiscountKind::Percent } else { DiscountKind::Fixed },
                value: f64::from(value) / unit,
                currency: has_currency.then_some(code),
                min_amount: text(least),
                max_discount: text(most),
            };
            (discount, currency)
        },
    )
}

fn any_amount() -> impl Strategy<Value = i64> {
    prop_oneof![1_i64..1_000, 1_i64..1_000_000, 1..=MAX_MINOR_UNITS]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_discount_is_within_its_limits_and_grows_with_the_amount(
        (discount, currency) in any_discount(), amount in any_amount(), more in 0_i64..10_000,
    ) {
        prop_assert_eq!(discount.faults(), vec![]);
        let limit = |text: &Option<String>| text.as_deref().map(|text| Money::parse(text, currency).unwrap().minor_units());
        let on = |amount: i64| discount.on(Amounts::new(currency, amount, 0).amount());
        let more = (amount + more).min(MAX_MINOR_UNITS);
        let Ok(amounts) = on(amount) else {
            prop_assert!(limit(&discount.min_amount).is_some_and(|least| amount < least));
            return Ok(());
        };
        let given = amounts.discount().minor_units();
        prop_assert!(limit(&discount.min_amount).is_none_or(|least| amount >= least));
        prop_assert!((0..=amount).contains(&given));
        prop_assert!(limit(&discount.max_discount).is_none_or(|most| given <= most));
        prop_assert_eq!(amounts.total().minor_units(), amount - given);
        let larger = on(more).unwrap();
        prop_assert!(larger.discount().minor_units() >= given);
        prop_assert!(larger.total().minor_units() >= amounts.total().minor_units());
    }

    /// Half a minor unit is rounded up, and less is not: `d - 1/2 <= exact < d + 1/2`.
    #[test]
    fn a_percentage_is_the_nearest_minor_unit(amount in any_amount(), ten_thousandths in 1_u32..=1_000_000) {
        let value = f64::from(ten_thousandths) / 10_000.0;
        let discount = discount(json!({"type": "PERCENT", "value": value}));
        let given = discount.on(Amounts::new(Currency::parse("EUR").unwrap(), amount, 0).amount()).unwrap();
        let exact = i128::from(amount) * i128::from(ten_thousandths);
        let given = i128::from(given.discount().minor_units()) * 1_000_000;
        prop_assert!(given - 500_000 <= exact && exact < given + 500_000);
    }

    #[test]
    fn a_fixed_discount_is_its_value(minor_units in 1_i64..=MAX_MINOR_UNITS) {
        let eur = Currency::parse("EUR").unwrap();
        let value: f64 = eur.decimal_text(minor_units.into()).parse().unwrap();
        let discount = discount(json!({"type": "FIXED", "value": value, "currency": "EUR"}));
        prop_assert_eq!(discount.faults(), vec![]);
        let given = discount.on(Amounts::new(eur, MAX_MINOR_UNITS, 0).amount()).unwrap();
        prop_assert_eq!(given.discount().minor_units(), minor_units);
    }
}
