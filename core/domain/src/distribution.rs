//! Distribution of codes to the members of a pool: how many codes each member gets. Pure: the same members, rooms, request and seed
//! give the same numbers on every machine and in every version.

use serde::{Deserialize, Serialize};

use crate::rejection::{FieldError, Rejection};

/// The largest seed: integers up to it are exact in JSON.
pub const MAX_SEED: u64 = (1 << 53) - 1;
/// The most codes of one distribution.
pub const MAX_CODES: u64 = 100_000_000;
/// The most codes for each member that a request may ask for.
pub const MAX_CODES_PER_USER: u32 = 100_000;

/// How codes are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// Each member gets the same number, or numbers that differ by one.
    Equal,
    /// Each code goes to a member drawn uniformly.
    Random,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Equal, Self::Random];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "EQUAL",
            Self::Random => "RANDOM",
        }
    }

    /// The mode of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// What happens if the book has too few codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OnShortage {
    /// Nothing is assigned.
    #[default]
    Fail,
    /// The codes that exist are distributed.
    Partial,
}

impl OnShortage {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Fail, Self::Partial];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Partial => "PARTIAL",
        }
    }

    /// The choice of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

/// How many codes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// This number for each member.
    PerUser(u32),
    /// This number for all members together.
    Total(u64),
}

/// The rules of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How codes are divided.
    pub mode: Mode,
    /// How many codes are asked for.
    pub amount: Amount,
    /// Decides what the mode leaves open.
    pub seed: u64,
    /// What happens if the book has too few codes.
    pub on_shortage: OnShortage,
}

impl Rules {
    /// Checks a request and builds its rules. Exactly one amount is given. Without a seed, `drawn_seed` is used. Reports all faults.
    pub fn new(
        mode: Mode,
        codes_per_user: Option<u64>,
        total_codes: Option<u64>,
        seed: Option<u64>,
        on_shortage: OnShortage,
        drawn_seed: u64,
    ) -> Result<Self, Rejection> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, message: String| faults.push(FieldError::new(field, message));
        if codes_per_user.is_some_and(|codes| !(1..=u64::from(MAX_CODES_PER_USER)).contains(&codes)) {
            fault("codesPerUser", format!("must be from 1 to {MAX_CODES_PER_USER}"));
        }
        if total_codes.is_some_and(|codes| !(1..=MAX_CODES).contains(&codes)) {
            fault("totalCodes", format!("must be from 1 to {MAX_CODES}"));
        }
        if seed.is_some_and(|seed| seed > MAX_SEED) {
            fault("seed", format!("must be from 0 to {MAX_SEED}"));
        }
        if mode == Mode::Random && codes_per_user.is_some() {
            fault("codesPerUser", "is not possible with the mode RANDOM: use totalCodes".to_owned());
        }
        let amount = match (codes_per_user, total_codes) {
            (Some(codes), None) => Amount::PerUser(u32::try_from(codes).unwrap_or(u32::MAX)),
            (None, Some(codes)) => Amount::Total(codes),
            (None, None) | (Some(_), Some(_)) => {
                fault("totalCodes", "or codesPerUser must be given, and not both".to_owned());
                Amount::Total(0)
            }
        };
        if !faults.is_empty() {
            return Err(Rejection::Invalid { faults });
        }
        Ok(Self { mode, amount, seed: seed.unwrap_or(drawn_seed & MAX_SEED), on_shortage })
    }

    /// How many codes these members can be given: what is asked for, within the rooms.
    pub fn needed(&self, rooms: &[u32]) -> u64 {
        let most = match self.amount {
            Amount::PerUser(codes) => codes,
            Amount::Total(_) => u32::MAX,
        };
        let all: u64 = rooms.iter().map(|room| u64::from(*room.min(&most))).sum();
        match self.amount {
            Amount::PerUser(_) => all,
            Amount::Total(total) => total.min(all),
        }
    }

    /// Divides `codes` among members with these rooms. A room is the number of codes that a member may still get.
    pub fn allocate(&self, rooms: &[u32], codes: u64) -> Allocation {
        let mut draw = Draw::new(self.seed);
        match (self.mode, self.amount) {
            (Mode::Random, _) => random(rooms, codes, &mut draw),
            (Mode::Equal, Amount::PerUser(most)) => {
                let given = equal(rooms, most, codes, &mut draw);
                Allocation { level: most, ..given }
            }
            (Mode::Equal, Amount::Total(total)) => {
                let given = equal(rooms, u32::MAX, codes, &mut draw);
                // If the rooms are too small for what is asked for, each limits its member.
                let level = if self.needed(rooms) < total { u32::MAX } else { given.level };
                Allocation { level, ..given }
            }
        }
    }
}

/// The number of codes for each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The numbers, in the order of the members.
    pub counts: Vec<u32>,
    /// A member that gets fewer codes than this, and all for which it has room, was limited by its room.
    pub level: u32,
}

impl Allocation {
    /// All codes.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }
}

/// Gives each member the same number of codes as far as its room and `most` allow. If that leaves codes over, the members that could
/// get one more are drawn.
fn equal(rooms: &[u32], most: u32, codes: u64, draw: &mut Draw) -> Allocation {
    let filled = |level: u32| rooms.iter().map(|room| u64::from(level.min(*room))).sum::<u64>();
    // The highest level that the codes reach for all members.
    let (mut level, mut above) =
        (0_u32, most.min(rooms.iter().copied().max().unwrap_or(0)).saturating_add(1));
    while above - level > 1 {
        let middle = level + (above - level) / 2;
        if filled(middle) <= codes { level = middle } else { above = middle }
    }
    let mut counts: Vec<u32> = rooms.iter().map(|room| level.min(*room)).collect();
    let mut open: Vec<usize> =
        if level < most { (0..rooms.len()).filter(|n| rooms[*n] > level).collect() } else { Vec::new() };
    let over = usize::try_from(codes - filled(level)).unwrap_or(usize::MAX).min(open.len());
    for drawn in 0..over {
        let other = drawn + draw.below(open.len() - drawn);
        open.swap(drawn, other);
        counts[open[drawn]] += 1;
    }
    Allocation { counts, level: if over > 0 { level + 1 } else { level } }
}

/// Gives each code to a member drawn uniformly from those that have room.
fn random(rooms: &[u32], codes: u64, draw: &mut Draw) -> Allocation {
    let mut counts = vec![0; rooms.len()];
    let mut eligible: Vec<usize> = (0..rooms.len()).filter(|n| rooms[*n] > 0).collect();
    for _ in 0..codes {
        if eligible.is_empty() {
            break;
        }
        let place = draw.below(eligible.len());
        let member = eligible[place];
        counts[member] += 1;
        if counts[member] == rooms[member] {
            eligible.swap_remove(place);
        }
    }
    Allocation { counts, level: u32::MAX }
}

/// Numbers from a seed: `SplitMix64` (Steele, Lea, Flood, 2014). It is written here because the numbers must never change.
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, each with the same probability: multiplication with rejection (Lemire, 2019).
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return usize::try_from(product >> 64).unwrap_or(0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
