//! The language of the sentences in problem documents, by `Accept-Language` (RFC 9110, section 12.5.4).

use poem::http::{HeaderMap, header};

/// A language in which every problem has a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Language {
    /// Also if the client asks for no language, or for another one.
    #[default]
    English,
    Spanish,
}

impl Language {
    /// The preferred one of the languages that the client accepts; of equals the one that is named first.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
        let (mut best, mut most) = (Self::default(), 0.0);
        for range in values.flat_map(|value| value.split(',')) {
            let (tag, quality) =
                range.split_once(';').map_or((range, 1.0), |(tag, rest)| (tag, quality(rest)));
            if let Some(language) = Self::of_tag(tag.trim())
                && quality > most
            {
                (best, most) = (language, quality);
            }
        }
        best
    }

    /// The language of a tag such as `es` or `es-MX`.
    fn of_tag(tag: &str) -> Option<Self> {
        match tag.split('-').next()? {
            language if language.eq_ignore_ascii_case("es") => Some(Self::Spanish),
            language if language.eq_ignore_ascii_case("en") => Some(Self::English),
            _ => None,
        }
    }

    /// The value of `Content-Language`.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Spanish => "es",
        }
    }
}

/// The weight of a parameter such as `q=0.5`; 0 if it is not valid.
fn quality(parameter: &str) -> f32 {
    let value = parameter.trim().strip_prefix("q=").or_else(|| parameter.trim().strip_prefix("Q="));
    value
        .and_then(|value| value.trim().parse().ok())
        .filter(|value| (0.0..=1.0).contains(value))
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn accepted(values: &[&str]) -> &'static str {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT_LANGUAGE, HeaderValue::from_str(value).unwrap());
        }
        Language::accepted(&headers).tag()
    }

    #[test]
    fn the_language_with_the_highest_weight_is_chosen_and_english_without_one() {
        for spanish in [
            "es",
            "ES-mx",
            "es-419,en;q=0.9",
            "fr, es;q=0.2",
            "en;q=0.3, es ; q=0.5",
            "es,en",
            "en;q=0,es;q=0.1",
        ] {
            assert_eq!(accepted(&[spanish]), "es", "{spanish}");
        }
        for english in [
            "",
            "*",
            "fr",
            "en,es",
            "es;q=0",
            "es;q=NaN",
            "es;q=2",
            "es;q=0.5,en-GB",
            "est",
            ";;,",
            "es;level=1",
        ] {
            assert_eq!(accepted(&[english]), "en", "{english}");
        }
        assert_eq!(accepted(&["fr", "es"]), "es");
        assert_eq!(accepted(&[]), "en");
    }
}
