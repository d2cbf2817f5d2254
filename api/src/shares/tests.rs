use super::*;
use cuponera_domain::id::BusinessId;
use futures::FutureExt;
use std::net::IpAddr;
use uuid::Uuid;

/// 16 units: a caller and an address may use 4, a business and a /56 8, anonymous requests 4, one of their addresses 1.
fn sixteen() -> Shares {
    Shares::new("requests", 16, &Settings::default())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn known(business: u128, caller: u128, address: &str) -> Claimant {
    let (caller, business) = (Uuid::from_u128(caller), BusinessId(Uuid::from_u128(business)));
    Claimant::Known { caller, business, address: Some(ip(address)) }
}

fn stranger(address: &str) -> Claimant {
    Claimant::Anonymous { address: Some(ip(address)) }
}

/// Takes units for each claimant in turn until it is rejected.
fn fill(shares: &Shares, claimants: &[Claimant]) -> (Vec<Permit>, Vec<Bound>) {
    let (mut held, mut rejected) = (Vec::new(), Vec::new());
    for claimant in claimants {
        loop {
            match shares.take(claimant) {
                Ok(one) => held.push(one),
                Err(full) => break rejected.push(full.bound),
            }
        }
    }
    (held, rejected)
}

/// Invariant I-48.
#[test]
fn no_caller_business_or_address_can_exhaust_a_resource() {
    let shares = sixteen();
    let (caller, rejected) = fill(&shares, &[known(1, 1, "192.0.2.1")]);
    assert_eq!((caller.len(), &rejected[..]), (4, &[Bound::Caller][..]));
    let callers = [known(1, 2, "192.0.2.2"), known(1, 3, "192.0.2.3")];
    let (business, rejected) = fill(&shares, &callers);
    assert_eq!((business.len(), &rejected[..]), (4, &[Bound::Caller, Bound::Business][..]));
    let (address, rejected) = fill(&shares, &[known(2, 4, "192.0.2.9"), known(2, 5, "192.0.2.9")]);
    assert_eq!((address.len(), &rejected[..]), (4, &[Bound::Caller, Bound::Address][..]));
    let (rest, rejected) = fill(&shares, &[known(3, 6, "192.0.2.10"), known(4, 7, "192.0.2.11")]);
    assert_eq!((rest.len(), &rejected[..]), (4, &[Bound::Caller, Bound::Total][..]));
    drop((caller, business, address, rest));
    assert_eq!(shares.in_use(), 0);
    assert!(shares.0.usage().by_owner.is_empty(), "an owner without units is still stored");
}

#[test]
fn anonymous_requests_leave_authenticated_callers_their_share() {
    let shares = sixteen();
    let addresses: Vec<_> = (1..=250).map(|n| stranger(&format!("192.0.2.{n}"))).collect();
    let (flood, rejected) = fill(&shares, &addresses);
    assert_eq!((flood.len(), rejected[0], rejected[249]), (4, Bound::Address, Bound::Anonymous));
    let (business, _) = fill(&shares, &[known(1, 1, "192.0.2.1"), known(2, 2, "192.0.2.2")]);
    assert_eq!(business.len(), 8);
}

#[test]
fn ipv6_counts_by_64_and_by_56() {
    let shares = sixteen();
    let at =
        |net: u32, host: u32| Claimant::Peer { address: Some(ip(&format!("2001:db8:0:{net:x}::{host:x}"))) };
    let (held, rejected) =
        fill(&shares, &[at(0x100, 1), at(0x100, 2), at(0x101, 1), at(0x102, 1), at(0x200, 1)]);
    let expected = [Bound::Address, Bound::Address, Bound::Address, Bound::Network, Bound::Address];
    assert_eq!((held.len(), &rejected[..]), (12, &expected[..]));
    let mapped = [
        Claimant::Peer { address: Some(ip("::ffff:192.0.2.1")) },
        Claimant::Peer { address: Some(ip("192.0.2.1")) },
    ];
    assert_eq!(fill(&shares, &mapped).1, [Bound::Address, Bound::Address]);
}

#[test]
fn without_an_address_only_the_other_bounds_count() {
    let (held, rejected) = fill(&sixteen(), &[Claimant::Peer { address: None }]);
    assert_eq!((held.len(), &rejected[..]), (16, &[Bound::Total][..]));
    let (held, rejected) = fill(&sixteen(), &[Claimant::Anonymous { address: None }]);
    assert_eq!((held.len(), &rejected[..]), (4, &[Bound::Anonymous][..]));
}

#[test]
fn a_permit_grows_within_the_limits_and_frees_all_units() {
    let shares = sixteen();
    let mut held = shares.take_or_displace(&known(1, 1, "192.0.2.1")).unwrap();
    held.grow(3).unwrap();
    assert_eq!(held.grow(1), Err(Full { bound: Bound::Caller, limit: 4 }));
    assert_eq!(shares.in_use(), 4);
    drop(held);
    assert_eq!(shares.in_use(), 0);
}

/// 64 units: 16 for anonymous requests, 4 for one address.
#[test]
fn an_address_without_units_displaces_the_oldest_permit_of_the_address_with_the_most() {
    let shares = Shares::new("bodies", 64, &Settings::default());
    let mut flood: Vec<Permit> = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        flood.extend((0..4).map(|_| shares.take_or_displace(&stranger(address)).unwrap()));
    }
    assert_eq!(shares.take_or_displace(&stranger("192.0.2.1")).unwrap_err().bound, Bound::Address);
    assert!(flood.iter().all(|held| held.displaced().now_or_never().is_none()));
    let late: Vec<_> =
        (10..22).map(|n| shares.take_or_displace(&stranger(&format!("192.0.2.{n}"))).unwrap()).collect();
    let left =
        |flood: &[Permit]| flood.iter().filter(|held| held.displaced().now_or_never().is_none()).count();
    assert_eq!((left(&flood), left(&late), shares.in_use()), (4, 12, 16), "each address keeps one");
    assert_eq!(shares.take(&stranger("192.0.2.99")).unwrap_err().bound, Bound::Anonymous);
    // A displaced permit is not counted, also if it grows.
    let displaced = flood.iter_mut().find(|held| held.displaced().now_or_never().is_some()).unwrap();
    displaced.grow(3).unwrap();
    drop((flood, late));
    assert_eq!(shares.in_use(), 0);
    assert!(shares.0.usage().leases.is_empty());
}

#[test]
fn permits_of_authenticated_callers_displace_none_and_are_not_displaced() {
    let shares = Shares::new("bodies", 64, &Settings::default());
    let mut all: Vec<Permit> = Vec::new();
    for n in 1..=6 {
        let claimant = known(n, n, &format!("192.0.2.{n}"));
        all.extend(std::iter::from_fn(|| shares.take_or_displace(&claimant).ok()));
    }
    assert_eq!((all.len(), shares.in_use()), (64, 64));
    assert_eq!(shares.take_or_displace(&stranger("192.0.2.99")).unwrap_err().bound, Bound::Total);
    assert!(all.iter().all(|held| held.displaced().now_or_never().is_none()));
}
