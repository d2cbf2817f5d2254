//! How much each caller may ask for: a token bucket an address, a user, a key.
//!
//! Whoever has shown valid credentials is counted by them, everybody else by address. A user who asks for codes that are
//! not theirs is counted apart, and stricter: past the limit such a miss is told as 429, while a code that is theirs is
//! found as ever. So a guesser gains nothing, and cannot shut out a holder behind the same address.

mod address;
mod bucket;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cuponera_core::cache::Cache as Redis;
use cuponera_core::config::{Rate, Shares};
use cuponera_core::principal::{Principal, RoleName};
use cuponera_core::telemetry::metrics;
use ipnet::IpNet;
use moka::sync::Cache;
use poem::Request;
use poem::http::HeaderMap;
use uuid::Uuid;

use crate::http::problem::Problem;
use crate::shares::{Claimant, address_of};
use bucket::Bucket;

pub(crate) use address::client_address;
pub(crate) use bucket::Standing;

/// How long an address counts as having asked for too much.
const SPENT_MEMORY: Duration = Duration::from_mins(1);
const SPENT_REMEMBERED: u64 = 100_000;

/// The limits of an installation; none of them means no limit.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Requests without valid credentials, by address.
    pub anonymous: Option<Rate>,
    /// Requests of one USER.
    pub user: Option<Rate>,
    /// Requests of one SERVICE key.
    pub service: Option<Rate>,
    /// Requests of one ADMIN.
    pub admin: Option<Rate>,
    /// Asking for codes that are not the caller's.
    pub misses: Option<Misses>,
    /// From where `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The most connections; as many as the system has files for, up to 10,000, if absent.
    pub connections: Option<usize>,
    /// What each caller may use of what is scarce.
    pub shares: Shares,
}

/// How often a USER may ask for a code that is not theirs.
#[derive(Debug, Clone, Copy)]
pub struct Misses {
    /// One user.
    pub user: Rate,
    /// All users of one address.
    pub address: Rate,
}

impl Default for Misses {
    /// People mistype a code now and then; ten times a minute they do not.
    fn default() -> Self {
        const TEN: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
        const SIXTY: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
        Self { user: Rate::per_minute(TEN), address: Rate::per_minute(SIXTY) }
    }
}

/// The buckets of this process, and the way to those of the fleet.
#[derive(Debug)]
pub(crate) struct Limiter {
    anonymous: Option<Bucket<IpAddr>>,
    user: Option<Bucket<Uuid>>,
    service: Option<Bucket<Uuid>>,
    admin: Option<Bucket<Uuid>>,
    missing_user: Option<Bucket<Uuid>>,
    missing_address: Option<Bucket<IpAddr>>,
    /// Addresses whose anonymous requests were refused a moment ago.
    spent: Cache<IpAddr, ()>,
    trusted_proxies: Vec<IpNet>,
    redis: Redis,
}

/// What is found out about a request on its way in, for its way out.
#[derive(Debug, Default)]
pub(crate) struct Visit {
    /// From where it comes.
    pub(crate) ip: Option<IpAddr>,
    /// The same, unless that is a trusted proxy, which asks for many clients.
    address: Option<IpAddr>,
    /// Who it turned out to be.
    pub(crate) principal: OnceLock<Principal>,
    /// What is left of the limit that it was counted against.
    standing: Mutex<Option<Standing>>,
}

impl Visit {
    /// The visit that a request is.
    pub(crate) fn of(request: &Request) -> Arc<Self> {
        request.data::<Arc<Self>>().cloned().unwrap_or_default()
    }

    /// Whom the places of the request count for, as far as is known by now.
    pub(crate) fn claimant(&self) -> Claimant {
        match self.principal.get() {
            Some(principal) => self.claimant_of(principal),
            None => Claimant::Anonymous { address: self.address },
        }
    }

    /// The same for a caller.
    pub(crate) fn claimant_of(&self, principal: &Principal) -> Claimant {
        let Principal { id: caller, business, .. } = *principal;
        Claimant::Known { caller, business, address: self.address }
    }

    /// The same where only the address is to count.
    pub(crate) fn peer(&self) -> Claimant {
        Claimant::Peer { address: self.address }
    }

    /// Tells the caller how much is left.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if let Some(standing) = *self.standing() {
            standing.mark(headers);
        }
    }

    fn standing(&self) -> MutexGuard<'_, Option<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, taken: Result<Standing, Standing>) -> Result<(), Problem> {
        match taken {
            Ok(standing) => {
                // A request that is counted twice shows the count it came to first.
                self.standing().get_or_insert(standing);
                Ok(())
            }
            Err(standing) => {
                metrics::rate_limited(standing.name);
                *self.standing() = Some(standing);
                Err(Problem::rate_limited(standing.reset_seconds))
            }
        }
    }
}

