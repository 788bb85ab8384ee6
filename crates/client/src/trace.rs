//! What a call is called across processes: a W3C `traceparent`
//! (<https://www.w3.org/TR/trace-context/>, version 00).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tonic::Request;

/// Metadata of single calls.
const METADATA: &str = "traceparent";
/// Length of the text: `00-`, 32 hex digits, `-`, 16 hex digits, `-`, 2 hex digits.
const TEXT_BYTES: usize = 55;

/// The trace that a call belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trace {
    /// The caller's.
    Given(Arc<str>),
    /// That of the application, or one of the call's own, which nobody has asked to record.
    Ids { trace: [u64; 2], span: u64, sampled: bool },
}

impl Trace {
    /// Takes a caller's text, if it is a `traceparent` of version 00.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('-').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let hex = |part: &&str| {
            part.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
        };
        let zero = |part: &str| part.bytes().all(|digit| digit == b'0');
        let good = lengths == [2, 32, 16, 2]
            && parts.iter().all(hex)
            && parts[0] == "00"
            && !zero(parts[1])
            && !zero(parts[2]);
        good.then(|| Self::Given(text.into()))
    }

    /// Takes the application's, if this is polled in an OpenTelemetry span: one that was made current, or that
    /// `tracing-opentelemetry` did for a span of `tracing`.
    pub(crate) fn current() -> Option<Self> {
        Context::map_current(|context| {
            if !context.has_active_span() {
                return None;
            }
            let span = context.span();
            let here = span.span_context();
            let trace = u128::from_be_bytes(here.trace_id().to_bytes());
            let half = |shift: u32| u64::try_from(trace >> shift & u128::from(u64::MAX));
            let half = |shift| half(shift).expect("64 bits");
            here.is_valid().then(|| Self::Ids {
                trace: [half(64), half(0)],
                span: u64::from_be_bytes(here.span_id().to_bytes()),
                sampled: here.is_sampled(),
            })
        })
    }

    /// Makes a trace that no other call has. It is a name and no secret: a keyed hash of a counter serves,
    /// and costs no system call.
    pub(crate) fn draw() -> Self {
        static KEYS: OnceLock<[RandomState; 3]> = OnceLock::new();
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let keys = KEYS.get_or_init(|| [(); 3].map(|()| RandomState::new()));
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        // An id of zeros is none.
        let [one, two, span] = keys.each_ref().map(|key| key.hash_one(count).max(1));
        Self::Ids { trace: [one, two], span, sampled: false }
    }

    /// Writes it as it travels.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Given(text) => String::from(&**text),
            Self::Ids { trace, span, sampled } => of_ids(*trace, *span, *sampled),
        }
    }
}

/// Writes `00-<trace>-<span>-00`, or with `01`, in one go: it is done for each call.
fn of_ids([high, low]: [u64; 2], span: u64, sampled: bool) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    text.push_str("00-");
    push_hex(&mut text, high);
    push_hex(&mut text, low);
    text.push('-');
    push_hex(&mut text, span);
    text.push_str(if sampled { "-01" } else { "-00" });
    text
}

fn push_hex(text: &mut String, number: u64) {
    for shift in (0..u64::BITS).step_by(4).rev() {
        let digit = u32::try_from((number >> shift) & 0xf).expect("four bits");
        text.push(char::from_digit(digit, 16).expect("less than 16"));
    }
}

/// Makes a single call's request with its time and its trace.
pub(crate) fn timed<R>(message: R, left: Duration, trace: Option<&Trace>) -> Request<R> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    if let Some(trace) = trace.and_then(|trace| trace.text().parse().ok()) {
        request.metadata_mut().insert(METADATA, trace);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_traces_are_well_formed_and_differ() {
        let (one, other) = (Trace::draw(), Trace::draw());
        assert_ne!(one, other);
        for text in [one, other].map(|trace| trace.text()) {
            assert_eq!(text.len(), TEXT_BYTES);
            assert_eq!(Trace::parse(&text).unwrap().text(), text);
        }
        let text = Trace::Ids { trace: [0xa, 0xb], span: 0xc, sampled: false }.text();
        assert_eq!(text, "00-000000000000000a000000000000000b-000000000000000c-00");
    }

    #[test]
    fn what_is_no_traceparent_is_not_passed_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(Trace::parse(good).is_some());
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e47\r\n-00f067aa0ba902b7-01",
        ] {
            assert!(Trace::parse(bad).is_none(), "{bad}");
        }
    }
}
