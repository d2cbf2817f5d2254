//! Resolves the names of receivers for the HTTP client, and gives it only addresses to which webhooks may be sent.
//!
//! **Invariant I-66.** The client connects only to addresses that were checked. A name is resolved once for each connection, and the
//! connection goes to the addresses that this resolution returned: a name whose address changes after the check is not followed.
//! Addresses in URLs never reach the resolver; [`Receiver`](cuponera_domain::webhook::receiver::Receiver) checks them before each attempt.

use std::net::SocketAddr;
use std::sync::Arc;

use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_domain::webhook::receiver::Transport;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A name has no address to which webhooks may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ForbiddenName {
    /// It has no address.
    #[error("the name of the receiver has no address")]
    NoAddress,
    /// All its addresses are private, local or reserved, or, for http, not allowed.
    #[error(
        "the name of the receiver resolves to a private, local or reserved address, which the operator does not allow"
    )]
    Forbidden,
}

/// Returns the permitted ones of the addresses that another resolver finds.
pub(super) struct CheckedResolver {
    pub(super) inner: Arc<dyn Resolve>,
    pub(super) allowed: AllowedNetworks,
    pub(super) transport: Transport,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.inner.resolve(name);
        let (allowed, transport) = (self.allowed.clone(), self.transport);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.collect();
            if found.is_empty() {
                return Err(ForbiddenName::NoAddress.into());
            }
            let permitted: Vec<SocketAddr> =
                found.into_iter().filter(|address| transport.permits(address.ip(), &allowed)).collect();
            if permitted.is_empty() {
                return Err(ForbiddenName::Forbidden.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}
