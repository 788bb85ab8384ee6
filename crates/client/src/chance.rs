//! Chance that is no secret: to spread what many clients do over time.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Draws a time between half of the one given and all of it, so that clients do not come back together.
pub(crate) fn jitter(time: Duration) -> Duration {
    let draw = RandomState::new().hash_one(time) % 512;
    time / 2 + (time / 2) * u32::try_from(draw).expect("less than 512") / 511
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_between_half_and_all() {
        let all = Duration::from_millis(100);
        let drawn: Vec<_> = (0..1000).map(|_| jitter(all)).collect();
        assert!(drawn.iter().all(|time| (all / 2..=all).contains(time)));
        assert!(drawn.iter().any(|time| *time < all * 6 / 10));
        assert!(drawn.iter().any(|time| *time > all * 9 / 10));
    }
}
