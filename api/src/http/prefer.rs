//! The preference `wait` of the `Prefer` header (RFC 7240). Malformed preferences are ignored, as the RFC requires.

use std::time::Duration;

use poem::http::HeaderMap;

/// The name of the header.
pub(crate) const PREFER: &str = "Prefer";

/// Maximum wait of a request, in seconds. Proxies close silent connections not much later.
const MAX_WAIT_SECONDS: u64 = 60;

/// The time that the client allows the answer to wait for an event: at most a minute.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    // Of a repeated preference only the first counts, even if it is invalid.
    let value = values.flat_map(|text| split(text, ',')).find_map(wait_of)?;
    let seconds = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let is_number = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a `u64` holds exceed the maximum anyway.
    is_number.then(|| Duration::from_secs(seconds.parse().unwrap_or(MAX_WAIT_SECONDS).min(MAX_WAIT_SECONDS)))
}

/// The value of the preference if its name is `wait`. Its parameters are ignored.
fn wait_of(preference: &str) -> Option<&str> {
    let (name, value) = split(preference, ';').next()?.split_once('=').unwrap_or((preference, ""));
    name.trim().eq_ignore_ascii_case("wait").then(|| value.trim())
}

/// Splits at the separators outside quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match character {
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            '"' if !was_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        character == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn seconds(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_found_in_any_position() {
        for said in [
            "wait=20",
            "WAIT=20",
            " wait = 20 ",
            "wait=\"20\"",
            "respond-async, wait=20",
            "wait=20, respond-async",
            "wait=20; sure; by=now",
            "handling=lenient; note=\"a, wait=5\", wait=20",
            "note=\"\\\", wait=5\", wait=20",
        ] {
            assert_eq!(seconds(&[said]), Some(20), "{said}");
        }
        assert_eq!(seconds(&["respond-async", "wait=20"]), Some(20));
    }

    #[test]
    fn invalid_preferences_are_ignored() {
        for said in [
            "",
            "wait",
            "wait=",
            "wait=\"\"",
            "wait=soon",
            "wait=-1",
            "wait=1.5",
            "wait=+5",
            "wait=5s",
            "await=5",
            "wait=\"5",
            "x=\"wait=5\"",
            "x; wait=5",
            ",;=\"",
            "ño, wait=\u{663}",
        ] {
            assert_eq!(seconds(&[said]), None, "{said}");
        }
        assert_eq!(seconds(&[]), None);
    }

    #[test]
    fn the_first_of_several_waits_counts_even_if_it_is_invalid() {
        assert_eq!(seconds(&["wait=3, wait=9", "wait=4"]), Some(3));
        assert_eq!(seconds(&["wait=soon, wait=9"]), None);
    }

    #[test]
    fn the_wait_is_limited_to_a_minute() {
        assert_eq!(seconds(&["wait=0"]), Some(0));
        assert_eq!(seconds(&["wait=60"]), Some(60));
        assert_eq!(seconds(&["wait=61"]), Some(60));
        assert_eq!(seconds(&["wait=99999999999999999999999"]), Some(60));
    }
}
