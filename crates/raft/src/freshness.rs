//! Freshness leases: how old the state may be that a node uses keys by.
//!
//! Every data node answers from its own state, so it must know that this state is not old. A node asks the
//! leader, five times in the length of a lease, for an index that covers all that was acknowledged before it
//! asked; the leader answers after a majority has confirmed its lead in a round begun after the question came.
//! Once the node has applied that index its state is as new as the **sending** of the question, and so it stays
//! fresh for the length of a lease from then.
//!
//! Time is the largest that two clocks show ([`Moment::since`]): the steady clock counts suspension and knows
//! nothing of a paused hypervisor, the wall clock may know and can be set. Whoever uses a key asks again after
//! the result is there: a process that was stopped in between finds its lease over.
//!
//! The leader remembers when a node last asked ([`Granted`]), before it determines the index: for a lease from
//! then, and one in a hundred longer since clocks drift, that node may use what it knew. That is what a barrier
//! waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use twinkeep_core::clock::{Clock, UnixMs};

use crate::lease::millis;

/// Questions in the length of a lease.
pub(crate) const ROUNDS: u32 = 5;
/// How much longer than a lease the leader waits, in hundredths.
const DRIFT_PERCENT: u32 = 1;

/// A moment by both clocks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    steady: Duration,
    unix_ms: UnixMs,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { steady: clock.elapsed(), unix_ms: clock.unix_ms() }
    }

    /// Returns the time from an earlier moment to this one: the largest that either clock shows.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let steady = self.steady.saturating_sub(earlier.steady);
        steady.max(Duration::from_millis(self.unix_ms.saturating_sub(earlier.unix_ms)))
    }
}

/// When a node's state was last known to be new, as it is written down. CBOR `[format, boot id, steady ms, unix
/// ms]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Stamp {
    /// 1; other formats are refused.
    #[n(0)]
    format: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    boot_id: [u8; 16],
    #[n(2)]
    steady_ms: u64,
    #[n(3)]
    unix_ms: UnixMs,
}

impl Stamp {
    const FORMAT: u8 = 1;

    fn of(moment: Moment, boot_id: [u8; 16]) -> Self {
        let (steady_ms, unix_ms) = (millis(moment.steady), moment.unix_ms);
        Self { format: Self::FORMAT, boot_id, steady_ms, unix_ms }
    }

    /// Returns the moment, as the clocks of this start of the machine would have shown it: the steady clock of
    /// another start tells nothing. `None` where the wall clock was set back meanwhile, and nothing else tells.
    fn moment(self, boot_id: [u8; 16], now: Moment) -> Option<Moment> {
        let steady = match self.boot_id == boot_id {
            true => Duration::from_millis(self.steady_ms),
            false if now.unix_ms < self.unix_ms => return None,
            false => now.steady,
        };
        Some(Moment { steady, unix_ms: self.unix_ms })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a Vec takes every byte that is written to it")
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode::<Self>(bytes).ok().filter(|stamp| stamp.format == Self::FORMAT)
    }
}

/// How old a node's state may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The lease holds.
    Fresh,
    /// The lease is over.
    Stale {
        /// Time since the state was last known to be new; `None` on a node that never knew.
        age: Option<Duration>,
    },
}

/// The freshness lease of this node.
pub(crate) struct Lease {
    boot_id: [u8; 16],
    /// When the state was last known to be new. Whether the lease can hold: what an earlier life of the node
    /// wrote down only says since when it does not.
    known: RwLock<Option<(Moment, bool)>>,
}

impl Lease {
    pub(crate) fn new(boot_id: [u8; 16], stored: Option<&[u8]>, clock: &dyn Clock) -> Self {
        let stamp = stored.and_then(Stamp::decode);
        let known = stamp.and_then(|stamp| stamp.moment(boot_id, Moment::now(clock)));
        let known = known.map(|moment| (moment, false));
        Self { boot_id, known: RwLock::new(known) }
    }

    /// Extends the lease: the state covers what was acknowledged when a question was sent.
    pub(crate) fn extend(&self, sent: Moment) {
        *self.known.write() = Some((sent, true));
    }

    /// Tells how old the state may be now, where leases have a length.
    pub(crate) fn freshness(&self, length: Duration, clock: &dyn Clock) -> Freshness {
        let Some((known, holds)) = *self.known.read() else {
            return Freshness::Stale { age: None };
        };
        let age = Moment::now(clock).since(&known);
        if cfg!(twinkeep_break = "freshness-lease") || (holds && age < length) {
            return Freshness::Fresh;
        }
        Freshness::Stale { age: Some(age) }
    }

    /// Returns what is to be written down.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let (known, _) = (*self.known.read())?;
        Some(Stamp::of(known, self.boot_id))
    }
}

