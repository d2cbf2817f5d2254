//! Trace contexts (W3C Trace Context, level 1): the trace of a request or a chunk, and the parent span.

use std::fmt;
use std::str::FromStr;

/// The name of the header.
pub const TRACE_PARENT: &str = "traceparent";

/// A span of a trace, used as the parent of another span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The error for a text that is not a trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a W3C traceparent")]
pub struct NoTraceParent;

impl TraceParent {
    /// A span of a trace. An id of 0 is invalid and becomes 1.
    pub fn of_parts(trace: u128, span: u64, flags: u8) -> Self {
        Self { trace: trace.max(1), span: span.max(1), flags }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(self, span: u64) -> Self {
        Self::of_parts(self.trace, span, self.flags)
    }

    /// The ids of the trace and the span, and the flags.
    pub fn parts(self) -> (u128, u64, u8) {
        (self.trace, self.span, self.flags)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    /// Parses version 00. Later versions may append fields, which are ignored.
    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let mut parts = text.split('-');
        let mut part = |digits| parts.next().and_then(|part| hex(part, digits)).ok_or(NoTraceParent);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let has_more = parts.next().is_some();
        if version == 0xff || trace == 0 || span == 0 || (version == 0 && has_more) {
            return Err(NoTraceParent);
        }
        let narrow = |_| NoTraceParent;
        // Only the first flag, *sampled*, is defined and passed on.
        let flags = u8::try_from(flags & 1).map_err(narrow)?;
        Ok(Self { trace, span: u64::try_from(span).map_err(narrow)?, flags })
    }
}

/// Parses a number of exactly this many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_plain && text.len() == digits).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read_again() {
        let context: TraceParent = GOOD.parse().unwrap();
        assert_eq!(context.to_string(), GOOD);
        let own = TraceParent::of_parts(u128::MAX, 7, 0);
        assert_eq!(own.to_string().parse(), Ok(own));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = GOOD.replacen("00", "cc", 1) + "-what-comes-then";
        assert_eq!(later.parse::<TraceParent>(), GOOD.parse());
        assert_eq!(
            GOOD.replace("-01", "-ff").parse::<TraceParent>(),
            GOOD.parse(),
            "unknown flags are dropped"
        );
    }

    #[test]
    fn what_is_no_trace_context_is_refused() {
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            format!("{GOOD}-more"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4bf9", "4bf"),
            GOOD.replace("4bf9", "+bf9"),
            GOOD.replace("-01", ""),
            GOOD.replace("-01", "-1"),
        ];
        for text in bad {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text}");
        }
    }
}
