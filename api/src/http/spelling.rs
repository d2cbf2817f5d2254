//! Messages for unknown names: the nearest known name, and all known names.

use strsim::osa_distance;

/// Maximum length of a name, in characters, for which a nearest name is searched.
const MAX_CHARS: usize = 64;

/// The message for a name that is not in `known`.
pub(crate) fn not_known(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "is not known here".to_owned();
    }
    let all = known.join(", ");
    match nearest(name, known) {
        Some(nearest) => format!("is not known; did you mean {nearest}? known are: {all}"),
        None => format!("is not known; known are: {all}"),
    }
}

/// The nearest known name, if at most a third of the characters differ. Case, `_` and `-` are ignored.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.chars().nth(MAX_CHARS).is_some() {
        return None;
    }
    let name = plain(name);
    let distances = known.iter().map(|known| {
        let plain = plain(known);
        let chars = plain.chars().count().max(name.chars().count());
        (osa_distance(&name, &plain), chars, *known)
    });
    let near = distances.filter(|(distance, chars, _)| distance * 3 <= *chars);
    near.min_by_key(|(distance, ..)| *distance).map(|(.., known)| known)
}

fn plain(name: &str) -> String {
    name.chars().filter(|char| !matches!(char, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["couponBookId", "dryRun", "limit", "q"];

    #[test]
    fn the_nearest_name_is_found_whatever_its_case_and_separators() {
        let cases = [
            ("dryrun", "dryRun"),
            ("DRY_RUN", "dryRun"),
            ("dry-run", "dryRun"),
            ("dyrRun", "dryRun"),
            ("couponBook", "couponBookId"),
            ("coupon_book_ids", "couponBookId"),
            ("limits", "limit"),
            ("Q", "q"),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, &KNOWN), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_name_far_from_all_others_has_no_nearest() {
        let long = "dryRun".repeat(1_000);
        for name in ["", "x", "offset", "id", "\0", "数量", &long] {
            assert_eq!(nearest(name, &KNOWN), None, "{name}");
        }
    }

    #[test]
    fn all_known_names_are_listed() {
        assert_eq!(
            not_known("dryrun", &["couponBookId", "dryRun"]),
            "is not known; did you mean dryRun? known are: couponBookId, dryRun"
        );
        assert_eq!(not_known("x", &["q"]), "is not known; known are: q");
        assert_eq!(not_known("x", &[]), "is not known here");
    }
}
