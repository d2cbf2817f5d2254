//! The plan of a run: a function of the seed and the options.

use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::bugs::Bug;
use crate::faults::{FAULTS, Fault};
use crate::size::Size;

/// Duration of the load.
pub(crate) const STORM: Duration = Duration::from_secs(3);
/// The range of strike times, so that each fault occurs under load.
const FIRST_STRIKE_MS: u64 = 200;
const LAST_STRIKE_MS: u64 = 2_200;
/// Number of faults of an installation.
const STRIKES: std::ops::RangeInclusive<usize> = 5..=8;
/// Number of clients of an installation.
pub(crate) const CLIENTS: usize = 100;

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of all random choices.
    pub seed: u64,
    /// Number of concurrent clients of each installation.
    pub clients: usize,
    /// The faults to choose from; `None` for all.
    pub faults: Option<Vec<&'static Fault>>,
    /// The deployment sizes to test, in parallel.
    pub sizes: Vec<Size>,
    /// The guard to remove. Only a fleet runs then, because its database connections pass through the
    /// storm's proxy.
    pub bug: Option<&'static Bug>,
    /// A folder with the API and the worker of another version, which half of a fleet runs.
    pub previous: Option<PathBuf>,
}

/// A fault and its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    pub(crate) after: Duration,
    pub(crate) fault: &'static Fault,
    pub(crate) seed: u64,
}

impl Plan {
    /// The default plan of a seed: both sizes, all faults, no bug.
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, clients: CLIENTS, faults: None, sizes: Size::ALL.to_vec(), bug: None, previous: None }
    }

    /// The faults of an installation, ordered by time.
    pub(crate) fn strikes(&self, size: Size) -> Vec<Strike> {
        let mut random = self.random(size, 0);
        let allowed = |fault: &&'static Fault| {
            let named = self.faults.as_ref();
            fault.strikes(size) && named.is_none_or(|named| named.iter().any(|one| one.name == fault.name))
        };
        // Drawn from all faults and then filtered, so that the remaining faults keep their times.
        let of_size: Vec<&'static Fault> = FAULTS.iter().filter(|fault| fault.strikes(size)).collect();
        let drawn: Vec<Strike> = (0..random.random_range(STRIKES))
            .filter_map(|_| {
                let after = Duration::from_millis(random.random_range(FIRST_STRIKE_MS..LAST_STRIKE_MS));
                let seed = random.random();
                of_size.choose(&mut random).map(|fault| Strike { after, fault, seed })
            })
            .collect();
        let mut strikes: Vec<Strike> = drawn.into_iter().filter(|strike| allowed(&strike.fault)).collect();
        strikes.sort_by_key(|strike| strike.after);
        strikes
    }

    /// A separate random generator for each purpose, so that one does not affect another.
    pub(crate) fn random(&self, size: Size, of: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (of << 32) ^ (u64::from(size == Size::Fleet) << 63))
    }
}
