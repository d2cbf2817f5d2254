//! Counts and logs requests by method and path template.
//!
//! **Invariant.** Templates are a fixed set, so no label and no log line contains a code or text of the client.

use std::sync::LazyLock;
use std::time::Duration;

use cuponera_platform::telemetry::metrics;
use poem::http::{Method, StatusCode};
use tracing::{debug, info, warn};

use crate::routes::{METRICS, templates};

/// Paths that the document does not have.
const OTHERS: [&str; 4] = [METRICS, "/docs", "/docs/errors", "/openapi.json"];
/// The template of unknown paths.
const ELSEWHERE: &str = "elsewhere";
/// Methods with their own label. The last stands for all others.
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"];
/// Slower requests are logged at `info`.
const SLOW: Duration = Duration::from_secs(1);

/// A method of a template.
#[derive(Debug)]
pub(crate) struct Route {
    /// The method, or `other`.
    pub(crate) method: &'static str,
    pub(crate) template: &'static str,
    counted: metrics::Route,
}

/// A template, split at its slashes.
#[derive(Debug)]
struct Template {
    segments: Vec<&'static str>,
    routes: [Route; METHODS.len()],
}

/// The label of a request.
pub(crate) fn route_of(method: &Method, path: &str) -> &'static Route {
    static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(all);
    static OTHER: LazyLock<Template> = LazyLock::new(|| Template::new(ELSEWHERE));
    let asked: Vec<&str> = segments(path).collect();
    let found = TEMPLATES.iter().find(|template| template.matches(&asked)).unwrap_or(&OTHER);
    let method = METHODS.iter().position(|name| *name == method.as_str());
    &found.routes[method.unwrap_or(METHODS.len() - 1)]
}

/// All templates. If two match a path, the more specific one comes first: `random` before `{code}`.
fn all() -> Vec<Template> {
    let mut all: Vec<Template> = templates().chain(OTHERS).map(Template::new).collect();
    all.sort_by_cached_key(|template| {
        template.segments.iter().map(|segment| is_parameter(segment)).collect::<Vec<_>>()
    });
    all
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

impl Template {
    fn new(template: &'static str) -> Self {
        // In the document the path of a collection ends in a slash.
        let template = if template == "/" { template } else { template.trim_end_matches('/') };
        let route = |method| Route { method, template, counted: metrics::Route::new(method, template) };
        Self { segments: segments(template).collect(), routes: METHODS.map(route) }
    }

    fn matches(&self, asked: &[&str]) -> bool {
        let fits = |(segment, said): (&&str, &&str)| is_parameter(segment) || segment == said;
        self.segments.len() == asked.len() && self.segments.iter().zip(asked).all(fits)
    }
}

impl Route {
    /// Counts and logs a response: errors at `warn`, slow ones at `info`, others at `debug`.
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        self.counted.note(status.as_u16(), took);
        let (status, ms) = (status.as_u16(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if status >= 500 {
            warn!(target: "access", status, ms, "answered");
        } else if took >= SLOW {
            info!(target: "access", status, ms, "answered");
        } else {
            debug!(target: "access", status, ms, "answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template_of(path: &str) -> &'static str {
        route_of(&Method::GET, path).template
    }

    #[test]
    fn a_path_is_counted_under_its_template() {
        assert_eq!(template_of("/api/v1/coupons/SUMMER-1/lock"), "/api/v1/coupons/{code}/lock");
        assert_eq!(template_of("/api/v1/coupons/SUMMER-1/"), "/api/v1/coupons/{code}");
        assert_eq!(template_of("/health"), "/health");
        assert_eq!(template_of("/metrics"), "/metrics");
    }

    #[test]
    fn a_word_of_ours_is_no_parameter() {
        assert_eq!(template_of("/api/v1/assignments/random"), "/api/v1/assignments/random");
        assert_eq!(template_of("/api/v1/assignments/RANDOM"), "/api/v1/assignments/{code}");
    }

    /// Invariant I-44.
    #[test]
    fn what_strangers_make_up_is_one_place() {
        for path in ["/", "", "/nothing", "/api/v1/coupons/A/B/C", "//", "/api/v1/coupons/{code}/%2e"] {
            assert_eq!(template_of(path), ELSEWHERE, "{path}");
        }
        let made_up = Method::from_bytes(b"BREW").unwrap();
        assert!(std::ptr::eq(route_of(&made_up, "/x"), route_of(&Method::CONNECT, "/y")));
    }

    #[test]
    fn all_paths_of_the_document_are_found_under_themselves() {
        assert!(templates().count() > 20);
        for template in templates() {
            assert_eq!(template_of(template), template.trim_end_matches('/'));
        }
    }
}
