//! The address of an SQS queue: its URL or its name.

use std::str::FromStr;

/// The error for an invalid address.
const HINT: &str = "must be the URL of a standard SQS queue, as in https://sqs.eu-west-1.amazonaws.com/123456789012/cuponera, or \
                    the name of one: letters, digits, - and _";

/// An address of a queue, from the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueAddress {
    url: Option<String>,
    name: String,
}

impl QueueAddress {
    /// The URL, if the address is a URL.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The region in the URL, if it contains one.
    pub fn region(&self) -> Option<&str> {
        let (_, rest) = self.url.as_deref()?.split_once("://")?;
        let host = rest.split(['/', ':']).next()?;
        let (region, _) = host.strip_prefix("sqs.")?.split_once(".amazonaws.com")?;
        Some(region)
    }
}

impl FromStr for QueueAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (url, name) = match text.split_once("://") {
            None => (None, text),
            Some(("http" | "https", rest)) => {
                let (place, name) = rest.rsplit_once('/').ok_or(HINT)?;
                if !place.contains('/') {
                    return Err(HINT.to_owned());
                }
                (Some(text.to_owned()), name)
            }
            Some(_) => return Err(HINT.to_owned()),
        };
        let is_named = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        if !(1..=80).contains(&name.len()) || !name.chars().all(is_named) {
            return Err(HINT.to_owned());
        }
        Ok(Self { url, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_by_its_url_or_its_name() {
        let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/cuponera";
        let address: QueueAddress = url.parse().unwrap();
        assert_eq!(
            (address.url(), address.name(), address.region()),
            (Some(url), "cuponera", Some("eu-west-1"))
        );
        let local: QueueAddress = "http://localhost:4566/000000000000/jobs".parse().unwrap();
        assert_eq!((local.name(), local.region()), ("jobs", None));
        let name: QueueAddress = "my-jobs_2".parse().unwrap();
        assert_eq!((name.url(), name.name(), name.region()), (None, "my-jobs_2", None));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "a queue",
            "jobs.fifo",
            "sqs://x/1/jobs",
            "https://sqs.eu-west-1.amazonaws.com",
            "https://sqs.eu-west-1.amazonaws.com/jobs",
            "https://host/123/",
            "redis://localhost/1",
        ] {
            let fault = text.parse::<QueueAddress>().unwrap_err();
            assert!(fault.contains("https://sqs.eu-west-1"), "{text}: {fault}");
        }
    }
}
