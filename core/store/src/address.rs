//! The URL of a database. Omitted parts have fixed defaults; `~/.pgpass` and the operating system user have no effect.
//!
//! sqlx also reads omitted parts from `PG*` variables. Most are overridden here. `PGOPTIONS`, `PGSSLCERT` and
//! `PGSSLKEY` cannot be, so `lifecycle::prepare` of the platform removes all of them from the environment.

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

const HOST: &str = "localhost";
const PORT: u16 = 5432;

/// Why a text is not a database URL. The message does not quote the text, which may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL, or a URL with another scheme.
    #[error("must be a URL such as postgres://user:password@host:5432/database")]
    NotAUrl,
    /// The user has no default. The default of libpq is the operating system user.
    #[error("must name a user, as in postgres://user:password@host:5432/database")]
    NoUser,
    /// The host, port, `sslmode` or `hostaddr` is invalid.
    #[error("has an invalid part: {0}")]
    Part(String),
}

/// The options of a connection to the database with this URL.
///
/// Defaults: host `localhost`, port 5432, no password, a database with the name of the user, `sslmode=prefer`.
pub fn connect_options(url: &str) -> Result<PgConnectOptions, AddressError> {
    let mut url = Url::parse(url).map_err(|_| AddressError::NotAUrl)?;
    if !["postgres", "postgresql"].contains(&url.scheme()) {
        return Err(AddressError::NotAUrl);
    }
    if url.username().is_empty() && !has(&url, &["user"]) {
        return Err(AddressError::NoUser);
    }
    if url.password().is_none() && !has(&url, &["password"]) {
        // Without a password sqlx reads ~/.pgpass. An empty password is sent only if the server asks for one.
        url.query_pairs_mut().append_pair("password", "");
    }
    let options = PgConnectOptions::from_url(&url).map_err(|error| AddressError::Part(error_text(error)))?;
    Ok(complete(options, &url))
}

/// Sets the omitted parts.
fn complete(mut options: PgConnectOptions, url: &Url) -> PgConnectOptions {
    if url.host_str().is_none_or(str::is_empty) && !has(url, &["host", "hostaddr"]) {
        options = options.host(HOST);
    }
    if url.port().is_none() && !has(url, &["port"]) {
        options = options.port(PORT);
    }
    if url.path().trim_start_matches('/').is_empty() && !has(url, &["dbname"]) {
        let user = options.get_username().to_owned();
        options = options.database(&user);
    }
    if !has(url, &["sslmode", "ssl-mode"]) {
        options = options.ssl_mode(PgSslMode::Prefer);
    }
    options
}

/// Whether the URL has one of these parameters.
fn has(url: &Url, names: &[&str]) -> bool {
    url.query_pairs().any(|(name, value)| names.contains(&&*name) && !value.is_empty())
}

fn error_text(error: sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, u16, String, String) {
        let options = connect_options(url).unwrap();
        let database = options.get_database().unwrap_or_default().to_owned();
        (options.get_host().to_owned(), options.get_port(), options.get_username().to_owned(), database)
    }

    #[test]
    fn what_a_url_says_is_taken() {
        let whole = ("db.shop".to_owned(), 6432, "ana".to_owned(), "shop".to_owned());
        assert_eq!(parts("postgres://ana:secret@db.shop:6432/shop"), whole);
        assert_eq!(parts("postgresql:///?host=db.shop&port=6432&user=ana&dbname=shop"), whole);
        let options = connect_options("postgres://ana@db/shop?sslmode=require").unwrap();
        assert!(matches!(options.get_ssl_mode(), PgSslMode::Require));
        let options = connect_options("postgres:///shop?host=/run/postgresql&user=ana").unwrap();
        assert_eq!(
            options.get_socket().map(|path| path.display().to_string()).as_deref(),
            Some("/run/postgresql")
        );
    }

    #[test]
    fn what_a_url_leaves_out_has_a_default() {
        let defaults = ("localhost".to_owned(), 5432, "ana".to_owned(), "ana".to_owned());
        assert_eq!(parts("postgres://ana@localhost"), defaults);
        assert_eq!(parts("postgres:///?user=ana"), defaults);
        let options = connect_options("postgres://ana@localhost").unwrap();
        assert!(matches!(options.get_ssl_mode(), PgSslMode::Prefer));
        assert_eq!((options.get_socket(), options.get_options()), (None, None));
    }

    #[test]
    fn a_url_without_a_user_and_one_that_is_none_are_refused_without_repeating_them() {
        assert_eq!(connect_options("postgres://localhost/shop").unwrap_err(), AddressError::NoUser);
        for text in ["mysql://ana@localhost/shop", "localhost", "", "postgres://ana:a-secret@:x/"] {
            assert_eq!(connect_options(text).unwrap_err(), AddressError::NotAUrl, "{text}");
        }
        let error = connect_options("postgres://ana:a-secret@db/shop?sslmode=loud").unwrap_err();
        assert!(matches!(error, AddressError::Part(_)) && !error.to_string().contains("a-secret"), "{error}");
    }
}
