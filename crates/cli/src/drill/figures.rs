//! The table of promises (README, "What it promises"), each with its figure of a drill.

use twinkeep_client::v1::ReplicationMode;
use twinkeep_report::{Report, Target};

use super::keys::Disabled;
use super::story::Story;
use crate::dev::load::{ms, percentile_ms};

/// 99.9 % of the calls of the event, in milliseconds.
const CALLS_P999_MS: f64 = 60.0;
/// Longest time without control writes when the leader's zone is lost, and when the other one is, in milliseconds.
const LEADER_MAX_MS: f64 = 1000.0;
const OTHER_MAX_MS: f64 = 1100.0;
/// 99 % of the disables, healthy, in milliseconds.
const DISABLE_P99_MS: f64 = 50.0;

/// A figure that was promised, under a name that fits into the picture.
pub(super) struct Promise {
    pub(super) short: &'static str,
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) at_most: f64,
}

/// Compares what happened with what is promised.
pub(super) fn promises(story: &Story, lost: usize, disabled: &Disabled) -> Vec<Promise> {
    let failed = story.calls.iter().filter(|call| call.failed.is_some()).count();
    let event = story.event().map(|call| Some(call.took));
    let again = story.writes_again().map_or(f64::NAN, |at| ms(story.since_loss(at)));
    let (writes_again, again_max) = match story.led_there {
        true => ("control writes again after the leader's zone was lost", LEADER_MAX_MS),
        false => ("control writes again after the other zone was lost", OTHER_MAX_MS),
    };
    let disable = percentile_ms(disabled.took.iter().copied(), 990);
    let promise = |short, name, value, unit, at_most| Promise { short, name, value, unit, at_most };
    vec![
        promise("crypto calls failed", "crypto calls failed", count(failed), "calls", 0.0),
        promise(
            "p99.9, 2 s after the loss",
            "p99.9 of the calls in the 2 s after the loss",
            percentile_ms(event, 999),
            "ms",
            CALLS_P999_MS,
        ),
        promise("control writes again", writes_again, again, "ms", again_max),
        promise("acknowledged keys lost", "acknowledged keys lost", count(lost), "keys", 0.0),
        promise(
            "disable everywhere, p99",
            "disable effective everywhere, healthy, p99",
            disable,
            "ms",
            DISABLE_P99_MS,
        ),
        promise(
            "used after a disable",
            "calls answered with a key after its disable was",
            count(disabled.used_after),
            "calls",
            0.0,
        ),
    ]
}

/// Writes the table: the promises first, then what is shown for its own sake.
pub(super) fn report(story: &Story, promises: &[Promise], disabled: &Disabled) -> Report {
    let mut report = Report::new();
    for promise in promises {
        let Promise { name, value, unit, at_most, .. } = promise;
        report.add(*name, *value, unit, Target::AtMost(*at_most));
    }
    let mut shown = |name: &str, value, unit| report.add(name, value, unit, Target::None);
    let (lost, _) = story.lost;
    let since = |at, from| ms(story.since_loss(at) - story.since_loss(from));
    shown("crypto calls", count(story.calls.len()), "calls");
    let before = story.calls.iter().filter(|call| call.ended() < lost).map(|call| Some(call.took));
    shown("p99 of the calls before the loss", percentile_ms(before, 990), "ms");
    let all = story.calls.iter().map(|call| Some(call.took));
    shown("p99.9 of all calls, the zone's return among them", percentile_ms(all, 999), "ms");
    if let Some((at, _)) = story.new_leader() {
        shown("another node leads, after", since(at, lost), "ms");
    }
    if let Some(at) = story.reached(ReplicationMode::Degraded, lost) {
        shown("the zone is not counted on any more, after", since(at, lost), "ms");
    }
    if let Some(at) = story.in_sync() {
        shown("the zone is counted on again, after its return", since(at, story.back), "ms");
    }
    let made = story.writes.iter().filter(|write| write.made.is_ok()).count();
    shown("keys acknowledged", count(made), "keys");
    shown("control writes failed", count(story.writes.len() - made), "keys");
    shown("keys disabled one by one", count(disabled.took.len()), "keys");
    report
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::story::tests::story;
    use super::*;

    fn disabled(took_ms: &[u64]) -> Disabled {
        let took = took_ms.iter().map(|ms| Some(Duration::from_millis(*ms))).collect();
        Disabled { took, used_after: 0 }
    }

    fn holds(story: &Story, lost: usize, disabled: &Disabled) -> Vec<bool> {
        let promises = promises(story, lost, disabled);
        let report = report(story, &promises, disabled);
        report.figures().iter().take(promises.len()).map(|figure| figure.holds()).collect()
    }

    #[test]
    fn each_promise_is_missed_by_its_own_figure() {
        let quick = disabled(&[5; 100]);
        assert_eq!(holds(&story(), 0, &quick), [true; 6]);
        let missed = |story: &Story, lost, disabled: &Disabled| {
            let holds = holds(story, lost, disabled);
            assert_eq!(holds.iter().filter(|holds| !**holds).count(), 1, "{holds:?}");
            holds.iter().position(|holds| !holds)
        };
        let mut failing = story();
        failing.calls[40].failed = Some("no node".to_owned());
        assert_eq!(missed(&failing, 0, &quick), Some(0));
        let mut slow = story();
        for call in &mut slow.calls[3000..3003] {
            call.took = Duration::from_millis(61);
        }
        assert_eq!(missed(&slow, 0, &quick), Some(1));
        let mut stuck = story();
        stuck.writes.retain(|write| write.ended < stuck.lost.0);
        assert_eq!(missed(&stuck, 0, &quick), Some(2));
        assert_eq!(missed(&story(), 1, &quick), Some(3));
        assert_eq!(missed(&story(), 0, &disabled(&[60, 5, 5])), Some(4));
        let pending = Disabled { took: vec![None], used_after: 0 };
        assert_eq!(missed(&story(), 0, &pending), Some(4));
        let used = Disabled { used_after: 1, ..disabled(&[5]) };
        assert_eq!(missed(&story(), 0, &used), Some(5));
    }

    #[test]
    fn no_disables_at_all_are_a_miss() {
        assert!(!holds(&story(), 0, &disabled(&[]))[4]);
    }
}
