//! Rate limits: one token bucket for each address, user and key.
//!
//! Requests with valid credentials count by caller, others by address. Requests of a USER for codes of others have a separate,
//! stricter limit. Above it such a request gets 429 instead of 404, while the user's own codes are still found. Free codes of BEARER books are
//! not found either until there is a token again ([`Limiter::is_guessing`]). So guessing codes reveals nothing, and cannot lock out a holder
//! at the same address.

mod address;
mod bucket;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cuponera_domain::principal::{Principal, RoleName};
use cuponera_platform::cache::Cache as Redis;
use cuponera_platform::config::{Rate, Shares};
use cuponera_platform::telemetry::metrics;
use ipnet::IpNet;
use moka::sync::Cache;
use poem::Request;
use poem::http::HeaderMap;
use uuid::Uuid;

use crate::http::problem::Problem;
use crate::shares::{Claimant, address_of};
use bucket::Bucket;

pub(crate) use address::client_address;
pub(crate) use bucket::RateLimitState;

/// How long an address counts as limited after a rejected request. Longer than until the next token of a bucket of misses.
const SPENT_TTL: Duration = Duration::from_mins(1);
const MAX_SPENT: u64 = 100_000;

/// The limits of an installation. `None` is no limit.
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
    /// Requests of a USER for codes of others.
    pub misses: Option<Misses>,
    /// The proxies whose `X-Forwarded-For` is used.
    pub trusted_proxies: Vec<IpNet>,
    /// Maximum number of connections. By default the limit of open files, up to 10,000.
    pub connections: Option<usize>,
    /// The shares of resources.
    pub shares: Shares,
}

/// The rate limits of requests of a USER for codes of others.
#[derive(Debug, Clone, Copy)]
pub struct Misses {
    /// One user.
    pub user: Rate,
    /// All users of one address.
    pub address: Rate,
}

impl Default for Misses {
    /// More than a person mistypes.
    fn default() -> Self {
        const TEN: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
        const SIXTY: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
        Self { user: Rate::per_minute(TEN), address: Rate::per_minute(SIXTY) }
    }
}

/// The buckets of this process, and the connection to those that all processes share.
#[derive(Debug)]
pub(crate) struct Limiter {
    anonymous: Option<Bucket<IpAddr>>,
    user: Option<Bucket<Uuid>>,
    service: Option<Bucket<Uuid>>,
    admin: Option<Bucket<Uuid>>,
    missing_user: Option<Bucket<Uuid>>,
    missing_address: Option<Bucket<IpAddr>>,
    /// Addresses with an anonymous request rejected during the last minute.
    spent: Cache<IpAddr, ()>,
    /// Users, and addresses, without a token for a miss: until when.
    guessing_users: Cache<Uuid, Instant>,
    guessing_addresses: Cache<IpAddr, Instant>,
    trusted_proxies: Vec<IpNet>,
    redis: Redis,
}

/// Facts about a request that are collected while it is processed.
#[derive(Debug, Default)]
pub(crate) struct RequestContext {
    /// The client's address.
    pub(crate) ip: Option<IpAddr>,
    /// The same; none for a trusted proxy, which forwards many clients.
    address: Option<IpAddr>,
    /// The authenticated principal.
    pub(crate) principal: OnceLock<Principal>,
    /// The state of the rate limit that counted the request.
    state: Mutex<Option<RateLimitState>>,
}

impl RequestContext {
    /// The context of a request.
    pub(crate) fn of(request: &Request) -> Arc<Self> {
        request.data::<Arc<Self>>().cloned().unwrap_or_default()
    }

    /// The owners to which the request's use of resources is charged, as known so far.
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

    /// The same, charged to the address only.
    pub(crate) fn peer(&self) -> Claimant {
        Claimant::Peer { address: self.address }
    }

    /// Adds the headers of the rate limit.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(state) = *self.state() {
            state.write_headers(headers);
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<RateLimitState>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, taken: Taken) -> Result<(), Problem> {
        match taken {
            Ok(state) => {
                // If a request is counted twice, the headers show the first count.
                self.state().get_or_insert(state);
                Ok(())
            }
            Err(state) => {
                metrics::rate_limited(state.name);
                *self.state() = Some(state);
                Err(Problem::rate_limited(state.reset_seconds))
            }
        }
    }
}

/// The state of a bucket after a request took a token, or found none.
type Taken = Result<RateLimitState, RateLimitState>;

