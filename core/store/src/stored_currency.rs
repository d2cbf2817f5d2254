//! A currency as Postgres stores it: its code.

use cuponera_domain::money::{Amounts, Currency};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::{Decode, Postgres, Type};

/// The column `currency`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredCurrency(pub(crate) Currency);

impl Type<Postgres> for StoredCurrency {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(column: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(column)
    }
}

impl<'r> Decode<'r, Postgres> for StoredCurrency {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let code = value.as_str()?;
        Currency::parse(code).map(Self).ok_or_else(|| format!("unknown currency {code:?}").into())
    }
}

/// The amounts of a redemption, which has all of these columns or none.
pub(crate) fn amounts(
    currency: Option<StoredCurrency>,
    amount: Option<i64>,
    discount: Option<i64>,
) -> Option<Amounts> {
    Some(Amounts::new(currency?.0, amount?, discount?))
}
