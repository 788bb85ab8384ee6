//! Where the lead belongs, and when it goes there. Functions of what a node sees; `node::leadership` feeds them.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;
use twinkeep_core::leadership::Leadership;
use twinkeep_core::name::ZoneName;

/// Entries that a node may lack and still be handed the lead: it has them before it asks for votes, within the
/// time of one message.
const LAG_MAX: u64 = 256;
/// Silence of a node after which nothing is handed to it.
const SILENCE_MAX: Duration = Duration::from_millis(200);
/// The longest that a preferred zone has to be steady before the lead goes back to it. A lead that stayed there for
/// this long has lasted.
pub(crate) const STRETCH_MAX: Duration = Duration::from_secs(600);
/// A gap between two looks after which a zone has to be steady anew: this process was paused.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// How long nobody has to lead before a node of a drained zone stands for election. The nodes of the other zone
/// have tried several times by then, and the witness once.
const LAST_RESORT: Duration = Duration::from_secs(1);

/// A voting data node that is not the leader, as the leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) node: u64,
    pub(crate) zone: ZoneName,
    /// Whether it holds no keys, or nobody knows: a leader has to sign.
    pub(crate) is_sealed: bool,
    /// Entries of the leader's log that it is not known to hold.
    pub(crate) behind: u64,
    /// Time since the last message that it answered was sent; `None` before its first answer to this leader.
    pub(crate) silent_for: Option<Duration>,
}

impl Candidate {
    fn answers(&self) -> bool {
        self.silent_for.is_some_and(|silence| silence <= SILENCE_MAX)
    }

    /// Tells whether it can take over within a moment.
    fn is_ready(&self) -> bool {
        !self.is_sealed && self.answers() && self.behind <= LAG_MAX
    }
}

/// Returns who shall lead when the leader goes: an unsealed node before others; one that answers; one of a zone that
/// is not drained; then the one with the longest log; then one of another zone: nodes are often stopped a zone at a
/// time, and a neighbour would be the next to go.
pub(crate) fn successor(
    candidates: &[Candidate],
    own_zone: Option<&ZoneName>,
    leadership: &Leadership,
) -> Option<u64> {
    let rank = |candidate: &&Candidate| {
        let Candidate { zone, is_sealed, behind, .. } = candidate;
        let is_drained = leadership.is_drained(zone);
        (!is_sealed, candidate.answers(), !is_drained, Reverse(*behind), Some(zone) != own_zone)
    };
    candidates.iter().max_by_key(rank).map(|candidate| candidate.node)
}

/// Returns who can take over at this moment, among those that stand where the lead may go: the one with the longest
/// log.
pub(crate) fn ready(candidates: &[Candidate], may_lead: impl Fn(&ZoneName) -> bool) -> Option<u64> {
    let ready = candidates.iter().filter(|c| c.is_ready() && may_lead(&c.zone));
    ready.min_by_key(|candidate| candidate.behind).map(|candidate| candidate.node)
}

/// Follows the lead away from the preferred zone and back. Every data node does, so that the next leader knows what
/// came of the last way back; a node that starts knows of none.
///
/// The lead goes back once the preferred zone was steady for a stretch, which doubles each time that the lead did
/// not stay: a zone that comes and goes moves it less and less often.
#[derive(Debug)]
pub(crate) struct WayHome {
    first: Duration,
    /// How long the zone has to be steady now.
    stretch: Duration,
    /// The zone that all this is about.
    home: Option<ZoneName>,
    /// Whether the lead was there when a leader was last seen.
    was_home: Option<bool>,
    /// When the lead last came home.
    came_home: Option<Instant>,
    steady_since: Option<Instant>,
    last_look: Option<Instant>,
}

/// What one look shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    /// The zone that the lead is to go to.
    pub(crate) home: Option<&'a ZoneName>,
    /// The zone of the leader; `None` while none is known.
    pub(crate) leader_zone: Option<&'a ZoneName>,
    /// Whether a node at home can take over now. The leader alone knows; false elsewhere.
    pub(crate) is_ready: bool,
}

impl WayHome {
    /// `first` is how long the zone has to be steady at first.
    pub(crate) fn new(first: Duration) -> Self {
        Self {
            first,
            stretch: first,
            home: None,
            was_home: None,
            came_home: None,
            steady_since: None,
            last_look: None,
        }
    }

