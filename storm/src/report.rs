//! What a run did and found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::history::Entry;
use crate::installation::Size;

/// How many violations of an oracle are shown.
const MOST_SHOWN: usize = 3;

/// A run of one seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Each size that was stormed.
    pub sizes: Vec<SizeReport>,
    /// How long it took, from the first start to the last end.
    pub took: Duration,
}

/// One size of a run.
#[derive(Debug)]
pub struct SizeReport {
    pub(crate) size: Size,
    pub(crate) operations: BTreeMap<&'static str, Outcomes>,
    pub(crate) refusals: BTreeMap<String, usize>,
    pub(crate) faults: Vec<(Duration, &'static str)>,
    pub(crate) findings: Vec<Finding>,
    /// The phases, and when each ended.
    pub(crate) phases: Vec<(&'static str, Duration)>,
    /// From how many statements the guard of a bug was taken out.
    pub(crate) taken_out: usize,
    /// The logs of the programs, if there are violations.
    pub(crate) logs: Vec<(String, String)>,
}

/// What became of the attempts of an operation.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    done: usize,
    refused: usize,
    unanswered: usize,
}

/// What an oracle found.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) oracle: &'static str,
    pub(crate) checks: usize,
    pub(crate) violations: Vec<String>,
}

impl Report {
    /// The first oracle that found a violation; none if all is well.
    pub fn caught_by(&self) -> Option<&'static str> {
        let findings = self.sizes.iter().flat_map(|size| &size.findings);
        findings.filter(|finding| !finding.violations.is_empty()).map(|finding| finding.oracle).next()
    }

    /// The logs of the programs of sizes with violations, by program.
    pub fn logs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sizes.iter().flat_map(|size| &size.logs).map(|(name, log)| (name.as_str(), log.as_str()))
    }

    /// From how many statements the guard of the bug was taken out.
    pub fn taken_out(&self) -> usize {
        self.sizes.iter().map(|size| size.taken_out).sum()
    }
}

impl SizeReport {
    pub(crate) fn operations_of(history: &[Entry]) -> BTreeMap<&'static str, Outcomes> {
        let mut operations: BTreeMap<&str, Outcomes> = BTreeMap::new();
        for entry in history {
            let outcomes = operations.entry(entry.operation.name).or_default();
            match entry.verdict() {
                Some(answer) if answer.is_success() => outcomes.done += 1,
                Some(_) => outcomes.refused += 1,
                None => outcomes.unanswered += 1,
            }
        }
        operations
    }

    /// How often each refusal was answered, and how often no answer came.
    pub(crate) fn refusals_of(history: &[Entry]) -> BTreeMap<String, usize> {
        let mut refusals = BTreeMap::new();
        for entry in history {
            let refusal = match &entry.answer {
                Some(answer) if answer.is_success() => continue,
                Some(answer) => format!("{} {}", answer.status, answer.code()),
                None => "no answer".to_owned(),
            };
            *refusals.entry(refusal).or_default() += 1;
        }
        refusals
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for size in &self.sizes {
            write!(f, "{size}")?;
        }
        let verdict = if self.caught_by().is_some() { "VIOLATED" } else { "ok" };
        write!(f, "seed {}: {verdict}, {:.1} s", self.seed, self.took.as_secs_f64())
    }
}

impl fmt::Display for SizeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.size.name())?;
        let all: usize = self.operations.values().map(|of| of.done + of.refused + of.unanswered).sum();
        writeln!(f, "  operations: {all} attempts (done/refused/unanswered)")?;
        let operations = self.operations.iter();
        let operations =
            operations.map(|(name, of)| format!("{name} {}/{}/{}", of.done, of.refused, of.unanswered));
        writeln!(f, "    {}", operations.collect::<Vec<_>>().join(", "))?;
        let refusals = self.refusals.iter().map(|(refusal, count)| format!("{refusal} {count}"));
        writeln!(f, "  refusals: {}", refusals.collect::<Vec<_>>().join(", "))?;
        let faults = self.faults.iter();
        let faults = faults.map(|(after, name)| format!("{name} at {:.1} s", after.as_secs_f64()));
        writeln!(f, "  faults: {}", faults.collect::<Vec<_>>().join(", "))?;
        let phases = self.phases.iter();
        let phases = phases.map(|(name, ended)| format!("{name} {:.1} s", ended.as_secs_f64()));
        writeln!(f, "  ended:  {}", phases.collect::<Vec<_>>().join(", "))?;
        let checks = self.findings.iter();
        let checks = checks.map(|finding| format!("{} {}", finding.oracle, finding.checks));
        writeln!(f, "  checks: {}", checks.collect::<Vec<_>>().join(", "))?;
        for Finding { oracle, violations, .. } in &self.findings {
            for violation in violations.iter().take(MOST_SHOWN) {
                writeln!(f, "  {oracle}: {violation}")?;
            }
            if violations.len() > MOST_SHOWN {
                writeln!(f, "  {oracle}: {} more", violations.len() - MOST_SHOWN)?;
            }
        }
        Ok(())
    }
}
