//! How much may be tried again: a token bucket (gRFC A6, "throttling").
//!
//! Each second attempt costs a token and each success earns a tenth of one. A zone that dies breaks
//! hundreds of calls at once, which the burst covers: those that are open on the streams of five nodes, and some. A
//! service that fails all the time is called at most a tenth more often than its callers ask for.

use std::sync::atomic::{AtomicI64, Ordering};

/// Tokens that are there at the start and at most, in tenths.
const FULL: i64 = 10 * 1500;
/// What a second attempt costs, in tenths.
const COST: i64 = 10;

#[derive(Debug)]
pub(crate) struct Budget(AtomicI64);

impl Budget {
    pub(crate) fn full() -> Self {
        Self(AtomicI64::new(FULL))
    }

    /// Takes the token of a second attempt, if there is one.
    pub(crate) fn spend(&self) -> bool {
        let spend = |left: i64| (left >= COST).then(|| left - COST);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    /// Returns how many tokens are there.
    pub(crate) fn left(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed) / COST).unwrap_or(0)
    }

    /// Earns a tenth of a token by a success.
    pub(crate) fn earn(&self) {
        let earn = |left: i64| (left < FULL).then(|| left + 1);
        // An `Err` says that the bucket is full.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_fifteen_hundred_and_ten_successes_buy_one_more() {
        let budget = Budget::full();
        budget.earn();
        assert_eq!(budget.left(), 1500);
        assert_eq!((0..2000).filter(|_| budget.spend()).count(), 1500);
        (0..9).for_each(|_| budget.earn());
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend());
        assert!(!budget.spend());
    }
}
