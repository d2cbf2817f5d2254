//! Findings, and how they are printed.

use std::fmt::Write;

use serde::Serialize;

use crate::client::plain;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether nothing stands in the way.
    ok: bool,
    version: &'static str,
    findings: Vec<Finding>,
}

impl Finding {
    pub(super) fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), fix: None }
    }

    /// It works, but not for long or not for all.
    pub(super) fn warning(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Warning, fix: Some(fix.into()), ..Self::good(check, detail) }
    }

    /// It stands in the way.
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

    /// A line each, a second one for what to do, and the sum of it.
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
            // Said once, after the last that it is good for.
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
            (0, 0) => "All is well.".to_owned(),
            (0, warnings) => format!("Nothing stands in the way; {}.", of(warnings, "warning")),
            (faults, warnings) => format!("{}, {}.", of(faults, "fault"), of(warnings, "warning")),
        }
    }
}
