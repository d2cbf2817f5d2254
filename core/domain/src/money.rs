//! Money: amounts of a currency in integer minor units, read from decimal text and written as such. A floating-point number is never money.

pub mod sums;

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The maximum of an amount, in minor units: ten trillion euros. Sums of amounts fit an `i128`.
pub const MAX_MINOR_UNITS: i64 = 1_000_000_000_000_000;

/// A currency of ISO 4217 with a number of decimals. Metals, funds and codes for tests have none that a price could have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The currency with this code, which is in upper case.
    pub fn parse(code: &str) -> Option<Self> {
        let currency = iso_currency::Currency::from_code(code).filter(|found| found.code() == code)?;
        let is_money = currency.exponent().is_some() && !currency.is_fund() && !currency.is_special();
        is_money.then_some(Self(currency))
    }

    /// The code, such as `EUR`.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// The number of decimals: 2 for EUR, 0 for JPY, 3 for KWD.
    pub fn decimals(self) -> u32 {
        self.0.exponent().map_or(0, u32::from)
    }

    /// The number of minor units of one unit: 100 for EUR.
    pub fn minor_units(self) -> i32 {
        10_i32.pow(self.decimals())
    }

    /// A number of minor units as decimal text with all decimals of the currency.
    pub fn decimal_text(self, minor_units: i128) -> String {
        let sign = if minor_units < 0 { "-" } else { "" };
        let (number, unit) = (minor_units.unsigned_abs(), u128::from(self.minor_units().unsigned_abs()));
        match usize::try_from(self.decimals()) {
            Ok(decimals) if decimals > 0 => {
                format!("{sign}{}.{:0decimals$}", number / unit, number % unit)
            }
            _ => format!("{sign}{number}"),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::parse(&code).ok_or_else(|| D::Error::custom(format_args!("unknown currency {code:?}")))
    }
}

/// Why a text is not an amount. `Display` completes a sentence that begins with the name of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// It is not a plain decimal number.
    #[error(
        "must be a decimal number such as \"49.90\": digits, without sign, exponent, spaces and grouping"
    )]
    NotDecimal,
    /// It has more decimals than the currency.
    #[error("must have at most {} decimals, those of {}", .0.decimals(), .0)]
    TooPrecise(Currency),
    /// It is zero.
    #[error("must be greater than zero")]
    Zero,
    /// It is above [`MAX_MINOR_UNITS`].
    #[error("must be at most {}", .0.decimal_text(MAX_MINOR_UNITS.into()))]
    TooLarge(Currency),
}

/// An amount of a currency that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    minor_units: i64,
    currency: Currency,
}

impl Money {
    /// Reads an amount that is greater than zero, such as `100`, `100.5` or `100.50`.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let (whole, decimals) = split(text)?;
        let missing = usize::try_from(currency.decimals()).unwrap_or_default().checked_sub(decimals.len());
        let missing = missing.ok_or(MoneyError::TooPrecise(currency))?;
        let digits = format!("{whole}{decimals}{}", "0".repeat(missing));
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Err(MoneyError::Zero);
        }
        let minor_units = digits.parse().ok().filter(|number| *number <= MAX_MINOR_UNITS);
        let minor_units = minor_units.ok_or(MoneyError::TooLarge(currency))?;
        Ok(Self { minor_units, currency })
    }

    /// Whether a text is an amount of some currency.
    pub fn check_form(text: &str) -> Result<(), MoneyError> {
        split(text).map(drop)
    }

    /// The number of minor units: cents of euros.
    pub fn minor_units(self) -> i64 {
        self.minor_units
    }

    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }
}

/// The digits before and after the decimal point.
fn split(text: &str) -> Result<(&str, &str), MoneyError> {
    let (whole, decimals) = match text.split_once('.') {
        Some((_, "")) => return Err(MoneyError::NotDecimal),
        Some(parts) => parts,
        None => (text, ""),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(decimals) {
        return Err(MoneyError::NotDecimal);
    }
    Ok((whole, decimals))
}

/// The decimal text, with all decimals of the currency.
impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.currency.decimal_text(self.minor_units.into()))
    }
}

/// The amount of a sale and its discount. The stored form has minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    currency: Currency,
    amount: i64,
    discount: i64,
}

