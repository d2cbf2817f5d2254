//! Rejects unknown and repeated query parameters: if a misspelled name were ignored, `?dryrun=true` would be a real import.

use std::collections::BTreeSet;

use cuponera_domain::rejection::{FieldError, Rejection};

use crate::http::body::MAX_FAULTS;
use crate::http::spelling::not_known;

/// Maximum length of a name in the response, in characters. Longer names are cut.
const MAX_NAME_CHARS: usize = 64;

/// Rejects a query with an unknown or repeated name. Names are compared after decoding.
pub(crate) fn check(query: &str, known: &[String]) -> Result<(), Rejection> {
    let (mut seen, mut faults) = (BTreeSet::new(), Vec::<FieldError>::new());
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let is_known = known.iter().any(|known| *known == name);
        let is_first = seen.insert(name.clone());
        let message = match (is_known, is_first) {
            (true, true) => continue,
            (true, false) => "must be given only once".to_owned(),
            (false, _) => not_known(&name, &known.iter().map(String::as_str).collect::<Vec<_>>()),
        };
        let name: String = name.chars().take(MAX_NAME_CHARS).collect();
        if !faults.iter().any(|fault| fault.field == name) {
            faults.push(FieldError::new(name, message));
        }
        if faults.len() == MAX_FAULTS {
            break;
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Rejection::Invalid { faults }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(query: &str) -> Vec<(String, String)> {
        match check(query, &["couponBookId", "dryRun"].map(str::to_owned)) {
            Ok(()) => Vec::new(),
            Err(Rejection::Invalid { faults }) => {
                faults.into_iter().map(|fault| (fault.field, fault.message)).collect()
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn known_names_are_accepted_in_any_encoding() {
        for query in [
            "",
            "&",
            "&&",
            "dryRun=true",
            "dryRun",
            "dryRun=&couponBookId=",
            "%64ryRun=a%26b=c",
            "dryRun=x?y",
        ] {
            assert_eq!(faults(query), [], "{query}");
        }
    }

    #[test]
    fn an_unknown_name_is_a_fault_with_the_nearest_known_one() {
        let known = "known are: couponBookId, dryRun";
        let near = format!("is not known; did you mean dryRun? {known}");
        let far = format!("is not known; {known}");
        let cases = [
            ("dryrun=true", "dryrun", &near),
            ("DRYRUN=", "DRYRUN", &near),
            ("dry%52un%00=1", "dryRun\0", &near),
            ("+dryRun=true", " dryRun", &near),
            ("dryRun;x=1", "dryRun;x", &near),
            ("=x", "", &far),
            ("?", "?", &far),
            ("page=1&page=2", "page", &far),
        ];
        for (query, name, message) in cases {
            assert_eq!(faults(query), [(name.to_owned(), message.clone())], "{query}");
        }
    }

    #[test]
    fn a_name_given_twice_is_a_fault_even_with_the_same_value() {
        let once = |name: &str| (name.to_owned(), "must be given only once".to_owned());
        assert_eq!(faults("dryRun=true&dryRun=true&dryRun=false"), [once("dryRun")]);
        assert_eq!(
            faults("dryRun=1&couponBookId=2&%64ryRun=3&couponBookId"),
            [once("dryRun"), once("couponBookId")]
        );
    }

    #[test]
    fn the_faults_of_a_long_query_are_bounded() {
        let many = (0..10_000).map(|n| format!("n{n}")).collect::<Vec<_>>().join("&");
        assert_eq!(faults(&many).len(), MAX_FAULTS);
        assert_eq!(faults(&"x".repeat(100_000))[0].0.len(), MAX_NAME_CHARS);
    }
}
