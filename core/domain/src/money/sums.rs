//! Sums of the amounts of redemptions, by currency. They may exceed an `i64`.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Amounts, Currency};

/// Sums of the amounts and discounts of redemptions in one currency, in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmountSums {
    /// The number of redemptions.
    pub redemptions: i64,
    /// The sum of their amounts.
    #[serde(with = "text")]
    pub amount: i128,
    /// The sum of their discounts.
    #[serde(with = "text")]
    pub discount: i128,
}

impl AmountSums {
    /// The sum of the amounts after the discounts.
    pub fn total(self) -> i128 {
        self.amount - self.discount
    }

    fn shown(self, currency: Currency) -> Value {
        json!({
            "redemptions": self.redemptions,
            "amount": currency.decimal_text(self.amount),
            "discount": currency.decimal_text(self.discount),
            "total": currency.decimal_text(self.total()),
        })
    }
}

impl AddAssign for AmountSums {
    fn add_assign(&mut self, other: Self) {
        self.redemptions += other.redemptions;
        self.amount += other.amount;
        self.discount += other.discount;
    }
}

/// Numbers that JSON numbers of other programs do not keep.
mod text {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The sums of redemptions in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrencySums {
    /// The currency.
    pub currency: Currency,
    /// All redemptions, including those that were rolled back.
    pub redeemed: AmountSums,
    /// The redemptions that were rolled back.
    pub rolled_back: AmountSums,
}

impl CurrencySums {
    /// The sums as the API shows them.
    pub fn shown(&self) -> Value {
        json!({
            "currency": self.currency,
            "redeemed": self.redeemed.shown(self.currency),
            "rolledBack": self.rolled_back.shown(self.currency),
        })
    }
}

/// The sums of redemptions in each currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SumsByCurrency(BTreeMap<Currency, CurrencySums>);

impl SumsByCurrency {
    /// Adds a redemption.
    pub fn add_redemption(&mut self, amounts: Amounts, is_rolled_back: bool) {
        let one = AmountSums {
            redemptions: 1,
            amount: amounts.amount().minor_units().into(),
            discount: amounts.discount().minor_units().into(),
        };
        let rolled_back = if is_rolled_back { one } else { AmountSums::default() };
        self.add(CurrencySums { currency: amounts.currency(), redeemed: one, rolled_back });
    }

    /// Adds sums of one currency.
    pub fn add(&mut self, sums: CurrencySums) {
        let none = AmountSums::default();
        let empty = CurrencySums { currency: sums.currency, redeemed: none, rolled_back: none };
        let all = self.0.entry(sums.currency).or_insert(empty);
        all.redeemed += sums.redeemed;
        all.rolled_back += sums.rolled_back;
    }

    /// The sums, in the order of the currencies.
    pub fn into_sums(self) -> Vec<CurrencySums> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MAX_MINOR_UNITS;

    #[test]
    fn sums_are_kept_by_currency_and_beyond_64_bits() {
        let currency = |code: &str| Currency::parse(code).unwrap();
        let mut all = SumsByCurrency::default();
        for number in 0..20_000 {
            all.add_redemption(Amounts::new(currency("JPY"), MAX_MINOR_UNITS, 1), number == 0);
        }
        all.add_redemption(Amounts::new(currency("EUR"), 4_990, 499), false);
        let sums = all.clone().into_sums();
        let stored = serde_json::to_value(&sums).unwrap();
        assert_eq!(stored[1]["redeemed"]["amount"], "20000000000000000000");
        let read: Vec<CurrencySums> = serde_json::from_value(stored).unwrap();
        assert_eq!(read, sums);
        let mut twice = SumsByCurrency::default();
        read.into_iter().chain(sums).for_each(|sums| twice.add(sums));
        let shown: Vec<Value> = twice.into_sums().iter().map(CurrencySums::shown).collect();
        let none = json!({"redemptions": 0, "amount": "0.00", "discount": "0.00", "total": "0.00"});
        let eur = json!({"redemptions": 2, "amount": "99.80", "discount": "9.98", "total": "89.82"});
        assert_eq!(shown[0], json!({"currency": "EUR", "redeemed": eur, "rolledBack": none}));
        let rolled_back = json!({"redemptions": 2, "amount": "2000000000000000", "discount": "2", "total": "1999999999999998"});
        assert_eq!(shown[1]["rolledBack"], rolled_back);
    }
}
