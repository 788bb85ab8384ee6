//! When the replication mode changes: a zone falls silent, answers again, has caught up.

use std::time::Duration;

use tokio::time::Instant;
use twinkeep_core::name::ZoneName;
use twinkeep_core::replication::Mode;

use super::{SILENCE_MAX, View};

/// Entries that a returning zone may lack and still be counted on.
const LAG_MAX: u64 = 1_000;
/// How long a returning zone has to keep up before it is counted on.
const STEADY_MIN: Duration = Duration::from_secs(2);
/// A gap between two looks of this leader that makes it distrust its own impression of silence.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Follows the zones over time, for as long as one leadership lasts.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Since when the returning zone keeps up.
    steady_since: Option<Instant>,
    last_look: Option<Instant>,
    /// When this process was last found to have been paused.
    paused_at: Option<Instant>,
}

/// A mode that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The mode.
    pub(crate) to: Mode,
    /// Why, for the operator.
    pub(crate) why: &'static str,
}

impl Watch {
    /// Returns the mode that is due, if the present one is not.
    pub(crate) fn look(&mut self, view: &View, mode: &Mode, now: Instant) -> Option<Change> {
        self.note_pause(now);
        let lost = view.other_zones().into_iter().find(|zone| self.is_silent(view, zone, now));
        let steady = match mode {
            Mode::Recovering { zone, target } if lost.is_none() => keeps_up(view, zone, *target),
            _ => false,
        };
        let since = *self.steady_since.get_or_insert(now);
        if !steady {
            self.steady_since = None;
        }
        match (mode, lost) {
            (Mode::Degraded { zone }, Some(lost)) if zone == lost => None,
            (_, Some(lost)) => {
                let to = Mode::Degraded { zone: lost.clone() };
                Some(Change { to, why: "no voter of the zone answers" })
            }
            (Mode::Sync, None) => None,
            // Not being known to be silent is no answer.
            (Mode::Degraded { zone }, None) if !is_back(view, zone) => None,
            (Mode::Degraded { zone }, None) => {
                let to = Mode::Recovering { zone: zone.clone(), target: view.last_index };
                Some(Change { to, why: "the zone answers again" })
            }
            (Mode::Recovering { .. }, None) => (steady && now - since >= STEADY_MIN)
                .then_some(Change { to: Mode::Sync, why: "the zone has caught up" }),
        }
    }

    /// Begins to watch anew after time that went into something else.
    pub(crate) fn look_anew(&mut self) {
        self.last_look = None;
    }

    /// A process that was stopped and goes on finds everybody silent for as long as it slept itself.
    fn note_pause(&mut self, now: Instant) {
        let last = self.last_look.replace(now);
        if last.is_some_and(|last| now - last >= PAUSE_MIN) {
            self.paused_at = Some(now);
        }
    }

    fn is_silent(&self, view: &View, zone: &ZoneName, now: Instant) -> bool {
        let was_paused = self.paused_at.is_some_and(|at| now - at < SILENCE_MAX);
        !was_paused && !view.is_heard(zone)
    }
}

/// Tells whether a zone that was lost answers, or has nobody left who could.
fn is_back(view: &View, zone: &ZoneName) -> bool {
    *zone == view.own_zone || view.data_in(zone).next().is_none() || view.has_answered(zone)
}

