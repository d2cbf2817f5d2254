//! The errors of subcommands: the message on standard error, and the exit status.

use std::process::ExitCode;

use serde::Deserialize;

use super::show::plain;

/// Why a subcommand failed.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// A local error.
    Local(String),
    /// The server rejected the request.
    Rejected(Box<Rejected>),
    /// The server is unreachable or unavailable.
    Unavailable(String),
    /// The job failed or was cancelled.
    JobEnded(String),
    /// The user interrupted it.
    Interrupted(String),
    /// The reader closed the pipe, such as `| head`: not an error.
    OutputClosed,
}

/// A 4xx answer.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) status: u16,
    /// The body, if it is a problem document.
    pub(crate) document: Option<String>,
    pub(crate) code: String,
    message: String,
}

/// The fields of a problem document (RFC 9457) that are printed.
#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
    /// With `unclear_header`: the record that may be a header.
    #[serde(default, rename = "firstRecord")]
    first_record: Vec<String>,
    /// With `choose_business`: the businesses of the account.
    #[serde(default)]
    businesses: Vec<Membership>,
}

#[derive(Debug, Deserialize)]
struct Membership {
    id: String,
    name: String,
    role: String,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    field: String,
    message: String,
}

impl ClientError {
    /// Prints the message and returns the exit status.
    pub(crate) fn report(self) -> ExitCode {
        let (code, message) = match self {
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::Local(message) => (1, message),
            Self::Rejected(rejected) => (3, rejected.message),
            Self::Unavailable(message) => (4, message),
            Self::JobEnded(message) => (5, message),
            Self::Interrupted(message) => (130, message),
        };
        super::print::print_error(&message);
        ExitCode::from(code)
    }

    /// Whether the server rejected the request with this code.
    pub(crate) fn is_refusal(&self, code: &str) -> bool {
        matches!(self, Self::Rejected(rejected) if rejected.code == code)
    }

    /// A 404 that is detected by the client.
    pub(crate) fn not_found(message: String) -> Self {
        let code = "not_found".to_owned();
        Self::Rejected(Box::new(Rejected { status: 404, document: None, code, message }))
    }
}

impl Rejected {
    /// Reads a 4xx answer.
    pub(crate) fn read(status: u16, text: String, url: &str) -> Self {
        if let Ok(problem) = serde_json::from_str::<Problem>(&text) {
            let message = problem.message(status);
            return Self { status, document: Some(text), code: problem.code, message };
        }
        let message =
            format!("{url} answers {status} without a reason: is this the URL of a Cuponera server?");
        Self { status, document: None, code: String::new(), message }
    }
}

impl Problem {
    /// The detail, without the field errors, which are printed on separate lines.
    fn headline(&self) -> &str {
        match self.errors.first() {
            Some(fault) if self.detail.contains(&fault.message) => {
                self.detail.split(": ").next().unwrap_or_default()
            }
            _ => &self.detail,
        }
    }

    fn message(&self, status: u16) -> String {
        let mut lines = vec![format!("{} ({}, {status})", plain(self.headline()), plain(&self.code))];
        for fault in &self.errors {
            lines.push(format!("  {}: {}", plain(&fault.field), plain(&fault.message)));
        }
        if self.code == "unclear_header" {
            let cells: Vec<String> =
                self.first_record.iter().map(|cell| format!("{:?}", plain(cell))).collect();
            lines.push(format!("  Read as: {}", cells.join(" | ")));
            lines
                .push("  Options: --header true|false, --code-column, --user-column, --delimiter".to_owned());
        }
        if self.code == "choose_business" {
            for Membership { id, name, role } in &self.businesses {
                lines.push(format!("  {}  {}, {}", plain(id), plain(name), plain(role)));
            }
            lines.push("  Here: cuponera login --business ID".to_owned());
        }
        if self.code == "unauthorized" {
            lines.push("  Log in with `cuponera login`, or check CUPONERA_API_KEY.".to_owned());
        }
        lines.join("\n")
    }
}
