//! The owners to which units of a resource are charged.

use std::net::IpAddr;

use cuponera_domain::id::BusinessId;
use uuid::Uuid;

/// The origin of a request for units.
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
    /// A connection, or a request whose credentials were valid recently and are looked up again.
    Peer {
        /// None for a trusted proxy.
        address: Option<IpAddr>,
    },
}

/// Units with the same owner are counted together.
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
    /// A /56 of IPv6 without valid credentials.
    StrangerNetwork(IpAddr),
    /// All requests without valid credentials.
    Anonymous,
}

/// The owners to which a unit is charged.
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
                // Last, so that it is reported only if no other limit is reached.
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

    /// The owners whose use of a queue delays this request: the caller, or the address and its /56.
    pub(crate) fn competitors(&self) -> impl Iterator<Item = Owner> + use<> {
        let competes = |owner: &Owner| {
            matches!(owner, Owner::Caller(_) | Owner::Stranger(_) | Owner::StrangerNetwork(_))
        };
        self.owners().into_iter().flatten().filter(move |owner| competes(owner))
    }
}

/// The address that units are charged to: for IPv6 the /64, because one client can use all of its addresses.
pub(crate) fn address_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

/// The /56 of an IPv6 address. Many providers assign one to each customer.
fn network_of(ip: IpAddr) -> Option<IpAddr> {
    match ip.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(IpAddr::V6((u128::from(v6) >> 72 << 72).into())),
    }
}