impl Limiter {
    pub(crate) fn new(limits: Limits, redis: Redis) -> Self {
        Self {
            anonymous: limits.anonymous.map(|rate| Bucket::new("anonymous", rate)),
            user: limits.user.map(|rate| Bucket::new("user", rate)),
            service: limits.service.map(|rate| Bucket::new("service", rate)),
            admin: limits.admin.map(|rate| Bucket::new("admin", rate)),
            missing_user: limits.misses.map(|misses| Bucket::new("misses", misses.user)),
            missing_address: limits.misses.map(|misses| Bucket::new("misses", misses.address)),
            spent: Cache::builder().max_capacity(MAX_SPENT).time_to_live(SPENT_TTL).build(),
            guessing_users: Cache::builder().max_capacity(MAX_SPENT).time_to_live(SPENT_TTL).build(),
            guessing_addresses: Cache::builder().max_capacity(MAX_SPENT).time_to_live(SPENT_TTL).build(),
            trusted_proxies: limits.trusted_proxies,
            redis,
        }
    }

    /// Whether a trusted proxy sends the request.
    pub(crate) fn comes_from_proxy(&self, request: &Request) -> bool {
        request.remote_addr().as_socket_addr().is_some_and(|peer| self.is_proxy(peer.ip()))
    }

    /// The context of a new request.
    pub(crate) fn context_of(&self, request: &Request) -> Arc<RequestContext> {
        let peer = request.remote_addr().as_socket_addr().map(std::net::SocketAddr::ip);
        let ip = peer.map(|peer| client_address(peer, request.headers(), &self.trusted_proxies));
        let address = ip.filter(|ip| !self.is_proxy(*ip));
        Arc::new(RequestContext { ip, address, ..RequestContext::default() })
    }

    /// Counts a request without valid credentials. Repeated calls count it once.
    pub(crate) async fn count_anonymous(&self, context: &RequestContext) -> Result<(), Problem> {
        let (Some(bucket), Some(ip)) = (&self.anonymous, context.ip) else { return Ok(()) };
        if context.state().is_some() {
            return Ok(());
        }
        let counted = context.count(bucket.take(&self.redis, &address_of(ip)).await);
        if counted.is_err() {
            self.spent.insert(address_of(ip), ());
        }
        counted
    }

    /// The owner to which a connection is charged: its address, or none for a trusted proxy, which forwards many clients.
    pub(crate) fn peer(&self, peer: IpAddr) -> Claimant {
        Claimant::Peer { address: Some(peer).filter(|peer| !self.is_proxy(*peer)) }
    }

    /// Whether this is the address of a trusted proxy.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Whether an anonymous request from the address was rejected during the last minute.
    pub(crate) fn is_spent(&self, context: &RequestContext) -> bool {
        context.ip.is_some_and(|ip| self.spent.contains_key(&address_of(ip)))
    }

    /// Counts a request with valid credentials.
    pub(crate) async fn count(&self, context: &RequestContext, principal: &Principal) -> Result<(), Problem> {
        let bucket = match principal.role.name() {
            RoleName::User => &self.user,
            RoleName::Service => &self.service,
            RoleName::Admin => &self.admin,
        };
        match bucket {
            Some(bucket) => context.count(bucket.take(&self.redis, &principal.id).await),
            None => Ok(()),
        }
    }

    /// Counts a request of a USER for a code of another: for the user and for the address.
    pub(crate) async fn count_miss(&self, context: &RequestContext) -> Result<(), Problem> {
        let Some(principal) = context.principal.get().filter(|who| who.role.name() == RoleName::User) else {
            return Ok(());
        };
        metrics::edge().misses.increment(1);
        let by_user = async { Some(self.missing_user.as_ref()?.take(&self.redis, &principal.id).await) };
        let by_address =
            async { Some(self.missing_address.as_ref()?.take(&self.redis, &address_of(context.ip?)).await) };
        let (by_user, by_address) = tokio::join!(by_user, by_address);
        let next_token = |taken: Option<Taken>| taken?.unwrap_or_else(|state| state).next_token();
        if let Some(until) = next_token(by_user) {
            self.guessing_users.insert(principal.id, until);
        }
        if let (Some(until), Some(ip)) = (next_token(by_address), context.ip) {
            self.guessing_addresses.insert(address_of(ip), until);
        }
        let rejected = [by_user, by_address].into_iter().flatten().find_map(Result::err);
        rejected.map_or(Ok(()), |state| context.count(Err(state)))
    }

    /// Whether a user, or its address, has no token for a miss. Calls that run at the same time may all begin before the first of them is
    /// counted: a caller has at most its share of them.
    pub(crate) fn is_guessing(&self, user: Uuid, ip: Option<IpAddr>) -> bool {
        let until =
            [self.guessing_users.get(&user), ip.and_then(|ip| self.guessing_addresses.get(&address_of(ip)))];
        until.into_iter().flatten().any(|until| Instant::now() < until)
    }

    /// Drops the buckets that are full again.
    pub(crate) fn evict_idle(&self) {
        for bucket in [&self.anonymous, &self.missing_address].into_iter().flatten() {
            bucket.evict_idle();
        }
        for bucket in [&self.user, &self.service, &self.admin, &self.missing_user].into_iter().flatten() {
            bucket.evict_idle();
        }
    }
}
