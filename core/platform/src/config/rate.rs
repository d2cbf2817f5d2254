//! The syntax of rates in settings: `100` (per minute), `10/s`, `600/m`, `5000/h`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A number of requests per time window; all of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of requests.
    pub count: NonZeroU32,
    /// The time window.
    pub window: Duration,
}

impl Rate {
    /// A rate of `count` per minute.
    pub const fn per_minute(count: NonZeroU32) -> Self {
        Self { count, window: Duration::from_mins(1) }
    }
}

/// A rate, or no limit. A separate type, because the setting also accepts `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit(pub Option<Rate>);

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        let (count, unit) = text.split_once('/').unwrap_or((text, "m"));
        let window = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" | "min" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(Self::expected()),
        };
        let count = count.trim().parse().map_err(|_| Self::expected())?;
        Ok(Self(Some(Rate { count, window })))
    }
}

impl RateLimit {
    fn expected() -> String {
        "must be a number per minute of at least 1, a number with a unit such as 10/s, 600/m or 5000/h, or none"
            .to_owned()
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(Rate { count, window }) => write!(f, "{count} in {}", humantime::format_duration(window)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_per_minute_and_none_is_no_limit() {
        let rate =
            |text: &str| text.parse::<RateLimit>().unwrap().0.map(|rate| (rate.count.get(), rate.window));
        assert_eq!(rate("100"), Some((100, Duration::from_mins(1))));
        assert_eq!(rate(" 10/s "), Some((10, Duration::from_secs(1))));
        assert_eq!(rate("600/min"), Some((600, Duration::from_mins(1))));
        assert_eq!(rate("5000/h"), Some((5000, Duration::from_hours(1))));
        assert_eq!(rate("None"), None);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "0", "-1", "1.5", "ten", "10/d", "/s", "99999999999"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text}");
        }
    }
}
