//! Whom a place counts for.

use std::net::IpAddr;

use cuponera_core::id::BusinessId;
use uuid::Uuid;

/// Who wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// A caller with valid credentials.
    Known {
        /// The account or API key.
        caller: Uuid,
        business: BusinessId,
        /// None for a trusted proxy.
        address: Option<IpAddr>,
    },
    /// A request without valid credentials.
    Anonymous {
        /// None for a trusted proxy.
        address: Option<IpAddr>,
    },
    /// A connection, or a request whose credentials have been good and are looked up again.
    Peer {
        /// None for a trusted proxy.
        address: Option<IpAddr>,
    },
}

/// Somebody whose units are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    Caller(Uuid),
    Business(BusinessId),
    /// An IPv4 address, or a /64 of IPv6.
    Address(IpAddr),
    /// A /56 of IPv6.
    Network(IpAddr),
    /// An address without valid credentials.
    Stranger(IpAddr),
    /// The same of a /56.
    StrangerNetwork(IpAddr),
    /// All requests without valid credentials.
    Anonymous,
}

/// The owners that a place counts for.
pub(super) type Owners = [Option<Owner>; 4];

impl Claimant {
    pub(super) fn owners(&self) -> Owners {
        match *self {
            Self::Known { caller, business, address } => [
                Some(Owner::Caller(caller)),
                Some(Owner::Business(business)),
                address.map(address_of).map(Owner::Address),
                address.and_then(network_of).map(Owner::Network),
            ],
            Self::Anonymous { address } => [
                address.map(address_of).map(Owner::Stranger),
                address.and_then(network_of).map(Owner::StrangerNetwork),
                // Last, so that it is what refuses only where the others do not.
                Some(Owner::Anonymous),
                None,
            ],
            Self::Peer { address } => [
                address.map(address_of).map(Owner::Address),
                address.and_then(network_of).map(Owner::Network),
                None,
                None,
            ],
        }
    }

    /// The address of a request without valid credentials.
    pub(super) fn stranger(&self) -> Option<Owner> {
        self.owners().into_iter().flatten().find(|owner| matches!(owner, Owner::Stranger(_)))
    }

    /// Whose use of a queue counts against this one: the caller's, or that of its address and /56.
    pub(crate) fn rivals(&self) -> impl Iterator<Item = Owner> + use<> {
        let is_rival = |owner: &Owner| {
            matches!(owner, Owner::Caller(_) | Owner::Stranger(_) | Owner::StrangerNetwork(_))
        };
        self.owners().into_iter().flatten().filter(move |owner| is_rival(owner))
    }
}

/// What is counted as one address: a home with IPv6 has a whole /64 to choose from.
pub(crate) fn address_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

/// The /56 of an IPv6 address: what many providers give to one customer.
fn network_of(ip: IpAddr) -> Option<IpAddr> {
    match ip.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(IpAddr::V6((u128::from(v6) >> 72 << 72).into())),
    }
}
