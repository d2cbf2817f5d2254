//! The findings of `doctor`, and their output as text and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::client::plain;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Fault,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    /// What the operator should do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// All findings.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether there is no fault.
    ok: bool,
    version: &'static str,
    findings: Vec<Finding>,
}

impl Finding {
    pub(super) fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), fix: None }
    }

    /// It works, but may fail later or affects some users.
    pub(super) fn warning(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Warning, fix: Some(fix.into()), ..Self::good(check, detail) }
    }

    /// It prevents `up` from working.
    pub(super) fn fault(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Fault, fix: Some(fix.into()), ..Self::good(check, detail) }
    }
}

impl Report {
    pub(super) fn of(findings: Vec<Finding>) -> Self {
        let ok = findings.iter().all(|finding| finding.status != Status::Fault);
        Self { ok, version: env!("CARGO_PKG_VERSION"), findings }
    }

    pub(super) fn has_faults(&self) -> bool {
        !self.ok
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// One line for each finding, a second line for its fix, and a summary.
    pub(super) fn words(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
        let mut text = String::new();
        for (index, finding) in self.findings.iter().enumerate() {
            let mark = match finding.status {
                Status::Ok => '✓',
                Status::Warning => '!',
                Status::Fault => '✗',
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{mark} {:width$}  {}", finding.check, plain(&finding.detail));
            // Consecutive findings with the same fix print it once, after the last of them.
            let next = self.findings.get(index + 1).and_then(|next| next.fix.as_ref());
            if let Some(fix) = finding.fix.as_ref().filter(|fix| next != Some(fix)) {
                let _ = writeln!(text, "  {:width$}  → {}", "", plain(fix));
            }
        }
        let _ = writeln!(text, "\n{}", self.sum());
        text
    }

    fn sum(&self) -> String {
        let count = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let of = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        match (count(Status::Fault), count(Status::Warning)) {
            (0, 0) => "No problems found.".to_owned(),
            (0, warnings) => format!("No faults; {}.", of(warnings, "warning")),
            (faults, warnings) => format!("{}, {}.", of(faults, "fault"), of(warnings, "warning")),
        }
    }
}
