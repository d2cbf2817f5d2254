//! The discount of a book, and what it gives on an amount.
//!
//! The functions `discount_on` and `discount_rejection` of the database compute the same, for the statements that lock and redeem.

use serde::{Deserialize, Serialize};

use crate::money::{Amounts, Currency, MAX_MINOR_UNITS, Money};
use crate::number::digits_and_exponent;
use crate::rejection::{FieldError, Rejection};

/// The maximum number of decimals of a percentage.
const MAX_PERCENT_DECIMALS: u32 = 4;

/// The discount of a code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Discount {
    /// Percentage or amount.
    #[serde(rename = "type")]
    pub kind: DiscountKind,
    /// Percent, or units of the currency. Its shortest decimal is its value.
    pub value: f64,
    /// ISO 4217 code. The discount is for amounts of this currency only. Required for a fixed amount and for the fields below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The smallest amount that has a discount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_amount: Option<String>,
    /// The largest discount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_discount: Option<String>,
}

/// The kind of a discount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DiscountKind {
    /// A percentage of the price.
    Percent,
    /// A fixed amount.
    Fixed,
}

/// The amounts of a sale with the discount of a book, or the rule of the discount that rejects the call. None for a call without an amount.
pub fn discounted(discount: Option<&Discount>, amount: Option<Money>) -> Result<Option<Amounts>, Rejection> {
    match (discount, amount) {
        (Some(discount), Some(amount)) => discount.on(amount).map(Some),
        (None, Some(amount)) => Ok(Some(Amounts::new(amount.currency(), amount.minor_units(), 0))),
        (Some(Discount { min_amount: Some(_), .. }), None) => Err(Rejection::AmountRequired),
        (_, None) => Ok(None),
    }
}

impl Discount {
    /// The discount on an amount: rounded half up to the minor unit, at most `max_discount` and at most the amount.
    pub fn on(&self, amount: Money) -> Result<Amounts, Rejection> {
        let currency = amount.currency();
        if let Some(of_discount) = self.currency.as_deref().filter(|code| *code != currency.code()) {
            return Err(Rejection::CurrencyMismatch { currency: of_discount.to_owned() });
        }
        let limit =
            |text: &Option<String>| text.as_deref().and_then(|text| Money::parse(text, currency).ok());
        if let Some(least) =
            limit(&self.min_amount).filter(|least| amount.minor_units() < least.minor_units())
        {
            let currency = currency.code().to_owned();
            return Err(Rejection::AmountTooSmall { min_amount: least.to_string(), currency });
        }
        let given = match self.kind {
            DiscountKind::Percent => rounded(amount.minor_units(), self.value, -2),
            DiscountKind::Fixed => rounded(currency.minor_units().into(), self.value, 0),
        };
        let most = limit(&self.max_discount).unwrap_or(amount).minor_units();
        let given = given.min(most).min(amount.minor_units());
        Ok(Amounts::new(currency, amount.minor_units(), given))
    }

    /// The discount with its amounts as they are stored: with all decimals of the currency.
    #[must_use]
    pub fn normalized(self) -> Self {
        let currency = self.currency.as_deref().and_then(Currency::parse);
        let written = |text: Option<String>| match currency.zip(text.as_deref()) {
            Some((currency, given)) => {
                Money::parse(given, currency).map_or(text, |money| Some(money.to_string()))
            }
            None => text,
        };
        Self { min_amount: written(self.min_amount), max_discount: written(self.max_discount), ..self }
    }

    /// The faults of a discount, by field.
    pub(crate) fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, message: String| {
            faults.push(FieldError::new(format!("discount.{field}"), message));
        };
        let limits =
            [("minAmount", self.min_amount.as_deref()), ("maxDiscount", self.max_discount.as_deref())];
        let currency = self.currency.as_deref().and_then(Currency::parse);
        let needs_it = (self.kind == DiscountKind::Fixed).then_some("FIXED");
        let needs_it = needs_it.or(limits.iter().find_map(|(field, text)| text.map(|_| *field)));
        match (&self.currency, needs_it) {
            (Some(_), _) if currency.is_none() => {
                fault("currency", "must be an ISO 4217 code such as EUR, in upper case".into());
            }
            (None, Some(what)) => {
                fault("currency", format!("is required for {what}: an ISO 4217 code such as EUR"))
            }
            (Some(_), _) | (None, None) => {}
        }
        if let Err(message) = self.check_value(currency) {
            fault("value", message);
        }
        for (field, text) in limits.into_iter().filter_map(|(field, text)| Some((field, text?))) {
            let checked = match currency {
                Some(currency) => Money::parse(text, currency).map(drop),
                None => Money::check_form(text),
            };
            if let Err(error) = checked {
                fault(field, error.to_string());
            }
        }
        faults
    }

    fn check_value(&self, currency: Option<Currency>) -> Result<(), String> {
        if !self.value.is_finite() || self.value <= 0.0 {
            return Err("must be greater than 0".into());
        }
        let decimals = digits_and_exponent(self.value).1.checked_neg().unwrap_or(i64::MAX);
        match (self.kind, currency) {
            (DiscountKind::Percent, _) if self.value > 100.0 => Err("must be at most 100 for PERCENT".into()),
            (DiscountKind::Percent, _) if decimals > MAX_PERCENT_DECIMALS.into() => {
                Err(format!("must have at most {MAX_PERCENT_DECIMALS} decimals for PERCENT"))
            }
            (DiscountKind::Fixed, Some(currency)) if decimals > currency.decimals().into() => {
                Err(format!("must have at most {} decimals, those of {currency}", currency.decimals()))
            }
            (DiscountKind::Fixed, Some(currency))
                if rounded(currency.minor_units().into(), self.value, 0) > MAX_MINOR_UNITS =>
            {
                Err(format!("must be at most {}", currency.decimal_text(MAX_MINOR_UNITS.into())))
            }
            (DiscountKind::Percent | DiscountKind::Fixed, _) => Ok(()),
        }
    }
}

/// `factor · value · 10^shift`, rounded half up; `i64::MAX` if it is larger. Exact for a factor of up to 10¹⁵ and a value that is not
/// negative: a double has at most 17 digits, so the product of the digits is below 10³³.
fn rounded(factor: i64, value: f64, shift: i64) -> i64 {
    let (digits, exponent) = digits_and_exponent(value);
    let product = i128::from(factor) * i128::from(digits);
    let exponent = exponent.saturating_add(shift);
    let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|power| 10_i128.checked_pow(power));
    let number = match power {
        Some(power) if exponent >= 0 => product.checked_mul(power).unwrap_or(i128::MAX),
        Some(power) => (product + power / 2) / power,
        // Above 10³⁸, or a divisor of more than twice the product.
        None if exponent >= 0 && product > 0 => i128::MAX,
        None => 0,
    };
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
