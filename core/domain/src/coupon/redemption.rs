//! Redemptions: the uses of codes, including those that were rolled back.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::id::{BookId, RedemptionId};
use crate::money::Amounts;

/// One use of a code.
#[derive(Debug, Clone, PartialEq)]
pub struct Redemption {
    /// Its id.
    pub id: RedemptionId,
    /// The code.
    pub code: String,
    /// Its book.
    pub book: BookId,
    /// The user that held the code.
    pub user: String,
    /// Its number among the uses of the code, from 1. Numbers of uses that were rolled back are not given again.
    pub use_number: i32,
    /// The caller's reference for the sale.
    pub reference: Option<String>,
    /// Data that the caller stored with it.
    pub metadata: Option<Value>,
    /// The amount and the discount of the sale, if the caller has named an amount.
    pub amounts: Option<Amounts>,
    /// When the code was redeemed.
    pub redeemed_at: DateTime<Utc>,
    /// When it was rolled back.
    pub rolled_back_at: Option<DateTime<Utc>>,
}