impl Limiter {
    pub(crate) fn new(limits: Limits, redis: Redis) -> Self {
        Self {
            anonymous: limits.anonymous.map(|rate| Bucket::new("anonymous", rate)),
            user: limits.user.map(|rate| Bucket::new("user", rate)),
            service: limits.service.map(|rate| Bucket::new("service", rate)),
            admin: limits.admin.map(|rate| Bucket::new("admin", rate)),
            missing_user: limits.misses.map(|misses| Bucket::new("misses", misses.user)),
            missing_address: limits.misses.map(|misses| Bucket::new("misses", misses.address)),
            spent: Cache::builder().max_capacity(SPENT_REMEMBERED).time_to_live(SPENT_MEMORY).build(),
            trusted_proxies: limits.trusted_proxies,
            redis,
        }
    }

    /// Whether a trusted proxy sends the request.
    pub(crate) fn comes_from_proxy(&self, request: &Request) -> bool {
        request.remote_addr().as_socket_addr().is_some_and(|peer| self.is_proxy(peer.ip()))
    }

    /// The beginning of a request.
    pub(crate) fn visit(&self, request: &Request) -> Arc<Visit> {
        let peer = request.remote_addr().as_socket_addr().map(std::net::SocketAddr::ip);
        let ip = peer.map(|peer| client_address(peer, request.headers(), &self.trusted_proxies));
        let address = ip.filter(|ip| !self.is_proxy(*ip));
        Arc::new(Visit { ip, address, ..Visit::default() })
    }

    /// Counts a request of nobody in particular; once, however often it is asked.
    pub(crate) async fn count_anonymous(&self, visit: &Visit) -> Result<(), Problem> {
        let (Some(bucket), Some(ip)) = (&self.anonymous, visit.ip) else { return Ok(()) };
        if visit.standing().is_some() {
            return Ok(());
        }
        let counted = visit.count(bucket.take(&self.redis, &address_of(ip)).await);
        if counted.is_err() {
            self.spent.insert(address_of(ip), ());
        }
        counted
    }

    /// Whom a connection counts for: its address, unless that is a trusted proxy, which connects for many clients.
    pub(crate) fn peer(&self, peer: IpAddr) -> Claimant {
        Claimant::Peer { address: Some(peer).filter(|peer| !self.is_proxy(*peer)) }
    }

    /// Whether this is the address of a trusted proxy.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Whether the address has lately asked for more than it may.
    pub(crate) fn is_spent(&self, visit: &Visit) -> bool {
        visit.ip.is_some_and(|ip| self.spent.contains_key(&address_of(ip)))
    }

    /// Counts a request of somebody.
    pub(crate) async fn count(&self, visit: &Visit, principal: &Principal) -> Result<(), Problem> {
        let bucket = match principal.role.name() {
            RoleName::User => &self.user,
            RoleName::Service => &self.service,
            RoleName::Admin => &self.admin,
        };
        match bucket {
            Some(bucket) => visit.count(bucket.take(&self.redis, &principal.id).await),
            None => Ok(()),
        }
    }

    /// Counts a request of a user for a code that was not theirs: for the user, and for the address.
    pub(crate) async fn count_miss(&self, visit: &Visit) -> Result<(), Problem> {
        let Some(principal) = visit.principal.get().filter(|who| who.role.name() == RoleName::User) else {
            return Ok(());
        };
        metrics::edge().misses.increment(1);
        let by_user = async { Some(self.missing_user.as_ref()?.take(&self.redis, &principal.id).await) };
        let by_address =
            async { Some(self.missing_address.as_ref()?.take(&self.redis, &address_of(visit.ip?)).await) };
        let (by_user, by_address) = tokio::join!(by_user, by_address);
        let refused = [by_user, by_address].into_iter().flatten().find_map(Result::err);
        refused.map_or(Ok(()), |standing| visit.count(Err(standing)))
    }

    /// Forgets those whose buckets are full again.
    pub(crate) fn forget_quiet(&self) {
        for bucket in [&self.anonymous, &self.missing_address].into_iter().flatten() {
            bucket.forget_quiet();
        }
        for bucket in [&self.user, &self.service, &self.admin, &self.missing_user].into_iter().flatten() {
            bucket.forget_quiet();
        }
    }
}
