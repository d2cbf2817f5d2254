//! The sizes of the shared resources of an API process, and the shares that callers may use.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::Args;

/// Maximum size of a JSON body, in bytes: far above that of valid requests.
pub const MAX_JSON_BYTES: u64 = 1024 * 1024;

/// Sizes of the shared resources, and shares. Each share applies to every resource.
#[derive(Debug, Clone, Args)]
pub struct Shares {
    /// Maximum number of running requests, each from the end of its body to the start of its answer.
    #[arg(long, env = "CUPONERA_MAX_REQUESTS", value_name = "REQUESTS", default_value = "2048", value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub max_requests: u32,

    /// Maximum number of concurrent uploads.
    #[arg(long, env = "CUPONERA_MAX_UPLOADS", value_name = "UPLOADS", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub max_uploads: u32,

    /// Maximum number of open streams of job events.
    #[arg(long, env = "CUPONERA_MAX_STREAMS", value_name = "STREAMS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_streams: u32,

    /// Maximum number of requests that wait for the end of a job (Prefer: wait); others are answered at once.
    #[arg(long, env = "CUPONERA_MAX_WAITS", value_name = "REQUESTS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_waits: u32,

    /// Maximum number of passwords waiting to be hashed, at about 50 per second.
    #[arg(long, env = "CUPONERA_MAX_PASSWORDS", value_name = "PASSWORDS", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub max_passwords: u32,

    /// Maximum memory of JSON bodies, each from its first byte to the answer.
    #[arg(long, env = "CUPONERA_MAX_BODY_MEMORY", value_name = "SIZE", default_value = "64MiB")]
    pub max_body_memory: ByteSize,

    /// The share of one account or API key, such as 1/4 or 25%. Shares apply to each of the limits above.
    #[arg(long, env = "CUPONERA_SHARE_CALLER", value_name = "SHARE", default_value = "1/4")]
    pub share_caller: Share,

    /// The share of one business.
    #[arg(long, env = "CUPONERA_SHARE_BUSINESS", value_name = "SHARE", default_value = "1/2")]
    pub share_business: Share,

    /// The share of one address, also of connections: an IPv4 address or an IPv6 /64. An IPv6 /56 has twice this share.
    #[arg(long, env = "CUPONERA_SHARE_ADDRESS", value_name = "SHARE", default_value = "1/4")]
    pub share_address: Share,

    /// The share of all requests without valid credentials together. Within it, each address has its share.
    #[arg(long, env = "CUPONERA_SHARE_ANONYMOUS", value_name = "SHARE", default_value = "1/4")]
    pub share_anonymous: Share,
}

impl Default for Shares {
    fn default() -> Self {
        let (quarter, half) = (Share { part: 1, of: 4 }, Share { part: 1, of: 2 });
        Self {
            max_requests: 2_048,
            max_uploads: 32,
            max_streams: 1_000,
            max_waits: 1_000,
            max_passwords: 64,
            max_body_memory: ByteSize::mib(64),
            share_caller: quarter,
            share_business: half,
            share_address: quarter,
            share_anonymous: quarter,
        }
    }
}

impl Shares {
    /// Contradictions between these settings, one line each.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.share_business.is_less_than(self.share_caller) {
            faults.push(
                "CUPONERA_SHARE_CALLER: must not exceed CUPONERA_SHARE_BUSINESS, which limits all callers of a business together"
                    .to_owned(),
            );
        }
        if self.smallest_body_share() < MAX_JSON_BYTES {
            faults.push(format!(
                "CUPONERA_MAX_BODY_MEMORY: after applying the shares, one caller must have at least {}, the maximum size of a body",
                ByteSize(MAX_JSON_BYTES)
            ));
        }
        faults
    }

    /// The smaller of the shares of a caller with credentials and of an address without.
    fn smallest_body_share(&self) -> u64 {
        let total = usize::try_from(self.max_body_memory.as_u64()).unwrap_or(usize::MAX);
        let stranger = self.share_address.of(self.share_anonymous.of(total));
        let known = [self.share_caller, self.share_business, self.share_address].map(|share| share.of(total));
        known.into_iter().chain([stranger]).min().unwrap_or(0) as u64
    }
}

/// A fraction greater than 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    part: u32,
    of: u32,
}

impl Share {
    /// The whole.
    pub const WHOLE: Self = Self { part: 1, of: 1 };

    /// This share of a number, rounded up, at least 1.
    pub fn of(self, total: usize) -> usize {
        let share = (total as u128 * u128::from(self.part)).div_ceil(u128::from(self.of));
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    fn is_less_than(self, other: Self) -> bool {
        u64::from(self.part) * u64::from(other.of) < u64::from(other.part) * u64::from(self.of)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let parts = match (text.split_once('/'), text.strip_suffix('%')) {
            (Some((part, of)), _) => part.trim().parse().ok().zip(of.trim().parse().ok()),
            (None, Some(percent)) => percent.trim().parse().ok().map(|percent| (percent, 100)),
            (None, None) => None,
        };
        parts
            .filter(|(part, of)| (1..=*of).contains(part))
            .map(|(part, of)| Self { part, of })
            .ok_or_else(|| "must be a share such as 1/4 or 25%, more than 0 and at most 1/1".to_owned())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        shares: Shares,
    }

    fn read(arguments: &[&str]) -> Result<Shares, clap::Error> {
        Program::try_parse_from(["program"].iter().chain(arguments)).map(|program| program.shares)
    }

    #[test]
    fn a_share_is_a_fraction_or_a_percentage_and_never_nothing() {
        let share = |text: &str| text.parse::<Share>();
        assert_eq!(share("1/4").unwrap().of(2_048), 512);
        assert_eq!(share(" 25 % ").unwrap().of(10), 3);
        assert_eq!(share("1/1000").unwrap().of(10), 1);
        assert_eq!(share("100%").unwrap().of(usize::MAX), usize::MAX);
        for text in ["", "0", "0/4", "1/0", "5/4", "0%", "101%", "0.25", "1", "-1/4", "a/b"] {
            assert!(share(text).unwrap_err().contains("1/4"), "{text}");
        }
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_type_and_have_no_fault() {
        let read = read(&[]).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", Shares::default()));
        assert_eq!(read.faults(), [""; 0]);
    }

    #[test]
    fn shares_that_contradict_each_other_are_named() {
        let faults = |arguments: &[&str]| read(arguments).unwrap().faults();
        assert!(faults(&["--share-caller=3/4"])[0].starts_with("CUPONERA_SHARE_CALLER: "));
        assert_eq!(faults(&["--share-caller=3/4", "--share-business=75%"]), [""; 0]);
        for small in [&["--max-body-memory=15MiB"][..], &["--share-anonymous=1/32"]] {
            assert!(faults(small)[0].starts_with("CUPONERA_MAX_BODY_MEMORY: "), "{small:?}");
        }
        assert!(read(&["--max-requests=1"]).is_err());
    }
}
