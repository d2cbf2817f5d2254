//! `cuponera admin`: creates businesses and admins and resets passwords, also while `cuponera up` runs on the data
//! folder.
//!
//! It changes only the database. A running API accepts an admin's access token for up to five more seconds.

use std::fmt::Write;
use std::io::{Read, Write as _};

use clap::{Args, Subcommand};
use cuponera_domain::id::BusinessId;
use cuponera_domain::principal::{AuditContext, RoleName, parse_email};
use cuponera_platform::config::Settings;
use cuponera_platform::credential::{Argon2Hasher, check_password};
use cuponera_platform::lifecycle;
use cuponera_store::{Business, NewAccount, Pools, Store};
use cuponera_store::{Error, Result};

use crate::database::Database;
use crate::secrets;
use crate::up::LAST_WORDS;

/// One connection for reads, one for a transaction.
const POOLS: Pools = Pools { rest: 2, ..Pools::MIN };
/// The limit of the schema.
const MAX_NAME_CHARS: usize = 200;

/// The subcommands of `admin`.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Create a business with its first admin. An existing account with this email becomes its admin and keeps its password.
    // The flag is the one that names the first admin of `up`, but is required here.
    #[command(mut_arg("admin_email", |flag| flag
        .required(true)
        .default_value(None::<&'static str>)
        .env(None::<&'static str>)
        .help("The admin's email")))]
    CreateBusiness {
        /// The business's name.
        name: String,
        /// Do nothing if a business exists: for set-up scripts that run repeatedly.
        #[arg(long)]
        if_none: bool,
        #[command(flatten)]
        password: PasswordFrom,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Create another admin of a business. An account with this email in another business also becomes a member of this one and
    /// keeps its password.
    CreateAdmin {
        /// The business, by its id or its name.
        #[arg(long, value_name = "ID|NAME")]
        business: String,
        /// The admin's email.
        #[arg(long)]
        email: String,
        #[command(flatten)]
        password: PasswordFrom,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Set a new password for an account, and end all its logins.
    ResetPassword {
        /// The account's email.
        email: String,
        #[command(flatten)]
        password: PasswordFrom,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// List the businesses and their enabled admins.
    ListBusinesses {
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

/// The source of a password.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from standard input. If absent, a password is generated and printed once.
    #[arg(long)]
    password_stdin: bool,
}

impl AdminVerb {
    pub(crate) fn settings(&self) -> &Settings {
        match self {
            Self::CreateBusiness { settings, .. }
            | Self::CreateAdmin { settings, .. }
            | Self::ResetPassword { settings, .. }
            | Self::ListBusinesses { settings } => settings,
        }
    }
}

/// Runs the subcommand and prints its result.
pub(crate) async fn admin(settings: Settings, verb: AdminVerb) -> Result<(), String> {
    let task = Task::of(&verb)?;
    if settings.database_url.is_none() {
        secrets::open_data_folder(&settings.data_dir)?;
    }
    let work = Box::pin(async {
        let database = Database::open_or_join(&settings).await?;
        let store = database.connect_with_schema(POOLS).await?.acting_as(AuditContext::of_program("cli"));
        // Before the first change: its admin event needs a position after those of a restored database.
        store.begin_epoch_if_restored().await.map_err(error_text)?;
        let done = task.run(&store).await;
        store.close().await;
        // Printed before the server is stopped, so that an error there does not hide a password that is now valid.
        let done = done.map(|text| drop(std::io::stdout().write_all(text.as_bytes())));
        let closed = database.close().await;
        done.and(closed)
    });
    lifecycle::unless_stopped(LAST_WORDS, work).await
}

/// A subcommand, validated as far as possible without the database.
enum Task {
    CreateBusiness { name: String, email: String, password: NewPassword },
    CreateFirstBusiness { name: String, email: String, password: NewPassword },
    CreateAdmin { business: String, email: String, password: NewPassword },
    ResetPassword { email: String, password: NewPassword },
    ListBusinesses,
}

impl Task {
    fn of(verb: &AdminVerb) -> Result<Self, String> {
        match verb {
            AdminVerb::CreateBusiness { name, if_none, password, settings } => {
                let (name, email) =
                    (checked_name(name)?, checked_email("--admin-email", &settings.admin_email)?);
                let password = NewPassword::get(*password, &email)?;
                Ok(if *if_none {
                    Self::CreateFirstBusiness { name, email, password }
                } else {
                    Self::CreateBusiness { name, email, password }
                })
            }
            AdminVerb::CreateAdmin { business, email, password, .. } => {
                let email = checked_email("--email", email)?;
                let password = NewPassword::get(*password, &email)?;
                Ok(Self::CreateAdmin { business: business.trim().to_owned(), email, password })
            }
            AdminVerb::ResetPassword { email, password, .. } => {
                let email = checked_email("EMAIL", email)?;
                let password = NewPassword::get(*password, &email)?;
                Ok(Self::ResetPassword { email, password })
            }
            AdminVerb::ListBusinesses { .. } => Ok(Self::ListBusinesses),
        }
    }

    async fn run(self, store: &Store) -> Result<String, String> {
        match self {
            Self::CreateBusiness { name, email, password } => {
                create_business(store, &name, &email, &password).await
            }
            Self::CreateFirstBusiness { name, email, password } => {
                create_first_business(store, &name, &email, &password).await
            }
            Self::CreateAdmin { business, email, password } => {
                create_admin(store, &business, email, &password).await
            }
            Self::ResetPassword { email, password } => reset_password(store, &email, &password).await,
            Self::ListBusinesses => list_businesses(store).await,
        }
    }
}

async fn create_business(
    store: &Store,
    name: &str,
    email: &str,
    password: &NewPassword,
) -> Result<String, String> {
    if let Some(same) = store.list_businesses(Some(name)).await.map_err(error_text)?.first() {
        return Err(format!(
            "a business named {} exists already, with id {}: choose another name",
            same.name, same.id
        ));
    }
    let shown = password.shown_for(store, email).await?;
    let hash = password.hash().await?;
    let made = store.create_business_with_admin(name, email, &hash).await;
    let id = made.map_err(|error| format!("{email}: {}", error_text(error)))?;
    Ok(format!("  Business   {id}  {name}\n  Admin      {email}\n{shown}"))
}

async fn create_first_business(
    store: &Store,
    name: &str,
    email: &str,
    password: &NewPassword,
) -> Result<String, String> {
    let hash = password.hash().await?;
    if store.create_first_business_if_none(name, email, &hash).await.map_err(error_text)? {
        return Ok(format!("  Business   {name}\n  Admin      {email}\n{}", password.shown()));
    }
    Ok("  A business exists already: nothing was created\n".to_owned())
}

async fn create_admin(
    store: &Store,
    business: &str,
    email: String,
    password: &NewPassword,
) -> Result<String, String> {
    let found = find_business(store, business).await?;
    let shown = password.shown_for(store, &email).await?;
    let new = NewAccount {
        business: BusinessId(found.id),
        email: email.clone(),
        password_hash: password.hash().await?,
        role: RoleName::Admin,
        user_id: None,
    };
    let made = store.create_account(None, &new).await.map_err(error_text)?;
    made.outcome.map_err(|rejection| format!("{email}: {rejection}"))?;
    Ok(format!("  Business   {}  {}\n  Admin      {email}\n{shown}", found.id, found.name))
}

pub(crate) async fn find_business(store: &Store, id_or_name: &str) -> Result<Business, String> {
    let mut found = store.list_businesses(Some(id_or_name)).await.map_err(error_text)?;
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(format!("--business {id_or_name}: not found; see `cuponera admin list-businesses`")),
        (Some(_), more) => {
            Err(format!("--business {id_or_name}: {} businesses have that name; use the id", more + 1))
        }
    }
}

async fn reset_password(store: &Store, email: &str, password: &NewPassword) -> Result<String, String> {
    let reset = store.reset_password(email, &password.hash().await?).await;
    let account = reset.map_err(|error| format!("{email}: {}", error_text(error)))?;
    let mut text = format!("  Account    {}  {}\n{}", account.email, account.role.as_str(), password.shown());
    text.push_str("  All its logins have ended\n");
    if account.is_disabled {
        text.push_str("  It is disabled: an admin must enable it before it can log in\n");
    }
    Ok(text)
}

async fn list_businesses(store: &Store) -> Result<String, String> {
    let businesses = store.list_businesses(None).await.map_err(error_text)?;
    let mut text = format!("{:<36}  {:<10}  {}\n", "ID", "CREATED", "NAME, ADMINS");
    for Business { id, name, created_at, admins } in businesses {
        let created = created_at.format("%Y-%m-%d");
        let _ = writeln!(text, "{id}  {created}  {name}, {}", admins.join(" "));
    }
    Ok(text)
}

/// A valid password.
struct NewPassword {
    text: secrecy::SecretString,
    is_made_up: bool,
}

impl NewPassword {
    fn get(from: PasswordFrom, email: &str) -> Result<Self, String> {
        if !from.password_stdin {
            return Ok(Self { text: secrets::password()?.into(), is_made_up: true });
        }
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
        // The line end that `echo` adds is not part of the password.
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        check_password(text, Some(email)).map_err(|fault| format!("the password {fault}"))?;
        if text.contains(char::is_control) {
            return Err("the password must be on one line, without control characters".to_owned());
        }
        Ok(Self { text: text.into(), is_made_up: false })
    }

    async fn hash(&self) -> Result<String, String> {
        Argon2Hasher::new().map_err(error_text)?.hash(self.text.clone()).await.map_err(error_text)
    }

    /// The line to print about the password, before the account is created. An existing account keeps its password.
    async fn shown_for(&self, store: &Store, email: &str) -> Result<String, String> {
        match store.find_credential(email).await.map_err(error_text)? {
            Some(_) => {
                Ok("  Password   unchanged: the account also belongs to another business\n".to_owned())
            }
            None => Ok(self.shown()),
        }
    }

    fn shown(&self) -> String {
        let text = secrecy::ExposeSecret::expose_secret(&self.text);
        if self.is_made_up {
            format!("  Password   {text}   (shown only once: keep it)\n")
        } else {
            "  Password   as read from standard input\n".to_owned()
        }
    }
}

fn checked_name(name: &str) -> Result<String, String> {
    let name = name.trim();
    if (1..=MAX_NAME_CHARS).contains(&name.chars().count()) && !name.contains(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(format!("NAME: must have 1 to {MAX_NAME_CHARS} characters on one line"))
    }
}

fn checked_email(flag: &str, email: &str) -> Result<String, String> {
    parse_email(email).map(str::to_owned).map_err(|fault| format!("{flag}: {fault}"))
}

/// The message of an error: a rejection as it is, other errors with their causes.
pub(crate) fn error_text(error: Error) -> String {
    match error {
        Error::Rejected(rejection) => rejection.to_string(),
        fault => fault.chain(),
    }
}
