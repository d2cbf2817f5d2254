//! The amount of a sale in requests, and its discount in responses.

use cuponera_domain::money::{Amounts, Currency, Money};
use poem_openapi::Object;
use serde_json::Value;

use crate::http::body::{Field, Fields};

/// An amount as decimal text. A JSON number is not an amount: programs round it.
pub(super) struct MoneyText(pub(super) String);

impl Field for MoneyText {
    const EXPECTED: &'static str = "a string such as \"49.90\"; a JSON number is not an amount";
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self(text)),
            _ => None,
        }
    }
}

/// The fields `amount` and `currency`: both, or none.
pub(super) fn money(fields: &mut Fields) -> Option<Money> {
    let (amount, code) = (fields.optional::<MoneyText>("amount"), fields.optional::<String>("currency"));
    let currency = code.as_deref().and_then(Currency::parse);
    if code.is_some() && currency.is_none() {
        fields.fault("currency", "must be an ISO 4217 code of a currency, such as EUR");
    }
    if amount.is_some() && code.is_none() {
        fields.fault("currency", "is required with amount");
    }
    if amount.is_none() && code.is_some() {
        fields.fault("amount", "is required with currency");
    }
    let MoneyText(text) = amount?;
    let Some(currency) = currency else {
        if let Err(error) = Money::check_form(&text) {
            fields.fault("amount", error.to_string());
        }
        return None;
    };
    Money::parse(&text, currency).map_err(|error| fields.fault("amount", error.to_string())).ok()
}

/// An optional amount or currency as the API shows it.
pub(super) fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// The discount on the amount of a request.
#[derive(Debug, Object)]
#[oai(rename = "DiscountOnAmount")]
pub(super) struct DiscountOnAmount {
    /// The discount.
    amount: String,
    /// The amount of the request minus the discount.
    total: String,
    currency: String,
}

impl From<Amounts> for DiscountOnAmount {
    fn from(amounts: Amounts) -> Self {
        Self {
            amount: amounts.discount().to_string(),
            total: amounts.total().to_string(),
            currency: amounts.currency().code().into(),
        }
    }
}
