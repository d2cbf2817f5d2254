//! Shares of limited resources: connections, memory for bodies, requests, uploads, streams, waiting requests, calls in lanes.
//!
//! **Invariant.** No caller, business, address or /56 of IPv6 uses more than its share of a resource, and all requests without
//! valid credentials together use no more than theirs. So none of them can exhaust a resource, and a flood of anonymous requests
//! leaves the rest to authenticated callers. A request above its share is rejected; it does not wait. Passwords wait in a
//! separate queue ([`crate::auth::hashing`]).

mod claimant;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuponera_platform::config::{Share, Shares as Settings};
use cuponera_platform::telemetry::metrics::{Bound, Resource};
use tokio_util::sync::CancellationToken;

use claimant::Owners;
pub(crate) use claimant::{Claimant, Owner, address_of};

/// The unit in which the memory of bodies is counted.
pub(crate) const BODY_UNIT_BYTES: usize = 16 * 1024;

/// A resource with shares.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    metrics: Resource,
    usage: Mutex<Usage>,
}

/// The maximum number of units for each kind of owner.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    total: usize,
    caller: usize,
    business: usize,
    address: usize,
    network: usize,
    anonymous: usize,
    anonymous_address: usize,
    anonymous_network: usize,
}

#[derive(Debug, Default)]
struct Usage {
    total: usize,
    by_owner: HashMap<Owner, usize>,
    /// Permits that may be displaced, by address, the oldest first.
    leases: HashMap<Owner, BTreeMap<u64, Lease>>,
    next_lease: u64,
}

/// A permit that ends early when an address with fewer units needs it.
#[derive(Debug)]
struct Lease {
    owners: Owners,
    units: usize,
    displaced: CancellationToken,
}

/// Units in use. Dropping the permit frees them.
#[derive(Debug)]
pub(crate) struct Permit {
    shares: Arc<Inner>,
    owners: Owners,
    units: usize,
    lease: Option<(Owner, u64, CancellationToken)>,
}

/// A limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// The kind of limit that is reached.
    pub(crate) bound: Bound,
    /// The limit, in units.
    pub(crate) limit: usize,
}

impl Shares {
    /// A resource of `total` units with the shares of the settings. `resource` is its name in the metrics.
    pub(crate) fn new(resource: &'static str, total: usize, settings: &Settings) -> Self {
        Self::with(resource, Bounds::new(total, settings))
    }

    /// Connections. They have only an address, so only the shares of addresses apply.
    pub(crate) fn of_connections(total: usize, settings: &Settings) -> Self {
        Self::new("connections", total, &Settings { share_anonymous: Share::WHOLE, ..settings.clone() })
    }

    fn with(resource: &'static str, bounds: Bounds) -> Self {
        Self(Arc::new(Inner { bounds, metrics: Resource::new(resource), usage: Mutex::default() }))
    }

    /// Takes a unit.
    pub(crate) fn take(&self, claimant: &Claimant) -> Result<Permit, Full> {
        let owners = claimant.owners();
        self.0.usage().add(&owners, 1, &self.0.bounds).map_err(|full| self.0.refuse(full))?;
        Ok(Permit { shares: self.0.clone(), owners, units: 1, lease: None })
    }

    /// Takes a unit. If the units of anonymous requests are used up, displaces the oldest permit of the address with the
    /// most units, if this address has fewer. So a new address gets a unit during a flood from many addresses.
    pub(crate) fn take_or_displace(&self, claimant: &Claimant) -> Result<Permit, Full> {
        let (owners, inner) = (claimant.owners(), &self.0);
        let mut usage = inner.usage();
        if let Err(full) = usage.add(&owners, 1, &inner.bounds) {
            let may_displace = matches!(full.bound, Bound::Anonymous | Bound::Total);
            let has_displaced = may_displace && usage.displace_for(claimant);
            let is_added = has_displaced && usage.add(&owners, 1, &inner.bounds).is_ok();
            // A displaced permit counts as a rejection in the metrics.
            let full = inner.refuse(full);
            if !is_added {
                return Err(full);
            }
        }
        let lease = claimant.stranger().map(|owner| usage.lease(owner, owners));
        Ok(Permit { shares: inner.clone(), owners, units: 1, lease })
    }

    /// The number of units in use.
    pub(crate) fn in_use(&self) -> usize {
        self.0.usage().total
    }

    /// Updates the metrics of units in use.
    pub(crate) fn show(&self) {
        self.0.metrics.in_use(self.in_use());
    }
}

impl Bounds {
    fn new(total: usize, settings: &Settings) -> Self {
        let anonymous = settings.share_anonymous.of(total);
        let [address, anonymous_address] = [total, anonymous].map(|whole| settings.share_address.of(whole));
        Self {
            total,
            caller: settings.share_caller.of(total),
            business: settings.share_business.of(total),
            address,
            network: (address * 2).min(total),
            anonymous,
            anonymous_address,
            anonymous_network: (anonymous_address * 2).min(anonymous),
        }
    }

