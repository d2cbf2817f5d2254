//! The report of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::history::Entry;
use crate::size::Size;

/// Maximum number of violations printed for an oracle.
const MAX_SHOWN: usize = 3;

/// The report of one seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The report of each size.
    pub sizes: Vec<SizeReport>,
    /// Duration from the first start to the last stop.
    pub took: Duration,
}

/// The report of one size.
#[derive(Debug)]
pub struct SizeReport {
    pub(crate) size: Size,
    pub(crate) operations: BTreeMap<&'static str, Outcomes>,
    pub(crate) refusals: BTreeMap<String, usize>,
    pub(crate) faults: Vec<(Duration, &'static str)>,
    pub(crate) findings: Vec<Finding>,
    /// The phases with their end times.
    pub(crate) phases: Vec<(&'static str, Duration)>,
    /// Number of statements from which the guard of a bug was removed.
    pub(crate) edited_statements: usize,
    /// The logs of the programs, if there are violations.
    pub(crate) logs: Vec<(String, String)>,
}

/// The outcomes of an operation's attempts.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    done: usize,
    rejected: usize,
    unanswered: usize,
}

/// The violations found by an oracle.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) oracle: &'static str,
    pub(crate) checks: usize,
    pub(crate) violations: Vec<String>,
}

impl Report {
    /// The first oracle that found a violation, if any.
    pub fn caught_by(&self) -> Option<&'static str> {
        let findings = self.sizes.iter().flat_map(|size| &size.findings);
        findings.filter(|finding| !finding.violations.is_empty()).map(|finding| finding.oracle).next()
    }

    /// The logs of the programs, for sizes with violations.
    pub fn logs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sizes.iter().flat_map(|size| &size.logs).map(|(name, log)| (name.as_str(), log.as_str()))
    }

    /// Number of statements from which the guard of the bug was removed.
    pub fn edited_statements(&self) -> usize {
        self.sizes.iter().map(|size| size.edited_statements).sum()
    }
}

impl SizeReport {
    pub(crate) fn operations_of(history: &[Entry]) -> BTreeMap<&'static str, Outcomes> {
        let mut operations: BTreeMap<&str, Outcomes> = BTreeMap::new();
        for entry in history {
            let outcomes = operations.entry(entry.operation.name).or_default();
            match entry.verdict() {
                Some(answer) if answer.is_success() => outcomes.done += 1,
                Some(_) => outcomes.rejected += 1,
                None => outcomes.unanswered += 1,
            }
        }
        operations
    }

    /// Counts the rejections by status and code, and the unanswered requests.
    pub(crate) fn refusals_of(history: &[Entry]) -> BTreeMap<String, usize> {
        let mut refusals = BTreeMap::new();
        for entry in history {
            let rejection = match &entry.answer {
                Some(answer) if answer.is_success() => continue,
                Some(answer) => format!("{} {}", answer.status, answer.code()),
                None => "no answer".to_owned(),
            };
            *refusals.entry(rejection).or_default() += 1;
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
        let all: usize = self.operations.values().map(|of| of.done + of.rejected + of.unanswered).sum();
        writeln!(f, "  operations: {all} attempts (done/refused/unanswered)")?;
        let operations = self.operations.iter();
        let operations =
            operations.map(|(name, of)| format!("{name} {}/{}/{}", of.done, of.rejected, of.unanswered));
        writeln!(f, "    {}", operations.collect::<Vec<_>>().join(", "))?;
        let refusals = self.refusals.iter().map(|(rejection, count)| format!("{rejection} {count}"));
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
            for violation in violations.iter().take(MAX_SHOWN) {
                writeln!(f, "  {oracle}: {violation}")?;
            }
            if violations.len() > MAX_SHOWN {
                writeln!(f, "  {oracle}: {} more", violations.len() - MAX_SHOWN)?;
            }
        }
        Ok(())
    }
}
