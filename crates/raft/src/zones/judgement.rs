//! How far an acknowledgement may go: which entries are as durable as the mode asks for.

use twinkeep_core::id::Revision;
use twinkeep_core::replication::{Durability, Mode};

use super::View;
use crate::replication::Applied;

/// Copies outside the leader's zone that an answer waits for, while that many voters answer there: a zone
/// lost together with one rolled-back disk then loses nothing.
const COPIES_OUTSIDE: usize = 2;

/// What the leader may acknowledge now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// The last entry that is durable enough; `None` while none is.
    pub(crate) durable: Option<u64>,
    /// What that reaches.
    pub(crate) durability: Durability,
    /// The revision of the mode that this was judged under.
    pub(crate) revision: Option<Revision>,
    /// Whether every zone holds all that was ever acknowledged, and nothing will be acknowledged that one
    /// lacks until the mode changes: what a sync lease says.
    pub(crate) is_complete: bool,
}

impl Judged {
    /// What a leader says that has not applied yet who its voters are.
    pub(crate) const BLIND: Self = Self {
        durable: None,
        durability: Durability::SingleZone,
        revision: None,
        is_complete: false,
    };
}

/// Judges by the mode and by what the voters hold.
///
/// Entries after the last one that the leader has applied are not judged: they may not be committed.
pub(crate) fn judge(view: &View, applied: &Applied) -> Judged {
    let revision = applied.revision;
    if cfg!(twinkeep_break = "gate") {
        let durability = Durability::EveryZone;
        return Judged { durable: view.applied, durability, revision, is_complete: true };
    }
    if applied.mode != Mode::Sync {
        let durability = Durability::SingleZone;
        return Judged { durable: view.applied, durability, revision, is_complete: false };
    }
    let every_zone = view.other_zones().into_iter().map(|zone| view.held_in(zone)).min();
    let mut outside: Vec<_> =
        view.others.iter().filter(|voter| voter.zone != view.own_zone).collect();
    outside.sort_unstable_by_key(|voter| std::cmp::Reverse(voter.matched));
    let answering = outside.iter().filter(|voter| voter.answers(view)).count();
    let wanted = COPIES_OUTSIDE.min(outside.len());
    let durability = match answering {
        enough if enough >= wanted => Durability::EveryZone,
        0 => Durability::SingleZone,
        _ => Durability::SingleCopyOutside,
    };
    let copies = wanted.min(answering);
    let outside = copies.checked_sub(1).map(|last| outside[last].matched);
    // What was acknowledged while a zone was not counted on lies before the entry that counts on it again.
    let is_complete = every_zone.is_none_or(|held| held >= Some(applied.mode_index));
    let durable = [every_zone, outside].into_iter().flatten().fold(view.applied, Ord::min);
    Judged { durable, durability, revision, is_complete }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::zones::SILENCE_MAX;
    use crate::zones::testing::{NOW, view, voter};

    fn applied(mode: Mode) -> Applied {
        Applied {
            has_modes: true,
            has_handshake: true,
            needs_company: false,
            mode,
            revision: None,
            since_ms: 0,
            mode_index: 0,
            usable_up_to: 0,
            freshness_lease: Duration::ZERO,
            leadership: Default::default(),
            as_of: 0,
        }
    }

    fn judged(view: &View) -> (Option<u64>, Durability) {
        let judged = judge(view, &applied(Mode::Sync));
        (judged.durable, judged.durability)
    }

    #[test]
    fn answer_waits_for_the_other_zone_though_a_majority_holds_the_entry() {
        // a1, a2 and the witness are a majority.
        assert_eq!(judged(&view([100, 70, 60, 100])), (Some(70), Durability::EveryZone));
        assert_eq!(judged(&view([100, 60, 90, 100])), (Some(90), Durability::EveryZone));
    }

    #[test]
    fn answer_waits_for_two_copies_outside_the_leaders_zone() {
        assert_eq!(judged(&view([100, 100, 50, 60])), (Some(60), Durability::EveryZone));
        assert_eq!(judged(&view([0, 100, 100, 0])), (Some(100), Durability::EveryZone));
    }

    #[test]
    fn lone_voter_outside_is_enough_and_is_told() {
        let mut view = view([100, 100, 50, 60]);
        view.others[2].silent_for = Some(SILENCE_MAX);
        assert_eq!(judged(&view), (Some(60), Durability::EveryZone));
        view.others[3].silent_for = Some(SILENCE_MAX);
        assert_eq!(judged(&view), (Some(100), Durability::SingleCopyOutside));
    }

    #[test]
    fn silent_zone_holds_answers_back_until_the_mode_says_otherwise() {
        let mut view = view([100, 40, 30, 100]);
        for voter in &mut view.others[1..3] {
            voter.silent_for = Some(2 * SILENCE_MAX);
        }
        assert_eq!(judged(&view).0, Some(40));
        let mode = Mode::Degraded { zone: "b".parse().unwrap() };
        let judged = judge(&view, &applied(mode));
        assert_eq!((judged.durable, judged.durability), (Some(100), Durability::SingleZone));
    }

    #[test]
    fn zone_that_catches_up_is_not_counted_on_yet() {
        let mode = Mode::Recovering { zone: "b".parse().unwrap(), target: 100 };
        let judged = judge(&view([100, 100, 100, 100]), &applied(mode));
        assert_eq!(judged.durability, Durability::SingleZone);
    }

    #[test]
    fn zones_are_complete_once_they_hold_the_entry_that_counts_on_them() {
        let complete = |mode, mode_index| {
            let applied = Applied { mode_index, ..applied(mode) };
            judge(&view([100, 70, 60, 100]), &applied).is_complete
        };
        assert!(complete(Mode::Sync, 0));
        assert!(complete(Mode::Sync, 70));
        assert!(!complete(Mode::Sync, 71));
        assert!(!complete(Mode::Recovering { zone: "b".parse().unwrap(), target: 1 }, 0));
    }

    #[test]
    fn new_leader_counts_on_voters_that_had_no_time_to_answer() {
        let mut view = view([100, 100, 50, 60]);
        view.others.iter_mut().for_each(|voter| voter.silent_for = None);
        view.led_for = Duration::from_millis(10);
        assert_eq!(judged(&view), (Some(60), Durability::EveryZone));
    }

    #[test]
    fn nothing_is_durable_before_the_other_zone_has_answered() {
        let mut view = view([100; 4]);
        view.others.iter_mut().for_each(|voter| voter.matched = None);
        assert_eq!(judged(&view).0, None);
    }

    #[test]
    fn one_node_in_each_place_waits_for_both_others() {
        let mut view = view([0; 4]);
        view.others = vec![voter("b", 80, NOW), voter("w", 90, NOW)];
        assert_eq!(judged(&view), (Some(80), Durability::EveryZone));
    }

    #[test]
    fn cluster_of_one_zone_has_nobody_to_wait_for() {
        let mut view = view([0; 4]);
        view.others = vec![voter("a", 10, NOW)];
        assert_eq!(judged(&view), (Some(100), Durability::EveryZone));
        view.others.clear();
        assert_eq!(judged(&view), (Some(100), Durability::EveryZone));
    }

    #[test]
    fn entry_that_is_not_applied_is_not_acknowledged() {
        let mut view = view([200; 4]);
        view.applied = Some(150);
        assert_eq!(judged(&view).0, Some(150));
    }
}