impl Amounts {
    /// An amount and its discount, in minor units. The discount is from 0 to the amount.
    pub fn new(currency: Currency, amount: i64, discount: i64) -> Self {
        Self { currency, amount, discount }
    }

    /// The currency of all three.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The amount before the discount.
    pub fn amount(self) -> Money {
        self.of(self.amount)
    }

    /// The discount.
    pub fn discount(self) -> Money {
        self.of(self.discount)
    }

    /// The amount after the discount.
    pub fn total(self) -> Money {
        self.of(self.amount - self.discount)
    }

    fn of(self, minor_units: i64) -> Money {
        Money { minor_units, currency: self.currency }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn a_currency_has_the_decimals_of_iso_4217() {
        for (code, decimals) in [("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3), ("ISK", 0), ("BHD", 3)] {
            assert_eq!(currency(code).decimals(), decimals, "{code}");
            assert_eq!(currency(code).minor_units(), 10_i32.pow(decimals), "{code}");
            assert_eq!(serde_json::from_value::<Currency>(json!(code)).unwrap().to_string(), code);
        }
    }

    #[test]
    fn metals_funds_tests_and_other_spellings_are_no_currencies() {
        for code in
            ["XAU", "XXX", "XTS", "XDR", "XAD", "CLF", "USN", "UYI", "eur", "Eur", "EU", "EURO", "ABC", ""]
        {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
        assert!(serde_json::from_value::<Currency>(json!("XXX")).is_err());
    }

    #[test]
    fn an_amount_has_one_value_in_each_spelling_and_is_written_with_all_decimals() {
        for (text, code, minor_units, written) in [
            ("100", "EUR", 10_000, "100.00"),
            ("100.5", "EUR", 10_050, "100.50"),
            ("100.50", "EUR", 10_050, "100.50"),
            ("0.01", "EUR", 1, "0.01"),
            ("007.1", "EUR", 710, "7.10"),
            ("500", "JPY", 500, "500"),
            ("1.5", "KWD", 1_500, "1.500"),
            ("10000000000000", "EUR", MAX_MINOR_UNITS, "10000000000000.00"),
        ] {
            let money = Money::parse(text, currency(code)).unwrap();
            assert_eq!((money.minor_units(), money.to_string().as_str()), (minor_units, written), "{text}");
        }
        assert_eq!(currency("EUR").decimal_text(-5), "-0.05");
    }

    #[test]
    fn what_is_no_amount_is_rejected_with_the_reason() {
        let eur = currency("EUR");
        for text in [
            "", ".", "1.", ".5", "+1", "-1", "1e2", "1,5", "1 000", " 1", "1 ", "1.2.3", "0x10", "NaN", "١",
            "１",
        ] {
            assert_eq!(Money::parse(text, eur), Err(MoneyError::NotDecimal), "{text:?}");
            assert_eq!(Money::check_form(text), Err(MoneyError::NotDecimal), "{text:?}");
        }
        for text in ["0", "0.00", "000"] {
            assert_eq!(Money::parse(text, eur), Err(MoneyError::Zero), "{text}");
        }
        assert_eq!(Money::parse("1.500", eur), Err(MoneyError::TooPrecise(eur)));
        assert_eq!(Money::parse("1.0", currency("JPY")), Err(MoneyError::TooPrecise(currency("JPY"))));
        let huge = "9".repeat(10_000);
        for text in ["10000000000000.01", "99999999999999999999", &huge] {
            assert_eq!(Money::parse(text, eur), Err(MoneyError::TooLarge(eur)));
        }
        assert_eq!(MoneyError::TooLarge(eur).to_string(), "must be at most 10000000000000.00");
        assert_eq!(MoneyError::TooPrecise(eur).to_string(), "must have at most 2 decimals, those of EUR");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_written_amount_is_read_as_the_same(minor_units in 1..=MAX_MINOR_UNITS, code in "EUR|JPY|KWD") {
            let money = Amounts::new(currency(&code), minor_units, 0).amount();
            prop_assert_eq!(Money::parse(&money.to_string(), money.currency()), Ok(money));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Money::parse(&text, currency("EUR"));
        }
    }
}
