//! Limits password guesses. Wrong passwords are counted by email over all processes. At the limit, addresses without a recent
//! login to the account are refused for a time.
//!
//! **Invariant.** An attempt counts as wrong before its password is checked, and the count is taken back if the password is
//! right, so that concurrent attempts count too. An email without an account is counted in the same way. Attempts from a known
//! address are not counted, because they would displace the counted ones.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_scalar};

use crate::error::Result;

use super::Store;

/// Maximum number of wrong passwords of an email in `WINDOW`. The statement stores this number of times.
const MAX_WRONG: i32 = 10;
const WINDOW: Duration = Duration::from_mins(15);
/// How long an address counts as known after a login from it.
const KNOWN_DAYS: i32 = 30;
/// Prefix length of an IPv6 network that counts as one address: a household usually has a /64.
const NETWORK_BITS_V6: u8 = 64;

/// An allowed attempt, with its time if it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordAttempt(Option<DateTime<Utc>>);

/// Whether an attempt is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptCheck {
    /// Allowed. It is counted unless its address is known.
    Allowed(PasswordAttempt),
    /// Refused. It may be repeated after this time.
    Rejected(Duration),
}

impl Store {
    /// Counts a login attempt for an email from an address.
    pub async fn count_password_attempt(&self, email: &str, address: Option<IpAddr>) -> Result<AttemptCheck> {
        let window = WINDOW.as_secs_f64();
        let counted = query_file!(
            "src/sql/count_password_attempt.sql",
            email,
            address.map(network),
            MAX_WRONG,
            window,
            KNOWN_DAYS
        )
        .fetch_one(&self.pool)
        .await?;
        if counted.is_known || counted.at.is_some() {
            return Ok(AttemptCheck::Allowed(PasswordAttempt(counted.at)));
        }
        let seconds = query_scalar!(
            r#"select extract(epoch from failed_at[cardinality(failed_at) - $2 + 1] + make_interval(secs => $3) - now())::float8
               from password_attempt where email_hash = sha256(convert_to(lower($1), 'UTF8'))"#,
            email,
            MAX_WRONG,
            window
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(AttemptCheck::Rejected(Duration::from_secs_f64(
            seconds.flatten().unwrap_or(0.0).clamp(1.0, window),
        )))
    }

    /// Removes the count of an attempt whose password was right or was not checked.
    pub async fn take_back_password_attempt(&self, email: &str, attempt: PasswordAttempt) -> Result<()> {
        let Some(at) = attempt.0 else { return Ok(()) };
        query!(
            "update password_attempt set failed_at = array_remove(failed_at, $2)
             where email_hash = sha256(convert_to(lower($1), 'UTF8'))",
            email,
            at
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes at most `limit` counts that no longer matter; returns their number.
    pub(super) async fn forget_old_attempts(&self, limit: i64) -> Result<u64> {
        let deleted = query!(
            "delete from password_attempt where email_hash = any(array(
               select email_hash from password_attempt where last_at < now() - make_interval(secs => $1)
               order by last_at limit $2 for update skip locked))",
            WINDOW.as_secs_f64(),
            limit
        )
        .execute(&self.pool)
        .await?;
        Ok(deleted.rows_affected())
    }
}

/// The network that counts as one address, in CIDR notation.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => {
            let host_bits = 128 - u32::from(NETWORK_BITS_V6);
            let network = std::net::Ipv6Addr::from(u128::from(address) >> host_bits << host_bits);
            format!("{network}/{NETWORK_BITS_V6}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_as_its_64_and_a_mapped_one_as_ipv4() {
        for (address, expected) in [
            ("198.51.100.7", "198.51.100.7/32"),
            ("::ffff:198.51.100.7", "198.51.100.7/32"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(network(address.parse().unwrap()), expected);
        }
    }
}
