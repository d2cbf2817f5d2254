//! How a verb ends when it does not end well: what is said on standard error, and the exit status.

use std::process::ExitCode;

use serde::Deserialize;

use super::show::plain;

/// Why a verb did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Something on this side.
    Here(String),
    /// The server said no.
    Refused(Box<Refused>),
    /// The server does not answer, or not now.
    Away(String),
    /// The job ended without success.
    JobEnded(String),
    /// The user stopped it.
    Interrupted(String),
    /// Nobody reads what is printed any more, as under `| head`: no fault at all.
    Unread,
}

/// A 4xx of the server.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// The server's document, if it is one.
    pub(crate) document: Option<String>,
    pub(crate) code: String,
    message: String,
}

/// The server's problem document (RFC 9457), as far as people need it.
#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<FieldFault>,
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
struct FieldFault {
    field: String,
    message: String,
}

impl Fault {
    /// Says what has to be said, and gives the exit status.
    pub(crate) fn report(self) -> ExitCode {
        let (code, message) = match self {
            Self::Unread => return ExitCode::SUCCESS,
            Self::Here(message) => (1, message),
            Self::Refused(refused) => (3, refused.message),
            Self::Away(message) => (4, message),
            Self::JobEnded(message) => (5, message),
            Self::Interrupted(message) => (130, message),
        };
        super::say::complain(&message);
        ExitCode::from(code)
    }

    /// Whether the server refused with this code.
    pub(crate) fn is_refusal(&self, code: &str) -> bool {
        matches!(self, Self::Refused(refused) if refused.code == code)
    }

    /// A refusal that is found out here, in the server's words.
    pub(crate) fn not_found(message: String) -> Self {
        let code = "not_found".to_owned();
        Self::Refused(Box::new(Refused { status: 404, document: None, code, message }))
    }
}

impl Refused {
    /// What an answer with such a status says.
    pub(crate) fn read(status: u16, text: String, url: &str) -> Self {
        if let Ok(problem) = serde_json::from_str::<Problem>(&text) {
            let message = problem.message(status);
            return Self { status, document: Some(text), code: problem.code, message };
        }
        let message =
            format!("{url} answers {status} and does not say why: is there a Cuponera under this URL?");
        Self { status, document: None, code: String::new(), message }
    }
}

impl Problem {
    /// The detail; without the faults of fields if those have lines of their own.
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
            lines.push("  Here: --header true|false, --code-column, --user-column, --delimiter".to_owned());
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
