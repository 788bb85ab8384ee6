//! Sync leases: what lets a zone say, from its own disk, up to when it holds all that was acknowledged.
//!
//! While every zone is counted on, a leader acknowledges nothing that a zone lacks. It tells the zones so
//! with its messages: *until then I acknowledge nothing without you*. If the leader's zone and the witness are
//! lost together, the other zone has no majority and cannot ask anybody, but its last lease says up to when
//! nothing is missing.
//!
//! - The leader counts from the **sending** of a heartbeat that a majority answered: for an election lease from
//!   then on, which is longer, nobody else can have been elected. So when a lease is over, whoever leads next
//!   has not acknowledged anything before.
//! - The holder's clock is another one. Each answer carries the holder's reading, and a grant names the one it
//!   counts from: the reading is older than the leader's receipt of it, so the holder's count ends first.
//! - Only voters of zones that answer get leases, and a zone is given up after its last one is over. A leader
//!   that hands over stops granting first, and its successor, who did not wait for an election lease, has more
//!   patience with the zones.
//!
//! The newest lease is written to the log database once a second.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use tokio::time::Instant;
use twinkeep_core::clock::UnixMs;
use twinkeep_core::name::ZoneName;

/// How long a grant holds from the sending of the heartbeat that a majority answered. Shorter than the
/// election lease by what the leader's and the holder's clocks may drift in that time, many times over.
pub(crate) const LEASE: Duration = Duration::from_millis(250);
/// Hundredths of a grant that the holder counts: its clock may run slower than the leader's.
const COUNTED: u32 = 99;

/// The last answer of a peer, as the leader received it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The peer's own clock when it answered.
    pub(crate) clock: Duration,
    /// When the answer came.
    pub(crate) at: Instant,
}

/// A lease as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The holder's own reading that it counts from.
    pub(crate) from: Duration,
    /// How long the lease holds from that reading on.
    pub(crate) remaining: Duration,
}

impl Grant {
    /// Grants what is left of a lease to a peer that answers; `None` when nothing is left or it does not.
    pub(crate) fn until(end: Instant, answer: &Answer, now: Instant) -> Option<Self> {
        if cfg!(twinkeep_break = "sync-lease") {
            return Some(Self { from: answer.clock, remaining: 2 * LEASE });
        }
        if end <= now || now.saturating_duration_since(answer.at) > LEASE {
            return None;
        }
        let remaining = (end - answer.at) * COUNTED / 100;
        Some(Self { from: answer.clock, remaining })
    }
}

/// What a zone knows, as it is written down. CBOR `[format, boot id, until, until unix ms]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// 1; other formats are refused.
    #[n(0)]
    format: u8,
    /// The start of the machine whose clock `until_ms` is of: the kernel's boot id.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub boot_id: [u8; 16],
    /// The end of the lease by that machine's clock, milliseconds since its start.
    #[n(2)]
    pub until_ms: u64,
    /// The same by the machine's wall clock, milliseconds since the Unix epoch; that clock may have been set
    /// since.
    #[n(3)]
    pub until_unix_ms: UnixMs,
}

impl Lease {
    const FORMAT: u8 = 1;

    /// Returns the bytes that are stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a Vec takes every byte that is written to it")
    }

    /// Reads stored bytes; `None` for those of another format.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode::<Self>(bytes).ok().filter(|lease| lease.format == Self::FORMAT)
    }
}

/// The lease that this node holds for its zone.
pub(crate) struct Holder {
    boot_id: [u8; 16],
    held: Mutex<Option<Lease>>,
}

impl Holder {
    /// Holds what a former life of the node has written down, until it hears more.
    pub(crate) fn new(boot_id: [u8; 16], stored: Option<&[u8]>) -> Self {
        Self { boot_id, held: Mutex::new(stored.and_then(Lease::decode)) }
    }

    /// Takes a grant, if it counts from a reading that this clock has shown, by the node's clocks now. What is
    /// held already is not shortened: every lease is true.
    pub(crate) fn take(&self, grant: Grant, elapsed: Duration, unix_ms: UnixMs) {
        if grant.from > elapsed || grant.remaining > 2 * LEASE {
            return;
        }
        let until_ms = millis(grant.from + grant.remaining);
        let ahead = i128::from(until_ms) - i128::from(millis(elapsed));
        let until_unix_ms = u64::try_from(i128::from(unix_ms) + ahead).unwrap_or(0);
        let lease = Lease { format: Lease::FORMAT, boot_id: self.boot_id, until_ms, until_unix_ms };
        let mut held = self.held.lock();
        let is_longer = |held: &Lease| held.boot_id != self.boot_id || held.until_ms < until_ms;
        if held.as_ref().is_none_or(is_longer) {
            *held = Some(lease);
        }
    }

    pub(crate) fn held(&self) -> Option<Lease> {
        *self.held.lock()
    }
}

/// Longest that handing over the lead takes, from the first message on.
const TRANSFER_MAX: Duration = Duration::from_secs(2);

/// The sync leases of one node: what it holds, and whether it may grant.
pub(crate) struct Leases {
    pub(crate) holder: Holder,
    /// Until when each zone was granted leases at the latest, by this node as leader.
    granted: Mutex<BTreeMap<ZoneName, Instant>>,
    /// When this node last began to hand over the lead.
    handed_over: Mutex<Option<Instant>>,
    /// When this node was last asked to stand for election by the leader.
    asked_to_lead: Mutex<Option<Instant>>,
}

