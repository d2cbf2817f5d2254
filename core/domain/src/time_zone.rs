//! Names of time zones, as the IANA time zone database has them. Postgres has the zones: this module rejects only text that is certainly none.

use crate::rejection::{FieldError, Rejection};

/// The time zone of a book or a call that names none.
pub const DEFAULT_TIME_ZONE: &str = "UTC";

/// Whether a text may be a name of the IANA database. Postgres also accepts POSIX rules such as `Madrid1` and `UTC+2`, which have any
/// offset, and the latter is west of Greenwich.
pub fn may_be_zone(text: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphabetic())
            && word.chars().all(|char| char.is_ascii_alphabetic() || char == '_' || char == '-')
    };
    match text.strip_prefix("Etc/GMT").filter(|offset| !offset.is_empty()) {
        Some(offset) => offset.parse::<i8>().is_ok_and(|offset| (-14..=12).contains(&offset)),
        None => text.split('/').all(is_word),
    }
}

/// The fault of a field `timeZone`.
pub fn zone_fault() -> FieldError {
    FieldError::new("timeZone", "must be a name of the IANA time zone database, such as Europe/Madrid")
}

/// The rejection of a time zone.
pub fn unknown_zone() -> Rejection {
    Rejection::Invalid { faults: vec![zone_fault()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posix_rules_are_no_names_of_time_zones() {
        for name in [
            "UTC",
            "Europe/Madrid",
            "America/Port-au-Prince",
            "America/Argentina/Buenos_Aires",
            "Etc/GMT+12",
            "Etc/GMT-14",
        ] {
            assert!(may_be_zone(name), "{name}");
        }
        for rule in [
            "",
            "UTC+2",
            "Madrid1",
            "ABC-0:10",
            "<+05>-5",
            "Etc/GMT+13",
            "Etc/GMT+0:30",
            "Europe/",
            "/",
            "Europe/Madrid ",
        ] {
            assert!(!may_be_zone(rule), "{rule}");
        }
    }
}
