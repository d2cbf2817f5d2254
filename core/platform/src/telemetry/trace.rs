//! The trace of a request or a chunk: passed from a client's request to the job that it submits, and to the spans of
//! its chunks, whether or not traces are exported.

use cuponera_domain::trace::TraceParent;
use rand::RngExt;
use tracing::{Span, field};

/// Makes `span` a part of the trace of its caller, or of a new trace, and records the trace's id in its field
/// `trace`. Returns the parent for calls that the span makes.
pub fn join_trace(span: &Span, parent: Option<TraceParent>) -> TraceParent {
    #[cfg(feature = "otlp")]
    let exported = super::export::adopt(span, parent);
    #[cfg(not(feature = "otlp"))]
    let exported = None;
    let context = exported.unwrap_or_else(|| {
        let mut random = rand::rng();
        match parent {
            Some(parent) => parent.with_span(random.random()),
            None => TraceParent::of_parts(random.random(), random.random(), 0),
        }
    });
    span.record("trace", field::display(format_args!("{:032x}", context.parts().0)));
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_the_trace_of_its_parent_and_another_span() {
        let parent = TraceParent::of_parts(0x4bf9, 0x00f0, 1);
        let child = join_trace(&Span::none(), Some(parent));
        assert_eq!((child.parts().0, child.parts().2), (parent.parts().0, parent.parts().2));
        assert_ne!(child.parts().1, parent.parts().1);
        assert_ne!(join_trace(&Span::none(), None).parts().0, parent.parts().0);
    }
}
