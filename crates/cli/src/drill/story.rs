//! What happened in a drill: the calls, the writes and what the nodes said, with the moments that stand out.

use std::time::{Duration, Instant};

use twinkeep_client::v1::ReplicationMode;

use super::watch::Sight;
use crate::dev::load::{self, Call, Write};
use crate::dev::loss::How;

/// Calls that take longer stand out: the client library has asked a second node by then.
pub(super) const SLOW: Duration = Duration::from_millis(10);
/// Calls that were due within this time after the loss, or open at it, make up the event.
pub(super) const EVENT: Duration = Duration::from_secs(2);

/// A drill from beginning to end.
#[derive(Debug)]
pub(super) struct Story {
    /// The zone that was lost.
    pub(super) zone: String,
    pub(super) how: How,
    /// The node that led before.
    pub(super) leader: String,
    /// Whether it stood in that zone.
    pub(super) led_there: bool,
    /// Calls a second that were due.
    pub(super) rate: u32,
    /// When all of the load was there.
    pub(super) began: Instant,
    /// When the loss was begun, and when it was in force.
    pub(super) lost: (Instant, Instant),
    /// When the zone's processes ran again.
    pub(super) back: Instant,
    pub(super) ended: Instant,
    pub(super) calls: Vec<Call>,
    pub(super) writes: Vec<Write>,
    /// What data nodes said, in order.
    pub(super) sights: Vec<Sight>,
}

