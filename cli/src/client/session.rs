//! Logging in and out, and who we are.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::exchange::Request;
use super::fault::ClientError;
use super::login::{Logins, Session};
use super::print::{note, print, print_error};
use super::show::{plain, text};
use super::{Client, RunCommand};

pub(super) const LOGIN_HELP: &str = help!(
    "Examples:
  cuponera login --email admin@example.com
  cuponera login --email admin@example.com --password-stdin < password.txt
  cuponera login --email admin@example.com --business 01939f2a-0000-7000-8000-000000000001

The login is kept in ~/.config/cuponera/login.json (or below XDG_CONFIG_HOME), one for each server, readable by
its owner alone. For programs, make an API key instead and set CUPONERA_API_KEY."
);

/// Logs in.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Asked for on a terminal if absent
    #[arg(long)]
    email: Option<String>,
    /// Read the password from standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
    /// The business to log in to, by its id; needed if the account belongs to several
    #[arg(long, value_name = "ID")]
    business: Option<Uuid>,
}

/// Logs out.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// End all logins of the account, on other machines too
    #[arg(long)]
    everywhere: bool,
}

/// Says who we are.
#[derive(Debug, Args)]
pub(crate) struct Whoami {}

impl RunCommand for Login {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let (address, logins) = (client.server.address(), Logins::find()?);
        if address.is_open_to_others() {
            print_error(
                "careful: the password goes over the network without encryption; use https:// if you can",
            );
        }
        let email = match self.email {
            Some(email) => email,
            None if self.password_stdin => {
                return Err(ClientError::Local(
                    "name the account with --email when the password comes from standard input".to_owned(),
                ));
            }
            None => run_blocking(ask_email).await?,
        };
        let email = cuponera_domain::text::trim(&email);
        let password = run_blocking(if self.password_stdin { read_password } else { ask_password }).await?;
        let mut body = json!({"email": email, "password": password.expose_secret()});
        if let Some(business) = self.business {
            body["businessId"] = json!(business);
        }
        let session: Session = client.ask(Request::post(&["auth", "login"], body)).await?.read_as()?;
        logins.lock().await?.keep(address.as_str(), Some(session.of(email)))?;
        if client.server.logins().is_none() {
            print_error("careful: CUPONERA_API_KEY (or --api-key) is set and goes before this login");
        }
        let me = client.ask(Request::get(&["auth", "me"])).await?;
        client.show(&me, |me| format!("Logged in. {}", who(me, address.as_str())))
    }
}

impl RunCommand for Logout {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let url = client.server.address().as_str();
        let Some(logins) = client.server.logins() else {
            return Err(ClientError::Local(
                "there is an API key, which cannot be logged out: unset CUPONERA_API_KEY".to_owned(),
            ));
        };
        let ended = end(client, self.everywhere).await;
        // Whatever the server says, this machine forgets it.
        logins.lock().await?.keep(url, None)?;
        match ended {
            // It had ended before.
            Err(ClientError::Rejected(rejected)) if rejected.status == 401 => {}
            Err(ClientError::Unavailable(message)) => {
                return Err(ClientError::Unavailable(format!(
                    "{message}\n  The login is forgotten here, but its server was not told."
                )));
            }
            other => other?,
        }
        if client.json { Ok(()) } else { print(&format!("Logged out of {url}.")) }
    }
}

/// Tells the server.
async fn end(client: &Client, everywhere: bool) -> Result<(), ClientError> {
    let Some(login) = client.server.token().await? else { return Ok(()) };
    let body =
        if everywhere { json!({"everywhere": true}) } else { json!({"refreshToken": login.refresh_token}) };
    client.server.send(Request::post(&["auth", "logout"], body)).await.map(drop)
}

impl RunCommand for Whoami {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let me = client.ask(Request::get(&["auth", "me"])).await?;
        client.show(&me, |me| who(me, client.server.address().as_str()))
    }
}

fn who(me: &Value, url: &str) -> String {
    let name = match (me["email"].as_str(), me["userId"].as_str()) {
        (Some(email), Some(user)) => format!("{} ({})", plain(email), plain(user)),
        (Some(email), None) => plain(email),
        (None, _) => format!("API key {}", text(me, "/id")),
    };
    format!("{name} is {} of business {} at {url}", text(me, "/role"), text(me, "/businessId"))
}

/// Runs what waits for the user on a thread of its own, so that Ctrl-C is heard.
async fn run_blocking<T: Send + 'static>(ask: fn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    tokio::task::spawn_blocking(ask).await.map_err(|error| ClientError::Local(error.to_string()))?
}

fn ask_email() -> Result<String, ClientError> {
    if !std::io::stdin().is_terminal() {
        return Err(ClientError::Local("name the account with --email".to_owned()));
    }
    let _ = write!(std::io::stderr(), "Email: ");
    read_line()
}

fn ask_password() -> Result<SecretString, ClientError> {
    let asked = rpassword::prompt_password("Password: ");
    asked.map(SecretString::from).map_err(|error| {
        ClientError::Local(format!(
            "there is no terminal to ask for the password on ({error}): use --password-stdin"
        ))
    })
}

fn read_password() -> Result<SecretString, ClientError> {
    if std::io::stdin().is_terminal() {
        note("Reading the password from standard input; it will be seen.");
    }
    let line = read_line()?;
    if line.is_empty() {
        return Err(ClientError::Local("standard input has no password".to_owned()));
    }
    Ok(line.into())
}

/// A line without its end.
fn read_line() -> Result<String, ClientError> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| ClientError::Local(format!("standard input cannot be read: {error}")))?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}
