use twinkeep_core::id::{Incarnation, NodeId, Revision};
use twinkeep_core::topology::Placement;

use super::*;

fn node(id: u64, zone: &str) -> NodeRecord {
    let address = format!("127.0.{id}.1:7401").parse().unwrap();
    NodeRecord {
        id: NodeId::new(id).unwrap(),
        role: NodeRole::Data,
        standing: Standing::Voter,
        placement: Placement {
            zone: zone.parse().unwrap(),
            vpc: "vpc".parse().unwrap(),
            vswitch: format!("vsw-{id}").parse().unwrap(),
            cidr: format!("127.0.{id}.0/24").parse().unwrap(),
            client_address: address,
            peer_address: address,
        },
        spki_sha256: [0; 32],
        incarnation: Incarnation::FIRST,
        revision: Revision::FIRST,
    }
}

fn reading(at: Instant, clock_ahead_ms: i64) -> Reading {
    Reading { at, clock_ahead_ms, applied_index: None, snapshot: None, version: String::new() }
}

/// Two nodes of zone b, with the given offsets and ages of their readings in seconds.
fn judge(offsets: [(i64, u64); 2]) -> bool {
    let now = Instant::now() + Duration::from_secs(60);
    let [one, two] = offsets.map(|(ahead, age)| reading(now - Duration::from_secs(age), ahead));
    let nodes = [node(3, "zone-b"), node(4, "zone-b")];
    agreement(nodes.iter(), &BTreeMap::from([(3, one), (4, two)]), now).is_ok()
}

#[test]
fn one_agreeing_node_of_a_zone_is_enough() {
    assert!(judge([(4_999, 0), (60_000, 0)]));
    assert!(judge([(60_000, 0), (-5_000, 0)]));
}

#[test]
fn a_zone_that_disagrees_stops_the_clock() {
    assert!(!judge([(5_001, 0), (-60_000, 0)]));
    // The node that would agree has not been heard for too long.
    assert!(!judge([(0, 4), (6_000, 1)]));
}

#[test]
fn a_zone_that_is_lost_has_no_say() {
    assert!(judge([(60_000, 4), (60_000, 10)]));
    let nodes = [node(3, "zone-b")];
    agreement(nodes.iter(), &BTreeMap::new(), Instant::now()).unwrap();
}

#[test]
fn one_caller_a_second_moves_the_clock() {
    let stamp = Stamp::default();
    assert!(stamp.take_turn(10_000));
    assert!(!stamp.take_turn(10_000));
    assert!(!stamp.take_turn(11_000));
    assert!(stamp.take_turn(11_001));
}
