//! How the shared resources are used, and which bounds refuse.

use metrics::{Counter, Gauge, counter, gauge};

use super::{as_f64, label, recorder};

/// The shared resources: the values of the label `resource`.
pub const RESOURCES: [&str; 8] =
    ["connections", "bodies", "requests", "uploads", "streams", "waits", "passwords", "lanes"];

/// Which bound refuses: the values of the label `bound`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Of the resource itself.
    Total,
    /// Of one account or API key.
    Caller,
    /// Of one business.
    Business,
    /// Of one address: IPv4, or a /64 of IPv6.
    Address,
    /// Of one /56 of IPv6.
    Network,
    /// Of all requests without valid credentials.
    Anonymous,
}

impl Bound {
    const NAMES: [&str; 6] = ["total", "caller", "business", "address", "network", "anonymous"];
}

/// One shared resource.
#[derive(Debug, Clone)]
pub struct Resource {
    in_use: Gauge,
    rejected: [Counter; Bound::NAMES.len()],
}

impl Resource {
    /// Of this name, one of [`RESOURCES`].
    pub fn new(resource: &'static str) -> Self {
        recorder();
        let rejected = |bound| {
            let labels = vec![label("resource", resource), label("bound", bound)];
            let counter = counter!("cuponera_share_refused_total", labels);
            counter.increment(0);
            counter
        };
        let in_use = gauge!("cuponera_share_in_use", vec![label("resource", resource)]);
        in_use.increment(0);
        Self { in_use, rejected: Bound::NAMES.map(rejected) }
    }

    /// Shows how much of it is in use.
    pub fn in_use(&self, units: usize) {
        self.in_use.set(as_f64(units));
    }

    /// A bound refused a request, or displaced one.
    pub fn rejected(&self, bound: Bound) {
        self.rejected[bound as usize].increment(1);
    }
}
