//! A web origin as browsers send it: scheme, host, and a port other than the scheme's default.

use std::fmt;
use std::str::FromStr;

/// An origin whose pages may call the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Any origin; cookies are then not accepted.
    Any,
    /// This origin, in lower case.
    Exact(String),
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let origin = text.trim().to_ascii_lowercase();
        if origin == "*" {
            return Ok(Self::Any);
        }
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_plain = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte))
        };
        if host.is_some_and(is_plain) {
            Ok(Self::Exact(origin))
        } else {
            Err("must be an origin such as https://shop.example or http://localhost:5173, without a path, or *"
                .to_owned())
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_more() {
        assert_eq!("https://Shop.example".parse(), Ok(Origin::Exact("https://shop.example".into())));
        assert_eq!("http://[::1]:5173".parse(), Ok(Origin::Exact("http://[::1]:5173".into())));
        assert_eq!(" * ".parse(), Ok(Origin::Any));
        for text in
            ["", "shop.example", "https://", "https://shop.example/", "ftp://a", "https://a b", "null"]
        {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
