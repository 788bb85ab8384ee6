//! A span for each call that comes in, below the caller's own if it says which.
//!
//! The trace comes in the header `traceparent` (W3C Trace Context, level 1), on a stream in the message.
//! `tracestate` and baggage are left: they are text of the caller's, and nobody here reads them.
//!
//! Which calls are recorded is decided where they enter the cluster, and other nodes follow. Callers choose both
//! the flag and the id in a `traceparent`, so neither decides by itself: the flag counts where the
//! configuration trusts callers, and the id is hashed with a key of this process's own before its share is
//! taken. A trace whose calls enter at several nodes may thus be recorded at some of them alone.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::task::{Context, Poll};

use http::{HeaderMap, Request};
use opentelemetry::Context as Otel;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::{Layer, Service};
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use twinkeep_proto::v1::method;

use crate::config::Config;

const HEADER: &str = "traceparent";

/// Whether a call begins to be recorded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// By the share of calls that the configuration names.
    Sampled,
    /// Never: nodes speak to each other all the time, and what another one records goes on here.
    Never,
}

/// Puts a span around each call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceCalls {
    begin: Begin,
    ratio: f64,
    trust_callers: bool,
}

impl TraceCalls {
    /// Returns what makes spans; `None` when no collector is configured, and nothing stands in a call's way.
    pub(crate) fn of(config: &Config, begin: Begin) -> Option<Self> {
        let tracing = &config.tracing;
        let (ratio, trust_callers) = (tracing.sample_ratio, tracing.trust_callers);
        tracing.otlp_endpoint.as_ref().map(|_| Self { begin, ratio, trust_callers })
    }

    fn span<B>(self, request: &Request<B>) -> Span {
        let parent = self.parent(&Headers(request.headers()));
        if self.begin == Begin::Never && parent.is_none() {
            return Span::none();
        }
        below(parent, name(request.uri().path()))
    }

    /// Returns the span of a call on a stream; none for one that is not recorded.
    pub(crate) fn on_stream(self, traceparent: &str, operation: &'static str) -> Span {
        match self.parent(&Message(traceparent)) {
            Some(parent) if !parent.is_sampled() => Span::none(),
            parent => below(parent, operation),
        }
    }

    /// Returns the span that a call is made in, if it says which, as sampled as it is to be recorded here.
    fn parent(self, from: &dyn Extractor) -> Option<SpanContext> {
        let said = TraceContextPropagator::new().extract_with_context(&Otel::new(), from);
        let said = said.span().span_context().clone();
        let records = match self.begin {
            Begin::Sampled => {
                (self.trust_callers && said.is_sampled()) || is_drawn(said.trace_id(), self.ratio)
            }
            Begin::Never => said.is_sampled(),
        };
        let flags = TraceFlags::default().with_sampled(records);
        said.is_valid().then(|| {
            SpanContext::new(said.trace_id(), said.span_id(), flags, true, TraceState::NONE)
        })
    }
}

/// Tells whether a trace is in a share of all.
fn is_drawn(trace: TraceId, ratio: f64) -> bool {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let draw = KEY.get_or_init(RandomState::new).hash_one(trace.to_bytes());
    ratio >= 1.0 || (draw as f64) < ratio * (u64::MAX as f64)
}

fn below(parent: Option<SpanContext>, name: &'static str) -> Span {
    let span = debug_span!(
        target: "twinkeep_trace",
        parent: None,
        "call",
        otel.name = name,
        otel.kind = "server",
        rpc.system = "grpc",
        request = tracing::field::Empty,
        outcome = tracing::field::Empty,
    );
    if let Some(parent) = parent {
        // Fails only for a span that nobody takes.
        let _ = span.set_parent(Otel::new().with_remote_span_context(parent));
    }
    span
}

/// Returns what a call is named: paths come from whoever connects, so only known ones are repeated.
fn name(path: &str) -> &'static str {
    let public = method::ALL.iter().find(|method| method.path == path);
    match (public, path) {
        (Some(method), _) => method.name,
        (None, "/twinkeep.peer.v1.PeerService/Propose") => "Propose",
        (None, _) => "another call",
    }
}

/// The one header that is read.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key == HEADER { self.0.get(HEADER)?.to_str().ok() } else { None }
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

/// What a message on a stream says in place of that header.
struct Message<'a>(&'a str);

impl Extractor for Message<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == HEADER).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

impl<S> Layer<S> for TraceCalls {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, calls: *self }
    }
}

/// A service whose calls have spans.
#[derive(Clone, Debug)]
pub(crate) struct Traced<S> {
    inner: S,
    calls: TraceCalls,
}

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = self.calls.span(&request);
        self.inner.call(request).instrument(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_calls_are_named() {
        assert_eq!(name("/twinkeep.v1.CryptoService/Encrypt"), "Encrypt");
        assert_eq!(name("/twinkeep.peer.v1.PeerService/Propose"), "Propose");
        assert_eq!(name("/anything/an attacker says"), "another call");
    }

    fn calls(begin: Begin, ratio: f64, trust_callers: bool) -> TraceCalls {
        TraceCalls { begin, ratio, trust_callers }
    }

    #[test]
    fn caller_who_is_not_trusted_decides_nothing() {
        let said = |flags| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let (yes, no) = (said("01"), said("00"));
        let records =
            |calls: TraceCalls, said: &str| calls.parent(&Message(said)).unwrap().is_sampled();
        let sampled = Begin::Sampled;
        assert!(!records(calls(sampled, 0.0, false), &yes));
        assert!(records(calls(sampled, 0.0, true), &yes));
        assert!(!records(calls(sampled, 0.0, true), &no));
        assert!(records(calls(sampled, 1.0, false), &no));
        // Nodes follow each other, whatever they would draw themselves.
        assert!(records(calls(Begin::Never, 0.0, false), &yes));
        assert!(!records(calls(Begin::Never, 1.0, true), &no));
    }

    #[test]
    fn traces_are_drawn_in_their_share_whatever_ids_callers_choose() {
        // The sampler of OpenTelemetry would take all of these at any ratio.
        let chosen = (1..=4000_u128).map(TraceId::from);
        let drawn = chosen.filter(|trace| is_drawn(*trace, 0.25)).count();
        assert!((800..1200).contains(&drawn), "{drawn}");
        let trace = TraceId::from(7);
        assert_eq!(is_drawn(trace, 0.5), is_drawn(trace, 0.5));
        assert!(is_drawn(trace, 1.0) && !is_drawn(trace, 0.0));
    }

    #[test]
    fn only_a_well_formed_parent_is_followed() {
        let parent = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, value.parse().unwrap());
            headers.insert("tracestate", "vendor=theirs".parse().unwrap());
            let parent = calls(Begin::Never, 0.0, false).parent(&Headers(&headers))?;
            assert!(parent.trace_state().header().is_empty());
            Some((parent.trace_id().to_string(), parent.is_sampled()))
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        let sampled = parent(&format!("00-{id}-b7ad6b7169203331-01"));
        assert_eq!(sampled, Some((id.to_owned(), true)));
        let not_sampled = parent(&format!("00-{id}-b7ad6b7169203331-00"));
        assert_eq!(not_sampled, Some((id.to_owned(), false)));
        for wrong in ["", "00", "00-0-0-01", &format!("00-{id}-0000000000000000-01")] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }
}
