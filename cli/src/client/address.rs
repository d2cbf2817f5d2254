//! The URL of a server, and the classification of connection errors.

use std::error::Error;
use std::io;

use reqwest::Url;

use super::fault::ClientError;
use super::show::plain;

/// The base URL of a server.
#[derive(Debug)]
pub(crate) struct Address {
    url: Url,
    /// Without a trailing slash: for messages, and as the key of stored logins.
    text: String,
}

impl Address {
    /// Parses a URL, with or without `/api/v1` (the banner of `up` prints it).
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        let wrong = |why: &str| ClientError::Local(format!("the URL {} {why}", plain(text)));
        let url = Url::parse(text).map_err(|error| wrong(&format!("is not valid: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("must start with http:// or https:// and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ClientError::Local("the URL must not have a user or password in it".to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must not have a query or fragment"));
        }
        let trimmed = url.as_str().trim_end_matches('/');
        let trimmed = trimmed.strip_suffix("/api/v1").unwrap_or(trimmed).trim_end_matches('/').to_owned();
        let url = Url::parse(&format!("{trimmed}/")).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { url, text: trimmed })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL of a path below `/api/v1`; segments and query values are escaped.
    pub(crate) fn at(&self, path: &[&str], query: &[(&'static str, String)]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Whether the server is on this machine, so that no proxy is used.
    pub(crate) fn is_loopback(&self) -> bool {
        self.url.host_str().is_some_and(|host| {
            let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        })
    }

    /// Whether requests cross a network without encryption.
    pub(crate) fn is_open_to_others(&self) -> bool {
        self.url.scheme() == "http" && !self.is_loopback()
    }
}

/// The innermost cause of an error: the only part that says what happened.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain(&cause.to_string())
}

/// Whether the TLS handshake failed, so that a retry does not help.
pub(crate) fn is_tls_fault(error: &(dyn Error + 'static)) -> bool {
    // `io::Error::source` skips the inner error.
    let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>()
        || hidden.is_some_and(|inner| is_tls_fault(inner))
        || error.source().is_some_and(is_tls_fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_with_or_without_the_path_of_the_api() {
        for text in ["http://a:1", "http://a:1/", "http://a:1/api/v1", "http://a:1/api/v1/"] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.as_str(), "http://a:1", "{text}");
            assert_eq!(address.at(&["jobs"], &[]).as_str(), "http://a:1/api/v1/jobs");
        }
        let behind = Address::parse("https://a/shop/").unwrap();
        assert_eq!(behind.at(&["jobs"], &[]).as_str(), "https://a/shop/api/v1/jobs");
    }

    #[test]
    fn what_stands_in_a_path_or_query_cannot_leave_its_place() {
        let address = Address::parse("http://a").unwrap();
        let url = address.at(&["coupons", "../a?b/c#d", "lock"], &[("q", "x&y=z".into())]);
        assert_eq!(url.as_str(), "http://a/api/v1/coupons/..%2Fa%3Fb%2Fc%23d/lock?q=x%26y%3Dz");
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_a_password() {
        for text in ["", "somewhere", "ftp://a", "http://", "http://a?b=c"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        let Err(ClientError::Local(message)) = Address::parse("http://me:hunter2@a") else {
            panic!("it was accepted")
        };
        assert!(!message.contains("hunter2"), "{message}");
    }
}
