//! How long calls take: a fading histogram, for the moment at which a hedge is worth it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Buckets; the upper bound of number n is 2^(n/2) × 16 µs, so the last one begins at 12 minutes.
const BUCKETS: usize = 52;
/// Calls after which all counts are halved, so that old ones fade.
const HALVE_AFTER: u32 = 1024;

/// Counts how long calls took. All operations are a few atomic ones; lost counts do no harm.
#[derive(Debug)]
pub(crate) struct Latency {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; BUCKETS], total: AtomicU32::new(0) }
    }

    pub(crate) fn record(&self, took: Duration) {
        self.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
        if self.total.fetch_add(1, Ordering::Relaxed) >= HALVE_AFTER {
            self.halve();
        }
    }

    /// Returns the upper bound of the bucket that the 95th percentile falls into; zero without any call.
    pub(crate) fn p95(&self) -> Duration {
        let counts = self.counts.each_ref().map(|count| u64::from(count.load(Ordering::Relaxed)));
        let needed = counts.iter().sum::<u64>() * 95 / 100;
        let mut seen = 0;
        for (number, count) in counts.into_iter().enumerate() {
            seen += count;
            if seen > needed {
                return bound(number);
            }
        }
        Duration::ZERO
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

fn bound(number: usize) -> Duration {
    let exponent = f64::from(u32::try_from(number).expect("there are few buckets")) / 2.0;
    Duration::from_secs_f64(16e-6 * exponent.exp2())
}

fn bucket(took: Duration) -> usize {
    (0..BUCKETS - 1).find(|number| took <= bound(*number)).unwrap_or(BUCKETS - 1)
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
    }
}