impl Story {
    /// Returns the time from the loss to a moment.
    pub(super) fn since_loss(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.lost.0)
    }

    /// Returns the calls of the event.
    pub(super) fn event(&self) -> impl Iterator<Item = &Call> {
        let (lost, _) = self.lost;
        self.calls.iter().filter(move |call| call.ended() >= lost && call.due < lost + EVENT)
    }

    /// Returns the first call that failed at all.
    pub(super) fn first_failed(&self) -> Option<&Call> {
        self.calls.iter().filter(|call| call.failed.is_some()).min_by_key(|call| call.ended())
    }

    /// Returns the first call that the loss made slow.
    pub(super) fn first_slow(&self) -> Option<&Call> {
        self.event().filter(|call| call.took > SLOW).min_by_key(|call| call.due)
    }

    /// Returns when the first control write was acknowledged after the loss.
    pub(super) fn writes_again(&self) -> Option<Instant> {
        load::writes_again(&self.writes, self.lost)
    }

    /// Returns who led from when on, as nodes say themselves. In the zone that is lost nobody counts from then on: who
    /// was stopped goes on believing what it believed.
    pub(super) fn leaders(&self) -> Vec<(Instant, &str)> {
        let (lost, _) = self.lost;
        let counts = |sight: &&Sight| sight.zone != self.zone || sight.at < lost;
        let mut leaders = vec![(self.began, self.leader.as_str())];
        let leads = |sight: &&Sight| sight.said.is_some_and(|said| said.leads);
        for sight in self.sights.iter().filter(counts).filter(leads) {
            if leaders.last().is_none_or(|(_, last)| *last != sight.node) {
                leaders.push((sight.at.max(self.began), &sight.node));
            }
        }
        leaders
    }

    /// Returns the first node that led after the loss, if another one did before, and since when.
    pub(super) fn new_leader(&self) -> Option<(Instant, &str)> {
        self.leaders().into_iter().find(|(at, _)| *at >= self.lost.0)
    }

    /// Returns the replication modes and since when, as those nodes say that are not in the lost zone.
    pub(super) fn modes(&self) -> Vec<(Instant, ReplicationMode)> {
        let mut revision = None;
        let mut modes = Vec::new();
        let others = self.sights.iter().filter(|sight| sight.zone != self.zone);
        for (at, said) in others.filter_map(|sight| Some((sight.at, sight.said?))) {
            // Each node says it when it has applied it: the first one tells when.
            if revision.is_none_or(|last| said.revision > last) {
                revision = Some(said.revision);
                modes.push((at.max(self.began), said.mode));
            }
        }
        modes
    }

    /// Returns when a mode was first reached after a moment.
    pub(super) fn reached(&self, mode: ReplicationMode, after: Instant) -> Option<Instant> {
        let modes = self.modes().into_iter();
        modes.filter(|(at, reached)| *reached == mode && *at >= after).map(|(at, _)| at).next()
    }

    /// Returns when the zone was counted on again.
    pub(super) fn in_sync(&self) -> Option<Instant> {
        self.reached(ReplicationMode::Sync, self.back)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use twinkeep_client::v1::Durability;

    use super::*;
    use crate::dev::load::Made;
    use crate::drill::watch::Said;

    const MS: Duration = Duration::from_millis(1);

    fn sight(at: Instant, node: &str, leads: bool, mode: ReplicationMode, revision: u64) -> Sight {
        let (node, zone) = (node.to_owned(), node[..1].to_owned());
        Sight { at, node, zone, said: Some(Said { leads, mode, revision }) }
    }

    /// The leader's zone a is silent for 5 s and comes back, as it goes.
    pub(in crate::drill) fn story() -> Story {
        use ReplicationMode::{Degraded, Recovering, Sync};
        let began = Instant::now();
        let lost = began + 3000 * MS;
        let back = lost + 5000 * MS;
        let calls = (0..10_000_u32).map(|n| {
            let due = began + n * MS;
            let slow = due + 20 * MS >= lost && due < lost + 200 * MS && n % 7 == 0;
            let took = if slow { 23 * MS } else { MS + MS * (n % 10) / 10 };
            Call { due, took, failed: None }
        });
        let made = |durability| {
            let (key_id, state_index) = (String::new(), 1);
            Ok(Made { key_id, durability, state_index, ciphertext: Ok(Bytes::new()) })
        };
        let write = |(sent, took): (Instant, Duration)| {
            let degraded = sent > lost && sent < back + 700 * MS;
            let durability = if degraded { Durability::SingleZone } else { Durability::EveryZone };
            Write { sent, ended: sent + took, made: made(durability) }
        };
        let before = (0..149_u32).map(|n| (began + n * 20 * MS, 4 * MS));
        let during = [(lost - 10 * MS, 548 * MS)];
        let after = (0..220_u32).map(|n| (lost + (560 + n * 20) * MS, 3 * MS));
        let writes = before.chain(during).chain(after).map(write).collect();
        let sights = vec![
            sight(began, "a1", true, Sync, 4),
            sight(began, "b1", false, Sync, 4),
            sight(began, "b2", false, Sync, 4),
            Sight { said: None, ..sight(lost + 250 * MS, "a1", false, Sync, 0) },
            sight(lost + 530 * MS, "b1", true, Sync, 4),
            sight(lost + 545 * MS, "b1", true, Degraded, 5),
            sight(lost + 560 * MS, "b2", false, Degraded, 5),
            sight(back + 20 * MS, "a1", true, Sync, 4),
            sight(back + 420 * MS, "b2", false, Recovering, 6),
            sight(back + 430 * MS, "b1", true, Recovering, 6),
            sight(back + 700 * MS, "b1", true, Sync, 7),
        ];
        let (zone, leader, how) = ("a".to_owned(), "a1".to_owned(), How::Silent);
        Story {
            zone,
            how,
            leader,
            led_there: true,
            rate: 1000,
            began,
            lost: (lost, lost + MS),
            back,
            ended: began + 10_000 * MS,
            calls: calls.collect(),
            writes,
            sights,
        }
    }

    #[test]
    fn moments_are_those_of_the_zones_that_are_left() {
        let story = story();
        let after = |at: Option<Instant>| at.map(|at| story.since_loss(at).as_millis());
        let new = story.new_leader().unwrap();
        assert_eq!((new.1, after(Some(new.0))), ("b1", Some(530)));
        assert_eq!(after(story.writes_again()), Some(538));
        assert_eq!(after(story.reached(ReplicationMode::Degraded, story.lost.0)), Some(545));
        // The old leader comes back with its old belief, which counts for nothing.
        assert_eq!(after(story.in_sync()), Some(5700));
        assert_eq!(story.leaders().len(), 2);
        assert!(story.first_failed().is_none());
        let slow = story.first_slow().unwrap();
        assert!(slow.due < story.lost.0 && slow.ended() >= story.lost.0, "{slow:?}");
    }

    #[test]
    fn leader_that_stays_is_no_new_one() {
        let mut story = story();
        (story.zone, story.leader, story.led_there) = ("b".to_owned(), "a1".to_owned(), false);
        story.sights = vec![sight(story.began, "a1", true, ReplicationMode::Sync, 4)];
        assert_eq!(story.new_leader(), None);
        assert_eq!(story.in_sync(), None);
    }
}
