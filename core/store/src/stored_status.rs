//! The status of a coupon as Postgres stores it: the enum type `coupon_status`.

use cuponera_domain::coupon::state::CouponStatus;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// A column of type `coupon_status`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredStatus(pub(crate) CouponStatus);

impl Type<Postgres> for StoredStatus {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("coupon_status")
    }
}

impl<'r> Decode<'r, Postgres> for StoredStatus {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let name = value.as_str()?;
        CouponStatus::parse(name).map(Self).ok_or_else(|| format!("unknown coupon status {name:?}").into())
    }
}

impl Encode<'_, Postgres> for StoredStatus {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <&str as Encode<Postgres>>::encode_by_ref(&self.0.as_str(), buffer)
    }
}
