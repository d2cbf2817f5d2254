//! The kind of a book's codes as Postgres stores it: a text with a CHECK.

use cuponera_domain::book::CodeKind;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::{Decode, Postgres, Type};

/// The column `code_kind`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredKind(pub(crate) CodeKind);

impl Type<Postgres> for StoredKind {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(column: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(column)
    }
}

impl<'r> Decode<'r, Postgres> for StoredKind {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let name = value.as_str()?;
        CodeKind::parse(name).map(Self).ok_or_else(|| format!("unknown kind of codes {name:?}").into())
    }
}
