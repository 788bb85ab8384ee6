//! Spans of calls, where traces are made.
//!
//! The server puts a span with the target `twinkeep_trace` around each single call, and says here how to make one
//! for each call on a stream. Their fields for the request's id and the outcome are empty at first and filled
//! here. Without a collector nobody wants that target and no span is made; finding that out costs one load.

use std::sync::OnceLock;

use tonic::Code;
use tracing::{Level, Span};
use twinkeep_core::id::RequestId;

use crate::error::CallError;
use crate::status::{self, Coded as _};

/// Makes the span of a call on a stream from its message's `traceparent`, which may be empty or anything else, and
/// from the call's name; [`Span::none`] for one that is not traced.
pub type StreamSpans = Box<dyn Fn(&str, &'static str) -> Span + Send + Sync>;

static STREAM_SPANS: OnceLock<StreamSpans> = OnceLock::new();

/// Has the calls on all streams of this process traced. The first that is given counts.
pub fn trace_streams(spans: StreamSpans) {
    STREAM_SPANS.set(spans).ok();
}

/// Returns the span of a call on a stream.
pub(crate) fn on_stream(traceparent: &str, operation: &'static str) -> Span {
    STREAM_SPANS.get().map_or_else(Span::none, |spans| spans(traceparent, operation))
}

/// Notes the request's id in the span that it is answered in.
pub(crate) fn name(request: RequestId) {
    if tracing::enabled!(target: "twinkeep_trace", Level::DEBUG) {
        Span::current().record("request", tracing::field::display(request));
    }
}

/// Notes how a call ended, in the span that it is answered in.
pub(crate) fn end(error: Option<&CallError>) {
    if tracing::enabled!(target: "twinkeep_trace", Level::DEBUG) {
        Span::current().record("outcome", status::name(error.map_or(Code::Ok, CallError::code)));
    }
}
