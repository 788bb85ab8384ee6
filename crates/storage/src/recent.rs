//! How long the last syncs took, for whoever asks how fast the disk is: also where nothing collects metrics.

use std::time::Duration;

use parking_lot::Mutex;

/// How many syncs are remembered.
const REMEMBERED: usize = 1024;

/// The times of the last syncs.
#[derive(Debug, Default)]
pub(crate) struct RecentTimes {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    times: Vec<Duration>,
    /// Where the next one goes once the ring is full.
    next: usize,
}

/// What the last syncs of a log come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syncs {
    /// How many this is about; at most 1024.
    pub count: usize,
    /// The time that 99 of 100 took at most; zero where there was none.
    pub p99: Duration,
}

impl RecentTimes {
    pub(crate) fn note(&self, time: Duration) {
        let Ring { times, next } = &mut *self.ring.lock();
        if times.len() < REMEMBERED {
            times.push(time);
        } else {
            times[*next] = time;
            *next = (*next + 1) % REMEMBERED;
        }
    }

    pub(crate) fn summary(&self) -> Syncs {
        let mut times = self.ring.lock().times.clone();
        times.sort_unstable();
        let count = times.len();
        // Rounded up: of few, the slowest counts.
        let place = (count * 99).div_ceil(100).max(1) - 1;
        Syncs { count, p99: times.get(place).copied().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(millis: impl IntoIterator<Item = u64>) -> Syncs {
        let recent = RecentTimes::default();
        millis.into_iter().for_each(|ms| recent.note(Duration::from_millis(ms)));
        recent.summary()
    }

    #[test]
    fn slowest_of_a_hundred_is_left_out_and_of_few_it_counts() {
        assert_eq!(noted([]), Syncs::default());
        assert_eq!(noted([7]), Syncs { count: 1, p99: Duration::from_millis(7) });
        assert_eq!(noted(1..=10).p99, Duration::from_millis(10));
        assert_eq!(noted(1..=100).p99, Duration::from_millis(99));
    }

    #[test]
    fn old_times_are_forgotten() {
        let slow_first = (0..100).map(|_| 500).chain((0..REMEMBERED as u64).map(|_| 1));
        assert_eq!(noted(slow_first), Syncs { count: REMEMBERED, p99: Duration::from_millis(1) });
    }
}