    /// Looks, and tells whether the lead is to go home now.
    pub(crate) fn look(&mut self, look: Look<'_>, now: Instant) -> bool {
        if self.home.as_ref() != look.home {
            *self = Self { home: look.home.cloned(), ..Self::new(self.first) };
        }
        let was_paused = self.last_look.replace(now).is_some_and(|last| now - last >= PAUSE_MIN);
        if was_paused {
            self.steady_since = None;
        }
        let is_home = look.leader_zone.map(|zone| Some(zone) == look.home);
        self.note(is_home, now);
        if look.home.is_none() || is_home != Some(false) || !look.is_ready {
            self.steady_since = None;
            return false;
        }
        now - *self.steady_since.get_or_insert(now) >= self.stretch
    }

    fn note(&mut self, is_home: Option<bool>, now: Instant) {
        let Some(is_home) = is_home else { return };
        match (self.was_home.replace(is_home), is_home) {
            (Some(false), true) => self.came_home = Some(now),
            (Some(true), false) => {
                let has_lasted = self.came_home.take().is_none_or(|at| now - at >= STRETCH_MAX);
                if has_lasted { self.stretch = self.first } else { self.wait_longer() }
            }
            (None, _) | (Some(true), true) | (Some(false), false) => {}
        }
    }

    /// The lead was handed over and did not go.
    pub(crate) fn failed(&mut self) {
        self.steady_since = None;
        self.wait_longer();
    }

    fn wait_longer(&mut self) {
        self.stretch = (2 * self.stretch).min(STRETCH_MAX.max(self.first));
    }
}

/// Says whether a data node stands for election: one of a drained zone only when nobody else has won for a while.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    leaderless_since: Option<Instant>,
}

impl Standing {
    /// Looks, and tells whether this node may stand.
    pub(crate) fn look(&mut self, is_drained: bool, has_leader: bool, now: Instant) -> bool {
        if has_leader {
            self.leaderless_since = None;
            return !is_drained;
        }
        let since = *self.leaderless_since.get_or_insert(now);
        !is_drained || now - since >= LAST_RESORT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);
    const TICK: Duration = Duration::from_millis(50);

    fn zone(name: &str) -> ZoneName {
        name.parse().unwrap()
    }

    fn candidate(node: u64, name: &str, behind: u64) -> Candidate {
        let silent_for = Some(Duration::from_millis(50));
        Candidate { node, zone: zone(name), is_sealed: false, behind, silent_for }
    }

    /// A leader in zone a, its neighbour, and zone b.
    fn three() -> [Candidate; 3] {
        [candidate(2, "a", 0), candidate(3, "b", 0), candidate(4, "b", 3)]
    }

    fn next(candidates: &[Candidate], drained: Option<&str>) -> Option<u64> {
        let leadership = Leadership { preferred: None, drained: drained.map(zone) };
        successor(candidates, Some(&zone("a")), &leadership)
    }

    #[test]
    fn leader_that_goes_is_followed_by_the_fittest_of_another_zone() {
        assert_eq!(next(&three(), None), Some(3));
        let mut sealed = three();
        sealed[1].is_sealed = true;
        assert_eq!(next(&sealed, None), Some(2), "the longest log of those that can sign");
        let mut silent = three();
        silent[1].silent_for = Some(Duration::from_secs(1));
        silent[0].silent_for = None;
        assert_eq!(next(&silent, None), Some(4), "the only one that answers");
        let mut behind = three();
        behind[1].behind = 1;
        assert_eq!(next(&behind, None), Some(2));
        assert_eq!(next(&[], None), None);
    }

    #[test]
    fn leader_that_goes_is_followed_by_a_node_of_a_drained_zone_only_if_it_must() {
        assert_eq!(next(&three(), Some("b")), Some(2));
        let mut sealed = three();
        sealed[0].is_sealed = true;
        assert_eq!(next(&sealed, Some("b")), Some(3));
    }

    #[test]
    fn lead_is_moved_only_to_a_node_that_takes_over_within_a_moment() {
        let in_b = |candidates: &[Candidate]| ready(candidates, |zone| zone.as_str() == "b");
        assert_eq!(in_b(&three()), Some(3));
        for spoil in [
            |c: &mut Candidate| c.is_sealed = true,
            |c: &mut Candidate| c.behind = LAG_MAX + 1,
            |c: &mut Candidate| c.silent_for = None,
            |c: &mut Candidate| c.silent_for = Some(SILENCE_MAX + TICK),
        ] {
            let mut candidates = three();
            spoil(&mut candidates[1]);
            assert_eq!(in_b(&candidates), Some(4));
            spoil(&mut candidates[2]);
            assert_eq!(in_b(&candidates), None);
        }
    }

    /// A way home that is looked at every tick.
    struct Walk {
        way: WayHome,
        now: Instant,
    }

