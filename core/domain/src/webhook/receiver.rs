//! The URL of a receiver, and the checks that need no name resolution.
//!
//! **Invariant.** The host is checked as the URL standard reads it, which is also how the request is sent: `2130706433`, `127.1`,
//! `0x7f000001` and `0177.0.0.1` are all `127.0.0.1`.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

use super::address::AllowedNetworks;

/// Maximum length of a URL.
pub const MAX_URL_CHARS: usize = 2048;

/// Why a receiver is not allowed.
pub const FORBIDDEN_ADDRESS: &str =
    "the address is private, local or reserved, and the operator does not allow it for webhooks";
/// Why a receiver without TLS is not allowed.
const FORBIDDEN_HTTP: &str =
    "must use https: http is only for addresses that the operator allows for webhooks";

/// A checked URL of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The URL.
    pub url: Url,
    /// How it is reached.
    pub transport: Transport,
}

/// How a receiver is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over TLS, at a public or an allowed address.
    Https,
    /// Without TLS, only at an allowed address.
    Http,
}

impl Transport {
    /// Whether a request may be sent to an address.
    pub fn permits(self, address: IpAddr, allowed: &AllowedNetworks) -> bool {
        match self {
            Self::Https => allowed.permit(address),
            Self::Http => allowed.contain(address),
        }
    }
}

impl Receiver {
    /// Checks a URL: syntax, scheme, credentials, and an address that it contains. A name is checked when it is resolved.
    pub fn parse(text: &str, allowed: &AllowedNetworks) -> Result<Self, String> {
        if text.chars().count() > MAX_URL_CHARS {
            return Err(format!("must have at most {MAX_URL_CHARS} characters"));
        }
        if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return Err("must not have blanks or control characters".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        // The stored form, in which other characters than ASCII take up to nine.
        if url.as_str().len() > MAX_URL_CHARS {
            return Err(format!("must have at most {MAX_URL_CHARS} characters in its percent-encoded form"));
        }
        let transport = match url.scheme() {
            "https" => Transport::Https,
            "http" => Transport::Http,
            _ => return Err("must begin with https://".to_owned()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not have a user name or a password".to_owned());
        }
        if url.fragment().is_some() {
            return Err("must not have a fragment".to_owned());
        }
        let address = match url.host() {
            None => return Err("must have a host".to_owned()),
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(name)) if is_local(name) => Some(Ipv4Addr::LOCALHOST.into()),
            Some(Host::Domain(_)) => None,
        };
        match (transport, address) {
            (_, Some(address)) if transport.permits(address, allowed) => {}
            (Transport::Https, Some(_)) => return Err(format!("is not allowed: {FORBIDDEN_ADDRESS}")),
            (Transport::Http, Some(_)) => return Err(FORBIDDEN_HTTP.to_owned()),
            (Transport::Http, None) if allowed.is_empty() => return Err(FORBIDDEN_HTTP.to_owned()),
            (Transport::Https | Transport::Http, None) => {}
        }
        Ok(Self { url, transport })
    }
}

/// Whether a name is `localhost` or under it (RFC 6761): it always names this machine.
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, networks: &[&str]) -> Result<Receiver, String> {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Receiver::parse(text, &AllowedNetworks::new(networks))
    }

    /// Invariant I-66.
    #[test]
    fn a_forbidden_address_is_recognized_in_each_notation() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0177.1",
            "127.0.0.1.",
            "169.254.169.254",
            "0xA9FEA9FE",
            "10.0.0.1",
            "0",
            "[::1]",
            "[::]",
            "[::ffff:10.0.0.1]",
            "[::ffff:a00:1]",
            "[64:ff9b::a00:1]",
            "[fd00::1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "１２７.０.０.１",
            "127。0。0。1",
            "%31%32%37.0.0.1",
        ] {
            for text in
                [format!("https://{host}/"), format!("https://{host}:8443/x"), format!("http://{host}/")]
            {
                assert!(parse(&text, &[]).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn a_url_has_https_and_a_host_and_no_credentials() {
        for text in [
            "",
            "shop.example/hooks",
            "ftp://shop.example/",
            "file:///etc/passwd",
            "https://",
            "https://user@shop.example/",
            "https://user:secret@shop.example/",
            "https://shop.example/#a",
            " https://shop.example/",
            "https://shop.example/a b",
            "https://shop.example/\n",
            "http://shop.example/",
            "http://8.8.8.8/",
            "javascript:alert(1)",
        ] {
            assert!(parse(text, &[]).is_err(), "{text}");
        }
        // Each of these characters has six in the stored form.
        let stored_too_long = format!("https://shop.example/{}", "ñ".repeat(MAX_URL_CHARS / 5));
        assert!(parse(&stored_too_long, &[]).unwrap_err().contains("percent-encoded"));
        assert!(parse(&format!("https://shop.example/{}", "x".repeat(MAX_URL_CHARS)), &[]).is_err());
        for (text, url) in [
            ("https://shop.example", "https://shop.example/"),
            ("HTTPS://Shop.Example:8443/hooks?a=1", "https://shop.example:8443/hooks?a=1"),
            // An empty user name is none.
            ("https://:@shop.example/x@y:z", "https://shop.example/x@y:z"),
            ("https://8.8.8.8/", "https://8.8.8.8/"),
            ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
        ] {
            assert_eq!(parse(text, &[]).unwrap().url.as_str(), url);
        }
    }

    #[test]
    fn http_is_only_for_allowed_networks() {
        for (text, is_allowed) in [
            ("http://127.0.0.1:9000/x", true),
            ("http://localhost:9000/", true),
            ("https://127.1/", true),
            ("http://10.0.0.1/", false),
            ("http://8.8.8.8/", false),
            ("https://8.8.8.8/", true),
            // Checked when it is resolved.
            ("http://receiver.internal/", true),
        ] {
            assert_eq!(parse(text, &["127.0.0.0/8"]).is_ok(), is_allowed, "{text}");
        }
    }
}