/// Tells whether a zone that answers again holds nearly all there is. A zone that has no voter any more has
/// nothing to catch up with.
fn keeps_up(view: &View, zone: &ZoneName, target: u64) -> bool {
    if *zone != view.own_zone && view.data_in(zone).next().is_none() {
        return true;
    }
    let held = view.held_in(zone);
    held >= Some(target) && held.is_some_and(|held| held + LAG_MAX >= view.last_index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::LEASE;
    use crate::zones::testing::view;
    use crate::zones::{FIRST_ANSWER_AFTER_TRANSFER_MAX, FIRST_ANSWER_MAX};

    const TICK: Duration = Duration::from_millis(25);

    fn zone(name: &str) -> ZoneName {
        name.parse().unwrap()
    }

    fn degraded(name: &str) -> Mode {
        Mode::Degraded { zone: zone(name) }
    }

    fn recovering(name: &str, target: u64) -> Mode {
        Mode::Recovering { zone: zone(name), target }
    }

    fn silent(mut view: View, name: &str, silence: Option<Duration>) -> View {
        let voters = view.others.iter_mut().filter(|voter| voter.zone == zone(name));
        voters.for_each(|voter| voter.silent_for = silence);
        view
    }

    /// Looks every tick for a while and returns the first change.
    fn watched(view: &View, mode: &Mode, lasts: Duration) -> Option<Mode> {
        let (mut watch, began) = (Watch::default(), Instant::now());
        let ticks = (0..).map(|n| TICK * n).take_while(|passed| *passed <= lasts);
        let mut changes = ticks.filter_map(|passed| watch.look(view, mode, began + passed));
        changes.next().map(|change| change.to)
    }

    fn at_once(view: &View, mode: &Mode) -> Option<Mode> {
        watched(view, mode, Duration::ZERO)
    }

    #[test]
    fn zone_is_given_up_after_a_second_of_silence_and_not_before() {
        let just_before = silent(view([100; 4]), "b", Some(SILENCE_MAX - TICK));
        assert_eq!(at_once(&just_before, &Mode::Sync), None);
        let gone = silent(view([100; 4]), "b", Some(SILENCE_MAX));
        assert_eq!(at_once(&gone, &Mode::Sync), Some(degraded("b")));
        assert_eq!(at_once(&gone, &degraded("b")), None);
    }

    #[test]
    fn zone_that_is_lost_is_not_back_before_it_has_answered() {
        let mut unheard = silent(view([100; 4]), "b", None);
        unheard.led_for = Duration::ZERO;
        assert_eq!(watched(&unheard, &degraded("b"), FIRST_ANSWER_MAX), None);
        // A leader that was paused knows nothing either.
        let gone = silent(view([100; 4]), "b", Some(5 * SILENCE_MAX));
        let (mut watch, now) = (Watch::default(), Instant::now());
        assert_eq!(watch.look(&gone, &degraded("b"), now), None);
        assert_eq!(watch.look(&gone, &degraded("b"), now + 2 * PAUSE_MIN), None);
    }

    #[test]
    fn one_voter_that_answers_keeps_its_zone() {
        let mut view = silent(view([100; 4]), "b", Some(SILENCE_MAX));
        view.others[2].silent_for = Some(TICK);
        assert_eq!(at_once(&view, &Mode::Sync), None);
    }

    #[test]
    fn witness_is_no_zone() {
        let view = silent(view([100; 4]), "w", Some(SILENCE_MAX));
        assert_eq!(at_once(&view, &Mode::Sync), None);
    }

    #[test]
    fn new_leader_gives_up_a_zone_that_does_not_answer_at_all() {
        let mut view = silent(view([100; 4]), "b", None);
        view.led_for = FIRST_ANSWER_MAX - TICK;
        assert_eq!(at_once(&view, &Mode::Sync), None);
        view.led_for = FIRST_ANSWER_MAX;
        assert_eq!(at_once(&view, &Mode::Sync), Some(degraded("b")));
    }

    #[test]
    fn leader_that_was_handed_the_lead_waits_for_leases_of_the_one_before() {
        let mut view = silent(view([100; 4]), "b", None);
        view.patience = FIRST_ANSWER_AFTER_TRANSFER_MAX;
        view.led_for = FIRST_ANSWER_AFTER_TRANSFER_MAX - TICK;
        assert!(FIRST_ANSWER_AFTER_TRANSFER_MAX > LEASE);
        assert_eq!(at_once(&view, &Mode::Sync), None);
        view.led_for = FIRST_ANSWER_AFTER_TRANSFER_MAX;
        assert_eq!(at_once(&view, &Mode::Sync), Some(degraded("b")));
    }

    #[test]
    fn no_lease_holds_when_a_silent_zone_is_given_up() {
        // Granted at most so long after the last answer, and for so long.
        assert!(LEASE + LEASE < SILENCE_MAX);
    }

    #[test]
    fn returning_zone_catches_up_and_keeps_up_before_it_is_counted_on() {
        let view = view([100; 4]);
        assert_eq!(at_once(&view, &degraded("b")), Some(recovering("b", 100)));
        let mode = recovering("b", 100);
        assert_eq!(watched(&view, &mode, STEADY_MIN - TICK), None);
        assert_eq!(watched(&view, &mode, STEADY_MIN), Some(Mode::Sync));
        let mut behind = view.clone();
        (behind.others[1].matched, behind.others[2].matched) = (Some(99), Some(10));
        assert_eq!(watched(&behind, &mode, 2 * STEADY_MIN), None);
        behind.others[2].matched = Some(100);
        behind.last_index = 100 + LAG_MAX + 1;
        assert_eq!(watched(&behind, &mode, 2 * STEADY_MIN), None);
    }

    #[test]
    fn zone_that_falls_back_starts_anew() {
        let (view, mode) = (view([100; 4]), recovering("b", 100));
        let mut behind = view.clone();
        behind.others.iter_mut().for_each(|voter| voter.matched = Some(1));
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        for round in 0..3 {
            for _ in 0..79 {
                assert_eq!(watch.look(&view, &mode, now), None, "round {round}");
                now += TICK;
            }
            assert_eq!(watch.look(&behind, &mode, now), None);
            now += TICK;
        }
    }

    #[test]
    fn either_zone_may_be_lost_while_one_returns() {
        let mode = recovering("b", 100);
        let again = silent(view([100; 4]), "b", Some(SILENCE_MAX));
        assert_eq!(at_once(&again, &mode), Some(degraded("b")));
        let mut from_b = again;
        from_b.own_zone = zone("c");
        assert_eq!(at_once(&from_b, &recovering("c", 1)), Some(degraded("b")));
    }

    #[test]
    fn leader_in_the_zone_that_was_lost_finds_it_there() {
        let mut view = view([100; 4]);
        view.own_zone = zone("b");
        view.others[0].zone = zone("a");
        assert_eq!(at_once(&view, &degraded("b")), Some(recovering("b", 100)));
        assert_eq!(watched(&view, &recovering("b", 100), STEADY_MIN), Some(Mode::Sync));
    }

    #[test]
    fn zone_whose_voters_were_all_removed_is_waited_for_no_more() {
        let mut view = view([100; 4]);
        view.others.retain(|voter| voter.zone != zone("b"));
        assert_eq!(at_once(&view, &degraded("b")), Some(recovering("b", 100)));
        assert_eq!(watched(&view, &recovering("b", 100), STEADY_MIN), Some(Mode::Sync));
    }

    #[test]
    fn leader_that_was_paused_does_not_take_its_own_sleep_for_silence() {
        let (heard, mode) = (view([100; 4]), Mode::Sync);
        let gone = silent(view([100; 4]), "b", Some(5 * SILENCE_MAX));
        let (mut watch, now) = (Watch::default(), Instant::now());
        assert_eq!(watch.look(&heard, &mode, now), None);
        let woken = now + 5 * SILENCE_MAX;
        assert_eq!(watch.look(&gone, &mode, woken), None);
        let mut later = woken;
        while later < woken + SILENCE_MAX {
            assert_eq!(watch.look(&gone, &mode, later), None);
            later += TICK;
        }
        assert!(watch.look(&gone, &mode, later).is_some());
    }
}