    /// The limit of an owner.
    fn of(&self, owner: Owner) -> Full {
        let (bound, limit) = match owner {
            Owner::Caller(_) => (Bound::Caller, self.caller),
            Owner::Business(_) => (Bound::Business, self.business),
            Owner::Address(_) => (Bound::Address, self.address),
            Owner::Network(_) => (Bound::Network, self.network),
            Owner::Stranger(_) => (Bound::Address, self.anonymous_address),
            Owner::StrangerNetwork(_) => (Bound::Network, self.anonymous_network),
            Owner::Anonymous => (Bound::Anonymous, self.anonymous),
        };
        Full { bound, limit }
    }
}

impl Inner {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, full: Full) -> Full {
        self.metrics.rejected(full.bound);
        full
    }
}

impl Usage {
    /// Counts units for all owners, or for none of them.
    fn add(&mut self, owners: &Owners, units: usize, bounds: &Bounds) -> Result<(), Full> {
        for owner in owners.iter().flatten() {
            let full = bounds.of(*owner);
            if self.of(*owner) + units > full.limit {
                return Err(full);
            }
        }
        if self.total + units > bounds.total {
            return Err(Full { bound: Bound::Total, limit: bounds.total });
        }
        for owner in owners.iter().flatten() {
            *self.by_owner.entry(*owner).or_default() += units;
        }
        self.total += units;
        Ok(())
    }

    fn remove(&mut self, owners: &Owners, units: usize) {
        self.total -= units;
        for owner in owners.iter().flatten() {
            if let Some(own) = self.by_owner.get_mut(owner) {
                *own -= units;
                if *own == 0 {
                    self.by_owner.remove(owner);
                }
            }
        }
    }

    fn of(&self, owner: Owner) -> usize {
        self.by_owner.get(&owner).copied().unwrap_or(0)
    }

    fn lease(&mut self, owner: Owner, owners: Owners) -> (Owner, u64, CancellationToken) {
        let (id, displaced) = (self.next_lease, CancellationToken::new());
        self.next_lease += 1;
        let lease = Lease { owners, units: 1, displaced: displaced.clone() };
        self.leases.entry(owner).or_default().insert(id, lease);
        (owner, id, displaced)
    }

    fn lease_of(&mut self, owner: Owner, id: u64) -> Option<&mut Lease> {
        self.leases.get_mut(&owner)?.get_mut(&id)
    }

    /// Ends a lease. None if it was displaced.
    fn end_lease(&mut self, owner: Owner, id: u64) -> Option<Lease> {
        let of_owner = self.leases.get_mut(&owner)?;
        let lease = of_owner.remove(&id);
        if of_owner.is_empty() {
            self.leases.remove(&owner);
        }
        lease
    }

    /// Displaces the oldest lease of the address with the most units, if the claimant has fewer.
    fn displace_for(&mut self, claimant: &Claimant) -> bool {
        let Some(own) = claimant.stranger().map(|owner| self.of(owner)) else { return false };
        let most = self.leases.keys().copied().max_by_key(|owner| self.of(*owner));
        let Some(most) = most.filter(|owner| self.of(*owner) > own) else { return false };
        let oldest = self.leases.get(&most).and_then(|leases| leases.keys().next().copied());
        let Some(lease) = oldest.and_then(|id| self.end_lease(most, id)) else { return false };
        self.remove(&lease.owners, lease.units);
        lease.displaced.cancel();
        true
    }
}

impl Permit {
    /// Takes more units.
    pub(crate) fn grow(&mut self, units: usize) -> Result<(), Full> {
        let mut usage = self.shares.usage();
        if let Some((owner, id, _)) = &self.lease
            && usage.lease_of(*owner, *id).is_none()
        {
            // A displaced permit is no longer counted.
            return Ok(());
        }
        usage.add(&self.owners, units, &self.shares.bounds).map_err(|full| self.shares.refuse(full))?;
        if let Some((owner, id, _)) = &self.lease
            && let Some(lease) = usage.lease_of(*owner, *id)
        {
            lease.units += units;
        }
        self.units += units;
        Ok(())
    }

    /// Completes when the permit is displaced.
    pub(crate) fn displaced(&self) -> impl Future<Output = ()> + Send + use<> {
        let displaced = self.lease.as_ref().map(|(.., displaced)| displaced.clone());
        async move {
            match displaced {
                Some(displaced) => displaced.cancelled_owned().await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut usage = self.shares.usage();
        if let Some((owner, id, _)) = &self.lease
            && usage.end_lease(*owner, *id).is_none()
        {
            return;
        }
        usage.remove(&self.owners, self.units);
    }
}

#[cfg(test)]
mod tests;
