//! Access tokens: short-lived, signed, and bound to a login.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use cuponera_domain::id::{BusinessId, LoginId};
use cuponera_domain::principal::{Principal, Role, RoleName};
use cuponera_store::{Error, Result};

use super::CursorSeal;

/// Minimum size of a signing secret: the size of the signature's hash.
pub const MIN_JWT_SECRET_BYTES: usize = 32;
/// Maximum size of a token. Longer ones are rejected without parsing.
const MAX_TOKEN_BYTES: usize = 4096;
const ISSUER: &str = "cuponera";
const AUDIENCE: &str = "cuponera-api";
/// Maximum clock skew, in seconds, between two hosts that share a secret. With more, one rejects new tokens of the
/// other.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// Signs and checks access tokens (JWT, HS256).
pub struct Tokens {
    signing: EncodingKey,
    /// The signing key, then the previous key during a rotation of the secret.
    checking: Vec<DecodingKey>,
    rules: Validation,
    ttl: Duration,
    cursors: CursorSeal,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// The contents of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The caller.
    pub principal: Principal,
    /// The login to which the token belongs.
    pub login: LoginId,
    /// The expiry of the token.
    pub expires_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: LoginId,
    iat: i64,
    exp: i64,
    business: BusinessId,
    role: RoleName,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    user_id: Option<String>,
}

impl Claims {
    /// `None` if the claims contradict each other. An account never has the role `SERVICE`, so no token has it.
    fn into_verified(self) -> Option<VerifiedToken> {
        let role = match (self.role, self.user_id) {
            (RoleName::Admin, _) => Role::Admin,
            (RoleName::User, Some(user_id)) => Role::User { user_id },
            (RoleName::User, None) | (RoleName::Service, _) => return None,
        };
        let principal = Principal { business: self.business, id: self.sub, role };
        Some(VerifiedToken { principal, login: self.sid, expires_at: DateTime::from_timestamp(self.exp, 0)? })
    }
}

