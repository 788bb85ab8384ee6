//! The trace of a change, from the node that proposes it to the leader.
//!
//! A span has the target `twinkeep_trace`: a server that sends traces makes it into one, below the
//! request's own, and otherwise nobody wants it and it is not made. What it holds is chosen here: no key,
//! no name, no command.

use opentelemetry::trace::TraceContextExt as _;
use tonic::metadata::MetadataMap;
use tracing::{Level, Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header of W3C Trace Context, level 1.
const HEADER: &str = "traceparent";

fn is_on() -> bool {
    tracing::enabled!(target: "twinkeep_trace", Level::DEBUG)
}

/// Returns the span that a command is proposed in; none while nobody traces.
pub(crate) fn current() -> Span {
    if is_on() { Span::current() } else { Span::none() }
}

/// Returns the span of a batch: below the first command's that has one, linked to those of the others.
pub(crate) fn batch<'a>(commands: impl Iterator<Item = &'a Span>) -> Span {
    let mut traced = commands.filter(|span| !span.is_disabled());
    let Some(first) = traced.next() else { return Span::none() };
    let span = debug_span!(
        target: "twinkeep_trace", parent: first, "propose", otel.kind = "client"
    );
    traced.for_each(|other| {
        span.follows_from(other);
    });
    span
}

/// Tells the receiver of a request which span it is sent in.
pub(crate) fn inject(metadata: &mut MetadataMap) {
    if !is_on() {
        return;
    }
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return;
    }
    let flags = span.trace_flags().to_u8();
    let value = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    if let Ok(value) = value.parse() {
        metadata.insert(HEADER, value);
    }
}