/// What a leader knows of the leases of others.
#[derive(Default)]
pub(crate) struct Granted {
    /// When each node last asked for an index.
    last: Mutex<BTreeMap<u64, Instant>>,
}

impl Granted {
    /// Notes that a node asks for an index. To be called before that is determined.
    pub(crate) fn note(&self, node: u64) {
        self.last.lock().insert(node, Instant::now());
    }

    /// Returns when the lease that a node may hold now is surely over, by a leader that leads since then. A leader
    /// before it may have given the node an index up to the election, and no later.
    pub(crate) fn over(&self, node: u64, length: Duration, led_since: Instant) -> Instant {
        let last = self.last.lock().get(&node).copied();
        let longest = length + length * DRIFT_PERCENT / 100;
        last.unwrap_or(led_since).max(led_since) + longest
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const BOOT: [u8; 16] = [7; 16];
    const LENGTH: Duration = Duration::from_secs(5);
    const MS: Duration = Duration::from_millis(1);

    /// Clocks that are set by hand, both in milliseconds.
    #[derive(Default)]
    struct Hands {
        steady: AtomicU64,
        wall: AtomicU64,
    }

    impl Hands {
        fn at(steady: u64, wall: u64) -> Self {
            Self { steady: steady.into(), wall: wall.into() }
        }

        fn pass(&self, ms: u64) {
            self.steady.fetch_add(ms, Ordering::Relaxed);
            self.wall.fetch_add(ms, Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn unix_ms(&self) -> UnixMs {
            self.wall.load(Ordering::Relaxed)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.steady.load(Ordering::Relaxed))
        }
    }

    fn stale(age: Duration) -> Freshness {
        Freshness::Stale { age: Some(age) }
    }

    #[test]
    fn lease_counts_from_the_question_and_ends_by_the_clock_that_ran_furthest() {
        let clock = Hands::at(1_000, 9_000_000);
        let lease = Lease::new(BOOT, None, &clock);
        assert_eq!(lease.freshness(LENGTH, &clock), Freshness::Stale { age: None });
        let sent = Moment::now(&clock);
        clock.pass(3_000);
        lease.extend(sent);
        clock.pass(1_999);
        assert_eq!(lease.freshness(LENGTH, &clock), Freshness::Fresh);
        clock.pass(1);
        assert_eq!(lease.freshness(LENGTH, &clock), stale(LENGTH));

        // Suspended without the steady clock's knowledge.
        lease.extend(Moment::now(&clock));
        clock.wall.fetch_add(5_000, Ordering::Relaxed);
        assert_eq!(lease.freshness(LENGTH, &clock), stale(LENGTH));

        // A wall clock that is set back hides nothing.
        lease.extend(Moment::now(&clock));
        clock.wall.fetch_sub(3_600_000, Ordering::Relaxed);
        clock.steady.fetch_add(5_000, Ordering::Relaxed);
        assert_eq!(lease.freshness(LENGTH, &clock), stale(LENGTH));
    }

    #[test]
    fn restart_holds_no_lease_and_knows_since_when() {
        let clock = Hands::at(1_000, 9_000_000);
        let lease = Lease::new(BOOT, None, &clock);
        lease.extend(Moment::now(&clock));
        let stored = lease.stamp().unwrap().encode();
        clock.pass(100);
        let restarted = Lease::new(BOOT, Some(&stored), &clock);
        assert_eq!(restarted.freshness(LENGTH, &clock), stale(100 * MS));
        // The machine started anew: its steady clock begins again, its wall clock went on.
        let rebooted = Hands::at(10, 9_060_000);
        let after = Lease::new([8; 16], Some(&stored), &rebooted);
        assert_eq!(after.freshness(LENGTH, &rebooted), stale(Duration::from_secs(60)));
        // Its wall clock was set back over the stamp: nobody knows how long it was off.
        let set_back = Hands::at(10, 8_999_999);
        let after = Lease::new([8; 16], Some(&stored), &set_back);
        assert_eq!(after.freshness(LENGTH, &set_back), Freshness::Stale { age: None });
        assert_eq!(
            Lease::new(BOOT, Some(b"rubbish"), &clock).freshness(LENGTH, &clock),
            Freshness::Stale { age: None }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn leader_waits_for_every_lease_that_it_or_the_one_before_let_begin() {
        let granted = Granted::default();
        let elected = Instant::now();
        let longest = LENGTH + LENGTH / 100;
        assert_eq!(granted.over(2, LENGTH, elected), elected + longest);
        tokio::time::advance(LENGTH).await;
        granted.note(2);
        let asked = Instant::now();
        assert_eq!(granted.over(2, LENGTH, elected), asked + longest);
        assert_eq!(granted.over(3, LENGTH, elected), elected + longest);
        // Elected again later: what happened in between is not known.
        let again = asked + LENGTH;
        assert_eq!(granted.over(2, LENGTH, again), again + longest);
    }
}
