//! Which zone shall lead, and which shall not.

use super::*;
use twinkeep_core::leadership::{Leadership, Without};
use twinkeep_core::name::ZoneName;
use twinkeep_core::record::LeadershipRecord;
use twinkeep_core::replication::Mode;

fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

/// Two zones at the version that says who shall lead.
fn raised() -> Node {
    let mut node = two_zones();
    let to = ClusterVersion::LEADERSHIP;
    applied(&mut node, Command::RaiseVersion { to, expected: Revision::FIRST });
    node
}

fn set(preferred: Option<&str>, drained: Option<&str>, expected: Option<u64>) -> Command {
    let (preferred, drained) = (preferred.map(zone), drained.map(zone));
    let expected = expected.map(|revision| Revision::new(revision).unwrap());
    Command::SetLeadership { to: Leadership { preferred, drained }, expected }
}

fn degrade(lost: &str) -> Command {
    Command::SetReplicationMode { to: Mode::Degraded { zone: zone(lost) }, expected: None }
}

#[test]
fn zones_are_set_and_taken_back_at_the_revision_that_was_seen() {
    let mut node = raised();
    applied(&mut node, set(Some("a"), None, None));
    applied(&mut node, set(Some("a"), Some("b"), Some(1)));
    let record = LeadershipRecord::load(&node.state, &()).unwrap().unwrap();
    assert_eq!(record.leadership.drained, Some(zone("b")));
    assert_eq!((record.leadership.home(), record.revision.get()), (Some(&zone("a")), 2));
    assert_eq!(record.drained_ms, START_MS);
    let found = Some(Revision::new(2).unwrap());
    let raced = Refusal::RevisionMismatch { expected: Some(Revision::FIRST), found };
    assert_eq!(refusal(&mut node, set(None, None, Some(1))), raced);
    applied(&mut node, set(None, None, Some(2)));
}

#[test]
fn zone_that_nobody_could_lead_in_is_neither_preferred_nor_drained() {
    let mut node = raised();
    for name in ["w", "nowhere"] {
        let none = Refusal::NoDataZone(zone(name));
        assert_eq!(refusal(&mut node, set(Some(name), None, None)), none);
        assert_eq!(refusal(&mut node, set(None, Some(name), None)), none);
    }
}

#[test]
fn last_zone_with_data_is_not_drained() {
    let mut node = Node::begun();
    let to = ClusterVersion::LEADERSHIP;
    applied(&mut node, Command::RaiseVersion { to, expected: Revision::FIRST });
    assert_eq!(refusal(&mut node, set(None, Some("a"), None)), Refusal::LastDataZone(zone("a")));
}

#[test]
fn only_one_zone_is_drained_at_a_time() {
    let mut node = raised();
    applied(&mut node, set(None, Some("a"), None));
    let (drained, asked) = (zone("a"), zone("b"));
    let other = Refusal::OtherZoneDrained { drained, zone: asked };
    assert_eq!(refusal(&mut node, set(None, Some("b"), Some(1))), other);
}

#[test]
fn zone_is_not_drained_while_the_other_one_lacks_something() {
    let mut node = raised();
    applied(&mut node, degrade("b"));
    let mode = Box::new(Mode::Degraded { zone: zone("b") });
    let needed = Refusal::ZoneNeeded { zone: zone("a"), mode };
    assert_eq!(refusal(&mut node, set(None, Some("a"), None)), needed);
    applied(&mut node, set(None, Some("b"), None));
}

#[test]
fn older_cluster_is_not_told_who_shall_lead() {
    let mut node = Node::begun();
    let (present, needed) = (ClusterVersion(1), ClusterVersion::LEADERSHIP);
    let low = Refusal::VersionTooLow { present, needed };
    assert_eq!(refusal(&mut node, set(Some("a"), None, None)), low);
}

#[test]
fn cluster_that_began_with_a_preferred_zone_leads_there_until_told_otherwise() {
    let mut node = raised();
    let mut cluster = ClusterRecord::load(&node.state, &()).unwrap().unwrap();
    assert_eq!(Leadership::read(&node.state).unwrap().0.home(), None);
    cluster.preferred_zone = Some(zone("a"));
    cluster.store(&mut node.state);
    assert_eq!(Leadership::read(&node.state).unwrap().0.home(), Some(&zone("a")));
    applied(&mut node, set(None, None, None));
    assert_eq!(Leadership::read(&node.state).unwrap().0.home(), None);
}

#[test]
fn drained_zone_is_no_home() {
    let both = Leadership { preferred: Some(zone("a")), drained: Some(zone("a")) };
    assert_eq!(both.home(), None);
    assert!(both.is_drained(&zone("a")) && !both.is_drained(&zone("b")));
}

#[test]
fn what_is_left_without_a_zone_is_counted() {
    let voter = |id, zone, role| record(id, role, zone, u8::try_from(id).unwrap(), Standing::Voter);
    let five = [
        voter(1, "a", NodeRole::Data),
        voter(2, "a", NodeRole::Data),
        voter(3, "b", NodeRole::Data),
        voter(4, "b", NodeRole::Data),
        voter(5, "w", NodeRole::Witness),
        record(6, NodeRole::Data, "b", 6, Standing::Learner),
    ];
    let without = Without::zone(&five, &zone("a"));
    assert_eq!((without.voters, without.left, without.data_left), (5, 3, 2));
    assert_eq!(without.slack(), Some(0));
    assert_eq!(Without::zone(&five, &zone("w")).slack(), Some(1));
    let three = [five[0].clone(), five[1].clone(), five[2].clone()];
    assert_eq!(Without::zone(&three, &zone("a")).slack(), None);
}
