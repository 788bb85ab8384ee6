//! What became of the calls of one load.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;

use super::window::Window;
use super::wire::CallError;

/// The number of gRPC's `RESOURCE_EXHAUSTED`.
pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
/// Longest latency that is told apart, in nanoseconds: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// Counts and times calls while the window is open.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    window: &'a Window,
    answered: Cell<u64>,
    refused: RefCell<BTreeMap<u32, u64>>,
    abandoned: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
    service: RefCell<Histogram<u64>>,
    first_refusal: RefCell<Option<String>>,
}

impl<'a> Tally<'a> {
    /// Begins to count for a window.
    pub(crate) fn new(window: &'a Window) -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
                .expect("the bounds are in order and the digits few")
        };
        Self {
            window,
            answered: Cell::default(),
            refused: RefCell::default(),
            abandoned: Cell::default(),
            latency: RefCell::new(histogram()),
            service: RefCell::new(histogram()),
            first_refusal: RefCell::default(),
        }
    }

    /// Returns the window that calls are counted for.
    pub(crate) fn window(&self) -> &'a Window {
        self.window
    }

    /// Notes the end of a call that was to be sent at `intended` and was sent at `sent`. Fails when the
    /// connection did, since nothing more can be measured on it.
    pub(crate) fn note<A>(
        &self,
        intended: Instant,
        sent: Instant,
        outcome: Result<A, CallError>,
    ) -> anyhow::Result<()> {
        match outcome {
            Ok(_) if self.window.is_open() => self.answered(intended, sent),
            Ok(_) => {}
            Err(CallError::Refused { code, message }) => {
                self.first_refusal
                    .borrow_mut()
                    .get_or_insert_with(|| format!("gRPC status {code}: {message}"));
                if self.window.is_open() {
                    *self.refused.borrow_mut().entry(code).or_default() += 1;
                }
            }
            Err(error @ CallError::Connection(_)) => bail!(error),
        }
        Ok(())
    }

    fn answered(&self, intended: Instant, sent: Instant) {
        self.answered.set(self.answered.get() + 1);
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.latency.borrow_mut().saturating_record(ns(intended.elapsed()));
        self.service.borrow_mut().saturating_record(ns(sent.elapsed()));
    }

    /// Notes a call that was due and could not even be sent.
    pub(crate) fn abandon(&self) {
        if self.window.is_open() {
            self.abandoned.set(self.abandoned.get() + 1);
        }
    }

    /// Calls that were answered.
    pub(crate) fn answers(&self) -> u64 {
        self.answered.get()
    }

    /// Calls that were refused, whatever the code.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.borrow().values().sum()
    }

    /// Calls that were refused with one code.
    pub(crate) fn refusals_with(&self, code: u32) -> u64 {
        self.refused.borrow().get(&code).copied().unwrap_or(0)
    }

    /// Calls that were due and could not be sent, since too many were waiting.
    pub(crate) fn abandonments(&self) -> u64 {
        self.abandoned.get()
    }

    /// What the first refusal said, in the warm-up or later.
    pub(crate) fn first_refusal(&self) -> Option<String> {
        self.first_refusal.borrow().clone()
    }

    /// A percentile of the time from when a call was due to its answer, in microseconds.
    pub(crate) fn latency_us(&self, percentile: f64) -> f64 {
        micros(self.latency.borrow().value_at_percentile(percentile))
    }

    /// A percentile of the time from when a call was sent to its answer, in microseconds.
    pub(crate) fn service_us(&self, percentile: f64) -> f64 {
        micros(self.service.borrow().value_at_percentile(percentile))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a minute of nanoseconds is far below 2^52")]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_outside_the_window_is_not_counted() {
        let window = Window::new();
        let tally = Tally::new(&window);
        let now = Instant::now();
        tally.note(now, now, Ok(())).unwrap();
        let refused = CallError::Refused { code: 8, message: "busy".to_owned() };
        tally.note::<()>(now, now, Err(refused)).unwrap();
        assert_eq!((tally.answers(), tally.refusals()), (0, 0));
        assert_eq!(tally.first_refusal().unwrap(), "gRPC status 8: busy");
    }

    #[test]
    fn broken_connection_ends_the_load() {
        let window = Window::new();
        let broken = CallError::Connection("reset".to_owned());
        let now = Instant::now();
        assert!(Tally::new(&window).note::<()>(now, now, Err(broken)).is_err());
    }
}
