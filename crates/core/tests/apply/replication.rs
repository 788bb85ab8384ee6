//! The replication mode and the marker.

use super::*;
use twinkeep_core::freshness::WhenStale;
use twinkeep_core::record::ReplicationRecord;
use twinkeep_core::replication::{Mode, usable_up_to};

/// Two zones at the version that has modes and markers.
fn raised() -> Node {
    let mut node = two_zones();
    let to = ClusterVersion::ZONE_GUARANTEES;
    applied(&mut node, Command::RaiseVersion { to, expected: Revision::FIRST });
    node
}

fn mode(to: Mode, expected: Option<u64>) -> Command {
    let expected = expected.map(|revision| Revision::new(revision).unwrap());
    Command::SetReplicationMode { to, expected }
}

fn degraded(zone: &str) -> Mode {
    Mode::Degraded { zone: zone.parse().unwrap() }
}

fn durable(upto: u64, judged_under: Option<u64>) -> Command {
    let judged_under = judged_under.map(|revision| Revision::new(revision).unwrap());
    Command::ZoneDurable { upto, judged_under }
}

fn usable(node: &Node) -> u64 {
    usable_up_to(&node.state).unwrap()
}

#[test]
fn marker_moves_forward_and_never_back() {
    let mut node = raised();
    let first = node.index;
    node.apply_one(create_key(1));
    assert_eq!(usable(&node), first, "a new key waits for its marker");
    let created = node.index;
    applied(&mut node, durable(created, None));
    assert_eq!(usable(&node), created);
    applied(&mut node, durable(first, None));
    assert_eq!(usable(&node), created);
}

#[test]
fn marker_that_covers_itself_or_what_follows_is_refused() {
    let mut node = raised();
    for ahead in [1, 2, 1000] {
        let upto = node.index + ahead;
        let index = node.index + 1;
        assert_eq!(refusal(&mut node, durable(upto, None)), Refusal::MarkerAhead { upto, index });
    }
}

#[test]
fn marker_judged_under_another_mode_is_refused() {
    let mut node = raised();
    node.apply_one(create_key(1));
    let created = node.index;
    applied(&mut node, mode(degraded("b"), None));
    let found = Some(Revision::FIRST);
    let stale = Refusal::RevisionMismatch { expected: None, found };
    assert_eq!(refusal(&mut node, durable(created, None)), stale);
    applied(&mut node, durable(created, Some(1)));
    assert_eq!(usable(&node), created);
}

#[test]
fn lost_zone_catches_up_before_it_is_counted_on() {
    let mut node = raised();
    applied(&mut node, mode(degraded("b"), None));
    let early = refusal(&mut node, mode(Mode::Sync, Some(1)));
    assert!(matches!(early, Refusal::IllegalMode { .. }), "{early:?}");
    let target = node.index;
    applied(&mut node, mode(Mode::Recovering { zone: "b".parse().unwrap(), target }, Some(1)));
    applied(&mut node, mode(Mode::Sync, Some(2)));
    let record = ReplicationRecord::load(&node.state, &()).unwrap().unwrap();
    assert_eq!((record.mode, record.revision.get()), (Mode::Sync, 3));
}

#[test]
fn mode_is_changed_at_the_revision_that_was_seen() {
    let mut node = raised();
    applied(&mut node, mode(degraded("b"), None));
    let found = Some(Revision::FIRST);
    let raced = Refusal::RevisionMismatch { expected: None, found };
    assert_eq!(refusal(&mut node, mode(degraded("a"), None)), raced);
}

#[test]
fn zone_without_voting_data_and_the_last_zone_cannot_be_lost() {
    let mut node = raised();
    for zone in ["w", "nowhere"] {
        let refused = refusal(&mut node, mode(degraded(zone), None));
        assert!(matches!(refused, Refusal::IllegalMode { .. }), "{zone}: {refused:?}");
    }
    let mut alone = Node::begun();
    let to = ClusterVersion::ZONE_GUARANTEES;
    applied(&mut alone, Command::RaiseVersion { to, expected: Revision::FIRST });
    let refused = refusal(&mut alone, mode(degraded("a"), None));
    assert!(matches!(refused, Refusal::IllegalMode { .. }), "{refused:?}");
}

#[test]
fn older_cluster_has_neither_mode_nor_marker_and_keeps_its_keys_when_raised() {
    let mut node = two_zones();
    node.apply_one(create_key(1));
    assert_eq!(usable(&node), u64::MAX);
    let upto = node.index;
    let (present, needed) = (ClusterVersion(1), ClusterVersion::ZONE_GUARANTEES);
    let low = Refusal::VersionTooLow { present, needed };
    assert_eq!(refusal(&mut node, durable(upto, None)), low);
    assert_eq!(refusal(&mut node, mode(degraded("b"), None)), low);
    applied(&mut node, Command::RaiseVersion { to: needed, expected: Revision::FIRST });
    assert!(usable(&node) > upto, "what was created before may still be used");
    node.apply_one(create_key(2));
    assert!(usable(&node) < node.index, "what is created afterwards waits");
}

fn create_key_with(id: u8, when_stale: Option<WhenStale>) -> Command {
    let Command::CreateKey(mut new) = create_key(id) else { panic!("another command") };
    new.when_stale = when_stale;
    Command::CreateKey(new)
}

#[test]
fn what_a_key_does_on_a_stale_node_is_recorded_and_bounded() {
    let mut node = raised();
    let closed = Some(WhenStale::FailClosed);
    assert!(matches!(node.apply_one(create_key_with(1, closed)), Outcome::Applied(_)));
    assert_eq!(node.key(1).when_stale, closed);
    let max = WhenStale::GRACE_SECONDS_MAX;
    let longest = Some(WhenStale::Grace { seconds: max });
    assert!(matches!(node.apply_one(create_key_with(2, longest)), Outcome::Applied(_)));
    let longer = Some(WhenStale::Grace { seconds: max + 1 });
    let what = "seconds of grace".to_owned();
    let too_long = Refusal::LimitReached { what, max: max.into() };
    assert_eq!(refusal(&mut node, create_key_with(3, longer)), too_long);
    // Older members would forget it.
    let mut old = two_zones();
    let refused = refusal(&mut old, create_key_with(1, closed));
    assert!(matches!(refused, Refusal::VersionTooLow { .. }), "{refused:?}");
}
