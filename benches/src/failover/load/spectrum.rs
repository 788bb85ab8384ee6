//! How long calls took, all of them: kept in the runs' file, and added up over runs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Digits of a time that are kept.
const DIGITS: u8 = 2;
/// Longest time that is told apart, in microseconds: a minute.
const LONGEST_US: u64 = 60_000_000;

/// Times of calls, in microseconds, to two digits. Written as pairs of time and number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(crate) struct Spectrum(Histogram<u64>);

impl Default for Spectrum {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        Self(histogram.expect("the bounds are in order and the digits few"))
    }
}

impl Spectrum {
    /// Notes a call.
    pub(crate) fn add(&mut self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.0.saturating_record(took_us);
    }

    /// Adds what another one holds.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (took_us, count) in Vec::from(other.clone()) {
            self.0.saturating_record_n(took_us, count);
        }
    }

    /// Returns a percentile in milliseconds; no number where there was no call.
    pub(crate) fn percentile_ms(&self, percentile: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        ms(self.0.value_at_percentile(percentile))
    }

    /// Returns the longest time in milliseconds; no number where there was no call.
    pub(crate) fn max_ms(&self) -> f64 {
        if self.0.is_empty() { f64::NAN } else { ms(self.0.max()) }
    }

    /// Returns the number of calls.
    #[cfg(test)]
    fn count(&self) -> u64 {
        self.0.len()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a minute of microseconds is far below 2^52")]
fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

impl From<Vec<(u64, u64)>> for Spectrum {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut spectrum = Self::default();
        for (took_us, count) in pairs {
            spectrum.0.saturating_record_n(took_us, count);
        }
        spectrum
    }
}

impl From<Spectrum> for Vec<(u64, u64)> {
    fn from(spectrum: Spectrum) -> Self {
        let recorded = spectrum.0.iter_recorded();
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut spectrum = Spectrum::default();
        (0..999).for_each(|_| spectrum.add(Duration::from_millis(2)));
        spectrum.add(Duration::from_millis(250));
        let text = serde_json::to_string(&spectrum).unwrap();
        let read: Spectrum = serde_json::from_str(&text).unwrap();
        assert_eq!(read.count(), 1000);
        assert_eq!(read.percentile_ms(99.0), spectrum.percentile_ms(99.0));
        assert!((2.0..2.05).contains(&read.percentile_ms(99.0)), "{}", read.percentile_ms(99.0));
        assert!((249.0..254.0).contains(&read.max_ms()), "{}", read.max_ms());
        let mut both = Spectrum::default();
        both.merge(&spectrum);
        both.merge(&read);
        assert_eq!(both.count(), 2000);
        assert!(Spectrum::default().max_ms().is_nan());
    }
}
