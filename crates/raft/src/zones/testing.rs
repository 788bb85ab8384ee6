//! Views as the tests of several files need them.

use std::time::Duration;

use super::{FIRST_ANSWER_MAX, View, Voter};

pub(crate) const NOW: Option<Duration> = Some(Duration::ZERO);

pub(crate) fn voter(zone: &str, matched: u64, silent_for: Option<Duration>) -> Voter {
    let zone: twinkeep_core::name::ZoneName = zone.parse().unwrap();
    Voter { is_data: zone.as_str() != "w", zone, matched: Some(matched), silent_for }
}

/// The view of a leader in zone a with an old leadership: `matched` of a2, b1, b2 and the witness.
pub(crate) fn view(matched: [u64; 4]) -> View {
    let zones = ["a", "b", "b", "w"];
    let others = zones.iter().zip(matched).map(|(zone, matched)| voter(zone, matched, NOW));
    View {
        own_zone: "a".parse().unwrap(),
        others: others.collect(),
        applied: Some(100),
        last_index: 100,
        led_for: Duration::from_secs(60),
        patience: FIRST_ANSWER_MAX,
    }
}