impl Tokens {
    /// A signer with this secret. Its tokens expire after `ttl`.
    pub fn new(secret: &SecretString, ttl: Duration) -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.validate_nbf = true;
        rules.leeway = 0;
        let secret = secret.expose_secret().as_bytes();
        Self {
            signing: EncodingKey::from_secret(secret),
            checking: vec![DecodingKey::from_secret(secret)],
            rules,
            ttl,
            cursors: CursorSeal::new(secret),
        }
    }

    /// Also accepts tokens that were signed, and cursors that were sealed, with this secret.
    #[must_use]
    pub fn accepting(mut self, previous: Option<&SecretString>) -> Self {
        if let Some(secret) = previous {
            let secret = secret.expose_secret().as_bytes();
            self.checking.push(DecodingKey::from_secret(secret));
            self.cursors.accept(secret);
        }
        self
    }

    /// Seals cursors with the same secret.
    pub fn cursors(&self) -> &CursorSeal {
        &self.cursors
    }

    /// The lifetime of a token.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Issues a token for an account and one of its logins.
    pub fn issue(&self, principal: &Principal, login: LoginId) -> Result<String> {
        let now = Utc::now().timestamp();
        let user_id = match &principal.role {
            Role::User { user_id } => Some(user_id.clone()),
            Role::Admin | Role::Service => None,
        };
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: principal.id,
            sid: login,
            iat: now,
            exp: now.saturating_add(self.ttl_seconds()),
            business: principal.business,
            role: principal.role.name(),
            user_id,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing).map_err(Error::internal)
    }

    /// Validates a token. `None` if its signature, issuer or audience is wrong, or if it has expired or expires later
    /// than `ttl` allows.
    pub fn check(&self, token: &str) -> Option<VerifiedToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let checked = |key| decode::<Claims>(token, key, &self.rules).ok();
        let claims = self.checking.iter().find_map(checked)?.claims;
        // RFC 7519, 4.1.4: invalid on or after `exp`. The library still accepts that second.
        let left = claims.exp.saturating_sub(Utc::now().timestamp());
        if left <= 0 || left > self.ttl_seconds().saturating_add(CLOCK_SKEW_SECONDS) {
            return None;
        }
        claims.into_verified()
    }

    fn ttl_seconds(&self) -> i64 {
        i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use cuponera_store::GenerateId;

    use super::*;

    fn tokens(secret: &str, ttl: Duration) -> Tokens {
        Tokens::new(&SecretString::from(secret.to_owned()), ttl)
    }

    /// An account and one of its logins.
    struct TestAccount {
        principal: Principal,
        login: LoginId,
    }

    fn somebody() -> TestAccount {
        let role = Role::User { user_id: "u-1".into() };
        let principal = Principal { business: BusinessId::generate(), id: Uuid::now_v7(), role };
        TestAccount { principal, login: LoginId::generate() }
    }

    impl TestAccount {
        /// Whether a token is valid for this account and login.
        fn is_found(&self, tokens: &Tokens, token: &str) -> bool {
            tokens
                .check(token)
                .is_some_and(|bearer| bearer.principal == self.principal && bearer.login == self.login)
        }
    }

    #[test]
    fn a_token_stands_for_its_caller_until_it_runs_out_and_only_under_its_key() {
        let bearer = somebody();
        let issue = |tokens: &Tokens| tokens.issue(&bearer.principal, bearer.login).unwrap();
        let good = tokens(&"a".repeat(32), Duration::from_mins(1));
        let token = issue(&good);
        assert!(bearer.is_found(&good, &token));
        let left = good.check(&token).unwrap().expires_at - Utc::now();
        assert!((58..=60).contains(&left.num_seconds()), "{left}");
        assert_eq!(tokens(&"b".repeat(32), Duration::from_mins(1)).check(&token), None);
        assert_eq!(good.check(&issue(&tokens(&"a".repeat(32), Duration::ZERO))), None);
        assert_eq!(good.check(&"x".repeat(100_000)), None);
        assert_eq!(good.check("eyJhbGciOiJub25lIn0.e30."), None);
    }

    #[test]
    fn while_the_secret_is_rotated_tokens_of_both_are_good_and_new_ones_are_of_the_new() {
        let bearer = somebody();
        let [old, new, other] = ["a", "b", "c"].map(|letter| SecretString::from(letter.repeat(32)));
        let ttl = Duration::from_mins(1);
        let rotated = Tokens::new(&new, ttl).accepting(Some(&old));
        let token = |tokens: &Tokens| tokens.issue(&bearer.principal, bearer.login).unwrap();
        for good in [token(&Tokens::new(&old, ttl)), token(&Tokens::new(&new, ttl)), token(&rotated)] {
            assert!(bearer.is_found(&rotated, &good));
        }
        assert_eq!(rotated.check(&token(&Tokens::new(&other, ttl))), None);
        assert_eq!(Tokens::new(&old, ttl).check(&token(&rotated)), None);
        assert!(bearer.is_found(&Tokens::new(&new, ttl), &token(&rotated)));
    }

    #[test]
    fn a_token_that_would_live_longer_than_ours_do_is_none_of_ours() {
        let bearer = somebody();
        let good = tokens(&"a".repeat(32), Duration::from_mins(15));
        for ttl in [Duration::from_mins(17), Duration::MAX] {
            let long = tokens(&"a".repeat(32), ttl).issue(&bearer.principal, bearer.login).unwrap();
            assert_eq!(good.check(&long), None, "{ttl:?}");
        }
    }

    #[test]
    fn no_token_is_of_a_service() {
        let bearer = somebody();
        let good = tokens(&"a".repeat(32), Duration::from_mins(1));
        let service = Principal { role: Role::Service, ..bearer.principal };
        assert_eq!(good.check(&good.issue(&service, bearer.login).unwrap()), None);
    }
}
