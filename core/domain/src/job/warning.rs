//! Warnings for the owner of a job that is executed nevertheless.

use serde::{Deserialize, Serialize};

use crate::coupon::pattern::{FEWEST_GUESSES, Pattern};

/// A warning. It is stored with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobWarning {
    /// A stable code.
    pub code: String,
    /// An explanation, with a remedy.
    pub detail: String,
}

impl JobWarning {
    /// The warning `guessable_codes`, if `live` codes of this pattern make guessing feasible.
    pub fn if_guessable(pattern: &Pattern, live: u64) -> Option<Self> {
        let live = u128::from(live);
        pattern.is_guessable(live).then(|| Self {
            code: "guessable_codes".into(),
            detail: format!(
                "about one guess in {} at {pattern} hits a live code (a chance of {:.2e}); above one in {FEWEST_GUESSES}, \
                 codes can be found by guessing: use a longer pattern, for example with {} more X",
                pattern.capacity() / live.max(1),
                pattern.chance_of_a_hit(live),
                pattern.symbols_missing(live),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(pattern: &str, live: u64) -> Option<JobWarning> {
        JobWarning::if_guessable(&Pattern::parse(pattern).unwrap(), live)
    }

    #[test]
    fn the_warning_states_the_chance_and_the_fix() {
        let warning = warning("s-{9999}", 500).unwrap();
        assert_eq!(warning.code, "guessable_codes");
        assert!(warning.detail.contains("one guess in 20 at S-{9999}"), "{}", warning.detail);
        assert!(warning.detail.contains("a chance of 5.00e-2"), "{}", warning.detail);
        assert!(warning.detail.contains("4 more X"), "{}", warning.detail);
    }

    #[test]
    fn one_in_a_million_is_not_warned_of_and_the_next_code_is() {
        assert_eq!(warning("{999999}", 1), None);
        assert!(warning("{999999}", 2).is_some());
        assert_eq!(warning("{9999999999}", 10_000), None);
        assert!(warning("{9999999999}", 10_001).is_some());
    }

    #[test]
    fn the_fix_is_just_long_enough() {
        for (pattern, live) in [("{999999}", 2), ("{9999}", 500), ("S-{XXXX}", 31), ("WELCOME", 1)] {
            let missing = Pattern::parse(pattern).unwrap().symbols_missing(live.into());
            let longer = |more: u32| format!("{pattern}{{{}}}", "X".repeat(usize::try_from(more).unwrap()));
            assert_eq!(warning(&longer(missing), live), None, "{pattern} and {missing} X");
            if missing > 1 {
                assert!(
                    warning(&longer(missing - 1), live).is_some(),
                    "{pattern} and one X less than {missing}"
                );
            }
        }
    }

    #[test]
    fn the_largest_spaces_are_reckoned_with() {
        let largest = format!("{{{}}}", "X".repeat(25));
        assert_eq!(warning(&largest, u64::MAX), None);
        assert!(Pattern::parse(&largest).unwrap().is_guessable(u128::MAX));
    }
}
