use super::*;
use twinkeep_testkit::records::node_record;

fn node(id: u64, zone: &str) -> NodeRecord {
    let mut record = node_record(id);
    record.placement.zone = zone.parse().unwrap();
    record
}

fn reading(at: Instant, clock_ahead_ms: i64) -> Reading {
    Reading {
        at,
        round_trip: Duration::ZERO,
        clock_ahead_ms,
        applied_index: None,
        snapshot: None,
        version: String::new(),
        is_sealed: false,
    }
}

/// Judges by the neighbour in the leader's own zone a and by two nodes of zone b, with the given
/// offsets and ages of their readings in seconds.
fn judge(offsets: [(i64, u64); 3]) -> Result<(), Discord> {
    let now = Instant::now() + Duration::from_secs(60);
    let readings = offsets.map(|(ahead, age)| reading(now - Duration::from_secs(age), ahead));
    agreement(others().iter(), &(2..).zip(readings).collect(), now)
}

/// The data nodes beside the leader, which is node 1 of zone a.
fn others() -> [NodeRecord; 3] {
    [node(2, "zone-a"), node(3, "zone-b"), node(4, "zone-b")]
}

fn disagreement(zone: &str) -> Result<(), Discord> {
    Err(Discord::Zone(zone.parse().unwrap()))
}

#[test]
fn one_agreeing_node_of_a_zone_is_enough() {
    assert_eq!(judge([(0, 0), (4_999, 0), (60_000, 0)]), Ok(()));
    assert_eq!(judge([(0, 0), (60_000, 0), (-5_000, 0)]), Ok(()));
    // Its own zone's other node is down.
    assert_eq!(judge([(60_000, 4), (60_000, 0), (-5_000, 0)]), Ok(()));
}

#[test]
fn a_zone_that_disagrees_stops_the_clock() {
    assert_eq!(judge([(0, 0), (5_001, 0), (-60_000, 0)]), disagreement("zone-b"));
    // The node that would agree has not been heard for too long.
    assert_eq!(judge([(0, 0), (0, 4), (6_000, 1)]), disagreement("zone-b"));
    assert_eq!(judge([(5_001, 0), (0, 0), (0, 0)]), disagreement("zone-a"));
}

#[test]
fn a_zone_that_is_lost_has_no_say() {
    assert_eq!(judge([(0, 0), (60_000, 4), (60_000, 10)]), Ok(()));
    assert_eq!(judge([(60_000, 4), (0, 0), (0, 0)]), Ok(()));
}

/// A leader that was years ahead moved the clock while the other zone was dead, though its neighbour
/// knew better; every batch of the others was refused from then on.
#[test]
fn neighbour_alone_stops_a_wrong_clock_while_the_other_zone_is_dead() {
    assert_eq!(judge([(-60_000, 0), (0, 4), (0, 10)]), disagreement("zone-a"));
}

#[test]
fn clock_that_nobody_confirms_is_not_proposed() {
    // All that was read is too old.
    assert_eq!(judge([(0, 4), (0, 4), (0, 10)]), Err(Discord::Unheard));
    // A fresh leader has read nothing yet.
    let unread = agreement(others().iter(), &BTreeMap::new(), Instant::now());
    assert_eq!(unread, Err(Discord::Unheard));
}

#[test]
fn only_data_node_stamps_alone() {
    assert_eq!(agreement(std::iter::empty(), &BTreeMap::new(), Instant::now()), Ok(()));
}

#[test]
fn one_caller_a_second_moves_the_clock() {
    let stamp = Stamp::default();
    assert!(stamp.take_turn(10_000));
    assert!(!stamp.take_turn(10_000));
    assert!(!stamp.take_turn(11_000));
    assert!(stamp.take_turn(11_001));
}
