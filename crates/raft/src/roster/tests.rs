use std::collections::{BTreeMap as Map, BTreeSet};

use twinkeep_testkit::memory::Memory;

use super::*;
use crate::types::Contact;
use twinkeep_testkit::records::node_record;

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

fn pin(node: u64) -> Pin {
    Pin { node: id(node), incarnation: Incarnation::FIRST, spki_sha256: [9; 32] }
}

fn record(node: u64, standing: Standing) -> NodeRecord {
    let spki_sha256 = [u8::try_from(node).unwrap(); 32];
    NodeRecord { standing, spki_sha256, ..node_record(node) }
}

/// Node 1 is the genesis node; 1 and 2 are recorded, 3 was removed, 4 is pinned and not recorded.
fn roster() -> Arc<Roster> {
    let roster = Roster::new(id(1), vec![pin(2), pin(3), pin(4)]);
    let mut state = Memory::default();
    for node in [record(1, Standing::Voter), record(2, Standing::Learner)] {
        node.store(&mut state);
    }
    record(3, Standing::Removed).store(&mut state);
    roster.refresh(&state).unwrap();
    roster
}

fn members(nodes: &[u64]) -> Membership {
    let voters: BTreeSet<u64> = nodes.iter().copied().collect();
    let nodes: Map<u64, Contact> = nodes.iter().map(|n| (*n, Contact::default())).collect();
    Membership::new(vec![voters], nodes).unwrap()
}

#[test]
fn a_recorded_node_is_trusted_with_its_recorded_key_alone() {
    let roster = roster();
    assert!(roster.trusts(id(1), Incarnation::FIRST, &[1; 32]));
    assert!(!roster.trusts(id(1), Incarnation::FIRST, &[2; 32]));
    assert!(!roster.trusts(id(1), Incarnation::new(2).unwrap(), &[1; 32]));
    // The record counts, not what was believed before it came.
    assert!(roster.trusts(id(2), Incarnation::FIRST, &[2; 32]));
    assert!(!roster.trusts(id(2), Incarnation::FIRST, &[9; 32]));
}

#[test]
fn a_removed_node_is_not_brought_back_by_a_pin() {
    let roster = roster();
    assert!(!roster.trusts(id(3), Incarnation::FIRST, &[3; 32]));
    assert!(!roster.trusts(id(3), Incarnation::FIRST, &[9; 32]));
    assert!(!roster.knows(3));
    assert!(roster.living(3).is_none() && roster.is_removed(3));
}

#[test]
fn a_pinned_node_is_trusted_until_its_record_comes_and_strangers_never() {
    let roster = roster();
    assert!(roster.trusts(id(4), Incarnation::FIRST, &[9; 32]));
    assert!(!roster.trusts(id(4), Incarnation::FIRST, &[4; 32]));
    assert!(roster.knows(4) && !roster.is_data(4));
    assert!(!roster.knows(5));
    assert!(!roster.trusts(id(5), Incarnation::FIRST, &[9; 32]));
}

#[test]
fn a_membership_names_recorded_nodes_alone() {
    let roster = roster();
    let present = members(&[1]);
    assert_eq!(roster.unrecorded(7, &members(&[1, 2]), std::slice::from_ref(&present)), None);
    assert_eq!(roster.unrecorded(7, &members(&[1, 5]), std::slice::from_ref(&present)), Some(5));
    // A pin opens a connection; it makes nobody a member.
    assert_eq!(roster.unrecorded(7, &members(&[1, 4]), std::slice::from_ref(&present)), Some(4));
    assert_eq!(roster.unrecorded(7, &members(&[1, 3]), std::slice::from_ref(&present)), Some(3));
}

#[test]
fn a_removed_node_may_stay_until_a_change_takes_it_out() {
    let roster = roster();
    assert_eq!(roster.unrecorded(7, &members(&[1, 3]), &[members(&[1, 2, 3])]), None);
}

#[test]
fn the_first_membership_names_the_genesis_node_and_nobody_else() {
    let empty = Roster::new(id(1), vec![pin(1), pin(2)]);
    let none = Membership::default();
    assert_eq!(empty.unrecorded(0, &members(&[1]), std::slice::from_ref(&none)), None);
    assert_eq!(empty.unrecorded(0, &members(&[1, 2]), std::slice::from_ref(&none)), Some(2));
    assert_eq!(empty.unrecorded(0, &members(&[2]), std::slice::from_ref(&none)), Some(2));
    assert_eq!(empty.unrecorded(1, &members(&[1]), std::slice::from_ref(&none)), Some(1));
}