    impl Walk {
        fn new() -> Self {
            Self { way: WayHome::new(FIRST), now: Instant::now() }
        }

        fn look(&mut self, leader: Option<&str>, is_ready: bool) -> bool {
            let (home, leader) = (zone("a"), leader.map(zone));
            self.now += TICK;
            let look = Look { home: Some(&home), leader_zone: leader.as_ref(), is_ready };
            self.way.look(look, self.now)
        }

        /// Looks for so long, or until the lead is to go home; returns whether it is and after how long.
        fn walk(
            &mut self,
            leader: Option<&str>,
            is_ready: bool,
            lasts: Duration,
        ) -> (bool, Duration) {
            let began = self.now;
            while self.now - began < lasts {
                if self.look(leader, is_ready) {
                    return (true, self.now - began);
                }
            }
            (false, lasts)
        }

        /// Waits away from home until the lead is to go, and returns how long that took, to the second.
        fn away(&mut self) -> u64 {
            let (is_due, after) = self.walk(Some("b"), true, 2 * STRETCH_MAX);
            assert!(is_due);
            after.as_secs()
        }
    }

    #[test]
    fn lead_goes_home_after_a_steady_stretch_and_not_before() {
        let mut walk = Walk::new();
        assert!(!walk.walk(Some("b"), true, FIRST - TICK).0);
        // A moment of trouble begins it anew.
        assert!(!walk.look(Some("b"), false));
        assert!(!walk.walk(Some("b"), true, FIRST).0);
        assert!(walk.look(Some("b"), true));
    }

    #[test]
    fn lead_that_is_home_or_has_no_home_stays() {
        assert!(!Walk::new().walk(Some("a"), true, 3 * FIRST).0);
        assert!(!Walk::new().walk(None, true, 3 * FIRST).0);
        let (mut way, now, b) = (WayHome::new(FIRST), Instant::now(), zone("b"));
        for ticks in 0..2_000 {
            let look = Look { home: None, leader_zone: Some(&b), is_ready: true };
            assert!(!way.look(look, now + TICK * ticks));
        }
    }

    #[test]
    fn lead_that_does_not_stay_home_waits_twice_as_long_up_to_a_limit() {
        let mut walk = Walk::new();
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(walk.away());
            walk.walk(Some("a"), true, Duration::from_secs(5));
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        // The last one lasts.
        walk.walk(Some("a"), true, STRETCH_MAX);
        assert_eq!(walk.away(), 30);
    }

    #[test]
    fn lead_that_was_home_from_the_start_has_not_come_back_from_anywhere() {
        let mut walk = Walk::new();
        walk.walk(Some("a"), true, Duration::from_secs(5));
        assert_eq!(walk.away(), 30);
    }

    #[test]
    fn election_in_between_is_no_way_out() {
        let mut walk = Walk::new();
        assert_eq!(walk.away(), 30);
        walk.walk(Some("a"), true, Duration::from_secs(5));
        walk.walk(None, true, Duration::from_secs(5));
        walk.walk(Some("a"), true, STRETCH_MAX);
        assert_eq!(walk.away(), 30);
    }

    #[test]
    fn handover_that_failed_waits_twice_as_long_and_a_new_home_begins_anew() {
        let mut walk = Walk::new();
        assert_eq!(walk.away(), 30);
        walk.way.failed();
        assert_eq!(walk.away(), 60);
        let (c, b) = (zone("c"), zone("b"));
        let look = Look { home: Some(&c), leader_zone: Some(&b), is_ready: true };
        assert!(!walk.way.look(look, walk.now));
        assert_eq!(walk.way.stretch, FIRST);
    }

    #[test]
    fn leader_that_slept_does_not_take_its_sleep_for_a_steady_zone() {
        let mut walk = Walk::new();
        assert!(!walk.look(Some("b"), true));
        walk.now += 2 * FIRST;
        assert!(!walk.look(Some("b"), true));
        assert_eq!(walk.away(), 30);
    }

    #[test]
    fn node_of_a_drained_zone_stands_as_a_last_resort() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        assert!(standing.look(false, true, now) && standing.look(false, false, now));
        assert!(!standing.look(true, true, now));
        assert!(!standing.look(true, false, now));
        assert!(!standing.look(true, false, now + LAST_RESORT - TICK));
        assert!(standing.look(true, false, now + LAST_RESORT));
        assert!(!standing.look(true, true, now + LAST_RESORT));
        assert!(!standing.look(true, false, now + 2 * LAST_RESORT), "it counts anew");
    }
}
