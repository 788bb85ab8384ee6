//! A histogram of fixed buckets: two additions for a sample, no memory for it.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

/// Upper bounds in seconds, from 10 µs to 10 s.
const SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Upper bounds of what is counted in pieces.
const PIECES: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];
/// Seconds are summed up as nanoseconds: 584 years of them fit.
const PER_SECOND: f64 = 1e9;

/// Samples, counted by size.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// What one is in the sum.
    scale: f64,
    /// One more than there are bounds: the last takes what is beyond.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram holds at one moment. Samples that arrive meanwhile may be in one part of it alone.
#[derive(Debug, PartialEq)]
pub(super) struct Snapshot {
    /// Each bound with the number of samples up to it.
    pub(super) upto: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl Histogram {
    /// Makes an empty one, with bounds that fit the unit in the metric's name.
    pub(super) fn of(name: &str) -> Self {
        let (bounds, scale) =
            if name.ends_with("_seconds") { (SECONDS, PER_SECOND) } else { (PIECES, 1.0) };
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, scale, buckets, sum: AtomicU64::new(0) }
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum is shown as a float")]
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut count = 0;
        let mut add = |bucket: &AtomicU64| {
            count += bucket.load(Ordering::Relaxed);
            count
        };
        let upto = self.bounds.iter().zip(&self.buckets);
        let upto = upto.map(|(bound, bucket)| (*bound, add(bucket))).collect();
        let count = add(&self.buckets[self.bounds.len()]);
        let sum = self.sum.load(Ordering::Relaxed) as f64 / self.scale;
        Snapshot { upto, count, sum }
    }
}

impl HistogramFn for Histogram {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast saturates: what is negative or no number adds nothing"
    )]
    fn record(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * self.scale) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::of("x_seconds");
        for sample in [0.000_01, 0.000_011, 9.9, 11.0, f64::NAN, -1.0] {
            histogram.record(sample);
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.count, 6);
        let upto = |bound: f64| seen.upto.iter().find(|(of, _)| *of == bound).unwrap().1;
        // A bound belongs to its bucket; what is no time counts lowest.
        assert_eq!((upto(0.000_01), upto(0.000_025), upto(5.0), upto(10.0)), (3, 4, 4, 5));
        assert!((seen.sum - 20.900_021).abs() < 1e-6, "{}", seen.sum);
    }

    #[test]
    fn pieces_are_counted_whole() {
        let histogram = Histogram::of("x_items");
        [1.0, 2.0, 3.0, 5000.0].into_iter().for_each(|sample| histogram.record(sample));
        let seen = histogram.snapshot();
        assert_eq!((seen.upto[0].1, seen.upto[1].1, seen.upto[2].1), (1, 2, 3));
        assert_eq!((seen.count, seen.sum), (4, 5006.0));
    }
}
