//! How long calls take: a fading histogram, for the moment at which a hedge is worth it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Buckets; the upper bound of number n is 2^(n/2) × 16 µs, so the last one begins at 12 minutes.
const BUCKETS: usize = 52;
/// Calls after which all counts are halved, so that old ones fade.
const HALVE_AFTER: u32 = 1024;
/// Calls after which the percentile is worked out anew; the first few each do so.
const REFRESH_EVERY: u32 = 32;

/// Upper bounds of the buckets, in nanoseconds.
const BOUNDS: [u64; BUCKETS] = {
    let mut bounds = [0; BUCKETS];
    let mut number = 0;
    while number < BUCKETS {
        // Between two doublings lies the square root of two.
        let base = if number % 2 == 0 { 16_000 } else { 22_627 };
        bounds[number] = base << (number / 2);
        number += 1;
    }
    bounds
};

/// Counts how long calls took. All operations are a few atomic ones; lost counts do no harm.
#[derive(Debug)]
pub(crate) struct Latency {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
    p95_ns: AtomicU64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let counts = [const { AtomicU32::new(0) }; BUCKETS];
        Self { counts, total: AtomicU32::new(0), p95_ns: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, took: Duration) {
        self.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
        let total = self.total.fetch_add(1, Ordering::Relaxed);
        if total >= HALVE_AFTER {
            self.halve();
        }
        if total < REFRESH_EVERY || total.is_multiple_of(REFRESH_EVERY) {
            self.p95_ns.store(self.work_out(), Ordering::Relaxed);
        }
    }

    /// Returns the upper bound of the bucket that the 95th percentile fell into lately; zero without any call.
    pub(crate) fn p95(&self) -> Duration {
        Duration::from_nanos(self.p95_ns.load(Ordering::Relaxed))
    }

    fn work_out(&self) -> u64 {
        let counts = self.counts.each_ref().map(|count| u64::from(count.load(Ordering::Relaxed)));
        let needed = counts.iter().sum::<u64>() * 95 / 100;
        let mut seen = 0;
        for (count, bound) in counts.into_iter().zip(BOUNDS) {
            seen += count;
            if seen > needed {
                return bound;
            }
        }
        0
    }

    fn halve(&self) {
        let mut left = 0;
        for count in &self.counts {
            let half = count.load(Ordering::Relaxed) / 2;
            count.store(half, Ordering::Relaxed);
            left += half;
        }
        self.total.store(left, Ordering::Relaxed);
    }
}

fn bucket(took: Duration) -> usize {
    let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    BOUNDS.partition_point(|bound| *bound < took_ns).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p95_is_within_a_bucket_of_the_truth() {
        let latency = Latency::new();
        assert_eq!(latency.p95(), Duration::ZERO);
        for ms in 1..=100 {
            latency.record(Duration::from_millis(ms));
        }
        let p95 = latency.p95();
        assert!((95..136).contains(&p95.as_millis()), "{p95:?}");
    }

    #[test]
    fn old_calls_fade() {
        let latency = Latency::new();
        (0..1000).for_each(|_| latency.record(Duration::from_secs(1)));
        (0..20_000).for_each(|_| latency.record(Duration::from_millis(1)));
        assert!(latency.p95() < Duration::from_millis(2), "{:?}", latency.p95());
    }

    #[test]
    fn longest_and_shortest_times_have_a_bucket() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket(Duration::from_micros(16)), 0);
        assert_eq!(bucket(Duration::from_micros(33)), 3);
        assert!(BOUNDS.is_sorted());
    }
}
