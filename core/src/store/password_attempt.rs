//! Attempts to guess a password, counted by email over all processes: after a number of wrong passwords, an address that has not
//! logged in to the account lately is refused for a while.
//!
//! **Invariant.** An attempt counts as wrong before its password is checked, and is taken back if it was right: attempts at the same
//! time are counted too. An email without an account is counted in the same way. Attempts from a known address are not counted: they
//! would take the place of others.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_scalar};

use crate::error::Result;

use super::Store;

/// How many wrong passwords an email may have in `WINDOW`. The statement keeps as many times.
const MAX_WRONG: i32 = 10;
const WINDOW: Duration = Duration::from_mins(15);
/// How long an address counts as known after a login from it.
const KNOWN_DAYS: i32 = 30;
/// The prefix of an IPv6 network that counts as one address: a home has a /64 to choose from.
const NETWORK_BITS_V6: u8 = 64;

/// An attempt that may be made, with its time if it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordAttempt(Option<DateTime<Utc>>);

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempted {
    /// It may, and is counted unless its address is known.
    Allowed(PasswordAttempt),
    /// It may be made after this time.
    Refused(Duration),
}

impl Store {
    /// Counts an attempt to give the password of an email from an address.
    pub async fn count_password_attempt(&self, email: &str, address: Option<IpAddr>) -> Result<Attempted> {
        let window = WINDOW.as_secs_f64();
        let counted = query_file!(
            "src/store/sql/count_password_attempt.sql",
            email,
            address.map(network),
            MAX_WRONG,
            window,
            KNOWN_DAYS
        )
        .fetch_one(&self.pool)
        .await?;
        if counted.is_known || counted.at.is_some() {
            return Ok(Attempted::Allowed(PasswordAttempt(counted.at)));
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
        Ok(Attempted::Refused(Duration::from_secs_f64(seconds.flatten().unwrap_or(0.0).clamp(1.0, window))))
    }

    /// Takes an attempt back: the password was right, or was not checked.
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

    /// Deletes a slice of the counts that no longer matter, with at most `limit` rows; returns how many.
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

/// What counts as one address, in CIDR notation.
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
