//! What a run does. All of it is a function of the seed and of what the caller leaves out.

use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::bugs::Bug;
use crate::faults::{FAULTS, Fault};
use crate::installation::Size;

/// How long the clients ask.
pub(crate) const STORM: Duration = Duration::from_secs(3);
/// Faults strike from the first to the second of these times on, so that each falls into the load.
const FIRST_STRIKE_MS: u64 = 200;
const LAST_STRIKE_MS: u64 = 2_200;
/// How many faults strike one installation.
const STRIKES: std::ops::RangeInclusive<usize> = 5..=8;
/// The clients of one installation.
pub(crate) const CLIENTS: usize = 100;

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random begins with it.
    pub seed: u64,
    /// How many clients ask each installation at the same time.
    pub clients: usize,
    /// The faults to choose from; all if none is named.
    pub faults: Option<Vec<&'static Fault>>,
    /// The deployment sizes to storm, side by side.
    pub sizes: Vec<Size>,
    /// The guard to take out. Only a fleet runs then: it reaches its database through the storm.
    pub bug: Option<&'static Bug>,
    /// A folder with the API and the worker of another version: half of a fleet runs it.
    pub previous: Option<PathBuf>,
}

/// A fault at its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    pub(crate) after: Duration,
    pub(crate) fault: &'static Fault,
    pub(crate) seed: u64,
}

impl Plan {
    /// Both sizes with all faults and no bug.
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, clients: CLIENTS, faults: None, sizes: Size::ALL.to_vec(), bug: None, previous: None }
    }

    /// The faults that strike an installation, in the order of their times.
    pub(crate) fn strikes(&self, size: Size) -> Vec<Strike> {
        let mut random = self.random(size, 0);
        let allowed = |fault: &&'static Fault| {
            let named = self.faults.as_ref();
            fault.strikes(size) && named.is_none_or(|named| named.iter().any(|one| one.name == fault.name))
        };
        // Drawn before the faults are narrowed down: what is left strikes when it did before.
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

    /// Randomness of its own for each use: what one takes does not change what another gets.
    pub(crate) fn random(&self, size: Size, of: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (of << 32) ^ (u64::from(size == Size::Fleet) << 63))
    }
}
