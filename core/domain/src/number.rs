//! Decimal numbers as text, and whether a machine number keeps their value.
//!
//! JSON numbers are stored as `u64`, `i64` or `f64`. An `f64` is written as the shortest decimal that reads
//! back as the same `f64`. If several decimals are equally short and near, `serde_json` chooses differently
//! from `std`, and its choice counts. A number is *kept* if that decimal has the value of the text: `0.1`,
//! `1.10` and `1e2` are kept, `0.1234567890123456789` is not. All functions take time linear in the length
//! of the text.

use std::borrow::Cow;

/// A number of at most this many characters without an exponent is always kept: an `f64` holds 15 decimal
/// digits.
const ALWAYS_KEPT_CHARS: usize = 15;
/// Represents each exponent outside the range of `i64`: far outside the range of `f64`, and safe to add to.
const HUGE_EXPONENT: i64 = i64::MAX / 4;

/// Parses the number if an `f64` keeps its value. Infinities and NaN give `None`.
pub fn exact_f64(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let written = serde_json::to_string(&number).ok()?;
    (number.is_finite() && Decimal::of(text) == Decimal::of(&written)).then_some(number)
}

/// Whether this JSON number has the same value after it was parsed and written again.
pub fn is_kept(number: &str) -> bool {
    let is_integer = !number.contains(['.', 'e', 'E']);
    let is_short = number.len() <= ALWAYS_KEPT_CHARS && !number.contains(['e', 'E']);
    is_short
        || is_integer && (number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok())
        || exact_f64(number).is_some()
}

/// A finite number that is not negative as `digits · 10^exponent`, by its shortest decimal. `digits` does not end with a zero.
pub fn digits_and_exponent(number: f64) -> (u64, i64) {
    let written = serde_json::to_string(&number).unwrap_or_default();
    let decimal = Decimal::of(&written);
    let length = i64::try_from(decimal.digits.len()).unwrap_or(HUGE_EXPONENT);
    (decimal.digits.parse().unwrap_or_default(), decimal.point - length)
}

/// The value 0.`digits` · 10^`point`. Each value has one representation: `digits` neither begins nor ends
/// with a zero; zero has no digits, no sign and the point 0.
#[derive(Debug, PartialEq, Eq)]
struct Decimal<'a> {
    is_negative: bool,
    digits: Cow<'a, str>,
    point: i64,
}

impl<'a> Decimal<'a> {
    /// The value of a text that `f64` parses as a finite number.
    fn of(text: &'a str) -> Self {
        let unsigned = text.trim_start_matches(['-', '+']);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Cow<str> =
            if fraction.is_empty() { whole.into() } else { format!("{whole}{fraction}").into() };
        let leading_zeros = digits.len() - digits.trim_start_matches('0').len();
        let digits: Cow<str> = match digits {
            Cow::Borrowed(digits) => digits.trim_matches('0').into(),
            Cow::Owned(digits) => digits.trim_matches('0').to_owned().into(),
        };
        if digits.is_empty() {
            return Self { is_negative: false, digits, point: 0 };
        }
        let length = |count: usize| i64::try_from(count).unwrap_or(HUGE_EXPONENT);
        let point = length(whole.len()) - length(leading_zeros) + exponent_of(exponent);
        Self { is_negative: text.starts_with('-'), digits, point }
    }
}

fn exponent_of(text: &str) -> i64 {
    let beyond = if text.starts_with('-') { -HUGE_EXPONENT } else { HUGE_EXPONENT };
    text.parse().map_or(beyond, |exponent: i64| exponent.clamp(-HUGE_EXPONENT, HUGE_EXPONENT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn numbers_that_keep_their_value_are_told_from_those_that_do_not() {
        let kept = [
            "0",
            "-0",
            "0.0",
            "-0e99999999999999999999",
            "1.10",
            "1e2",
            "5.0",
            "100E-2",
            "0.1",
            "1e308",
            "5e-324",
            "18446744073709551615",
            "-9223372036854775808",
            "100000000000000000000",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
            "123456789012345",
            "0.30000000000000004",
            "9007199254740993",
            // As near to the double 570000000000000.25 as the decimal ending in 3, which is not the one
            // written.
            "570000000000000.2",
        ];
        let rounded = [
            "0.1234567890123456789",
            "12345678901234567890123",
            "18446744073709551616",
            "-9223372036854775809",
            "1e400",
            "-1e400",
            "1e-400",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "0.10000000000000001",
            "9007199254740993.0",
            "4.9e-324",
            "570000000000000.3",
            "100000000000000000001",
            "1.00000000000000000000000000001",
        ];
        for text in kept {
            assert!(is_kept(text), "{text}");
        }
        for text in rounded {
            assert!(!is_kept(text), "{text}");
        }
    }

    #[test]
    fn a_number_has_the_digits_of_its_shortest_decimal() {
        for (number, expected) in [
            (0.0, (0, 0)),
            (0.1, (1, -1)),
            (10.5, (105, -1)),
            (100.0, (1, 2)),
            (1e300, (1, 300)),
            (5e-324, (5, -324)),
            (9_007_199_254_740_993.0, (9_007_199_254_740_992, 0)),
        ] {
            assert_eq!(digits_and_exponent(number), expected, "{number}");
        }
    }

    #[test]
    fn what_is_not_a_finite_number_is_not_exact() {
        for text in ["", "ten", "inf", "-inf", "NaN", "infinity", "1e999", "1,5", "0x10"] {
            assert_eq!(exact_f64(text), None, "{text}");
        }
        assert_eq!(exact_f64("+.5"), Some(0.5));
        assert_eq!(exact_f64("5."), Some(5.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_kept_number_is_written_with_the_same_value_and_a_rounded_one_is_not(
            text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][-+]?[0-9]{1,3})?",
        ) {
            let written = serde_json::from_str::<Value>(&text).map(|value| value.to_string());
            let is_same = written.is_ok_and(|written| Decimal::of(&written) == Decimal::of(&text));
            prop_assert_eq!(is_kept(&text), is_same);
        }

        #[test]
        fn whatever_is_written_from_a_double_is_kept(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            let written = serde_json::to_string(&number).unwrap();
            prop_assert!(is_kept(&written));
            prop_assert_eq!(exact_f64(&written), Some(number));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eEinfa]{0,40}") {
            let _ = (is_kept(&text), exact_f64(&text));
        }
    }
}