impl Leases {
    pub(crate) fn new(holder: Holder) -> Self {
        let (granted, handed_over, asked_to_lead) = Default::default();
        Self { holder, granted, handed_over, asked_to_lead }
    }

    /// Notes a grant to a node of a zone.
    pub(crate) fn note_granted(&self, zone: ZoneName, end: Instant) {
        let mut granted = self.granted.lock();
        let latest = granted.entry(zone).or_insert(end);
        *latest = end.max(*latest);
    }

    /// Returns until when a zone holds leases at the latest.
    pub(crate) fn granted_until(&self, zone: &ZoneName) -> Option<Instant> {
        self.granted.lock().get(zone).copied()
    }

    /// Grants nothing from now on: the successor does not wait for what was granted to end.
    pub(crate) fn hand_over(&self) {
        *self.handed_over.lock() = Some(Instant::now());
    }

    /// Tells whether this node may grant, as far as it does not hand over.
    pub(crate) fn may_grant(&self) -> bool {
        !is_recent(&self.handed_over)
    }

    pub(crate) fn note_asked_to_lead(&self) {
        *self.asked_to_lead.lock() = Some(Instant::now());
    }

    pub(crate) fn was_asked_to_lead(&self) -> bool {
        is_recent(&self.asked_to_lead)
    }
}

fn is_recent(at: &Mutex<Option<Instant>>) -> bool {
    at.lock().is_some_and(|at| at.elapsed() < TRANSFER_MAX)
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: [u8; 16] = [7; 16];
    const MS: Duration = Duration::from_millis(1);

    fn holder() -> Holder {
        Holder::new(BOOT, None)
    }

    #[test]
    fn lease_is_granted_to_those_who_answer_and_while_it_lasts() {
        let now = Instant::now() + Duration::from_secs(10);
        let answer = |ago| Answer { clock: Duration::from_secs(5), at: now - ago };
        assert!(Grant::until(now + 100 * MS, &answer(LEASE), now).is_some());
        assert!(Grant::until(now + 100 * MS, &answer(LEASE + MS), now).is_none());
        assert!(Grant::until(now, &answer(MS), now).is_none());
    }

    #[test]
    fn grant_from_a_reading_that_was_never_shown_is_no_lease() {
        let holder = holder();
        let elapsed = Duration::from_secs(5);
        holder.take(Grant { from: elapsed + MS, remaining: MS }, elapsed, 1_000);
        holder.take(Grant { from: elapsed, remaining: 3 * LEASE }, elapsed, 1_000);
        assert_eq!(holder.held(), None);
        holder.take(Grant { from: elapsed, remaining: LEASE }, elapsed, 1_000);
        let held = holder.held().unwrap();
        assert_eq!((held.until_ms, held.until_unix_ms), (5_250, 1_250));
    }

    #[test]
    fn shorter_lease_takes_nothing_back_and_a_new_start_of_the_machine_counts_anew() {
        let holder = holder();
        let elapsed = Duration::from_secs(5);
        holder.take(Grant { from: elapsed, remaining: LEASE }, elapsed, 1_000);
        holder.take(Grant { from: elapsed, remaining: MS }, elapsed, 1_000);
        let held = holder.held().unwrap();
        assert_eq!(held.until_ms, 5_250);
        let restarted = Holder::new([8; 16], Some(&held.encode()));
        assert_eq!(restarted.held(), Some(held), "what was known stays known");
        restarted.take(Grant { from: MS, remaining: MS }, 2 * MS, 2_000);
        assert_eq!(restarted.held().unwrap().until_ms, 2);
    }

    #[test]
    fn written_lease_reads_back_and_another_format_does_not() {
        let lease = Lease { format: 1, boot_id: BOOT, until_ms: 5_250, until_unix_ms: 1_250 };
        assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        assert_eq!(Lease::decode(&Lease { format: 2, ..lease }.encode()), None);
        assert_eq!(Lease::decode(b"rubbish"), None);
    }

    proptest! {
        /// Whatever the messages take and however far the clocks drift within one per cent, the holder's
        /// count is over before the leader's.
        #[test]
        fn holder_counts_no_longer_than_the_leader(
            sent_ms in 0_u64..1_000,
            there_ms in 0_u64..200,
            back_ms in 0_u64..200,
            grant_ms in 0_u64..200,
            quorum_ms in 0_u64..250,
            drift in -10_i32..=10,
            offset_ms in 0_u64..1_000_000,
        ) {
            // All times are the leader's, from one moment; the holder's clock is a line over them.
            let begin = Instant::now();
            let reads = |at_ms: u64| {
                let rate = f64::from(1000 + drift) / 1000.0;
                Duration::from_millis(offset_ms) + Duration::from_millis(at_ms).mul_f64(rate)
            };
            let answered_ms = sent_ms + there_ms;
            let received_ms = answered_ms + back_ms;
            let answer = Answer { clock: reads(answered_ms), at: begin + received_ms as u32 * MS };
            let now_ms = received_ms + grant_ms;
            let end_ms = now_ms + LEASE.as_millis() as u64 - quorum_ms;
            let end = begin + end_ms as u32 * MS;
            if let Some(grant) = Grant::until(end, &answer, begin + now_ms as u32 * MS) {
                prop_assert!(grant.from + grant.remaining <= reads(end_ms) + MS);
            }
        }
    }
}
