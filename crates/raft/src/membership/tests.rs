use super::*;
use twinkeep_testkit::records::node_record;

fn record(id: u64, standing: Standing) -> NodeRecord {
    NodeRecord { standing, ..node_record(id) }
}

fn records(of: &[(u64, Standing)]) -> BTreeMap<u64, NodeRecord> {
    of.iter().map(|(id, standing)| (*id, record(*id, *standing))).collect()
}

fn membership(sets: &[&[u64]], learners: &[u64]) -> Membership {
    let sets: Vec<BTreeSet<u64>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, Contact> = sets
        .iter()
        .flatten()
        .chain(learners)
        .map(|id| (*id, Contact::new(format!("127.0.1.{id}:7401"))))
        .collect();
    Membership::new(sets, nodes).unwrap()
}

use Standing::{Learner, Removed, Voter};

#[test]
fn a_recorded_node_becomes_a_learner_first() {
    let records = records(&[(1, Voter), (2, Voter)]);
    let step = next_step(&records, &membership(&[&[1]], &[]), |_| Some(9), 9);
    assert_eq!(step, Some(Step::AddLearner(2, Contact::new("127.0.1.2:7401"))));
}

#[test]
fn a_learner_is_promoted_once_it_holds_the_log() {
    let records = records(&[(1, Voter), (2, Voter)]);
    let members = membership(&[&[1]], &[2]);
    let at = |index| next_step(&records, &members, |n| (n == 2).then_some(index), 5_000);
    assert_eq!(at(3_999), Some(Step::AwaitCatchUp(2)));
    assert_eq!(at(4_000), Some(Step::SetVoters(BTreeSet::from([1, 2]))));
    assert_eq!(next_step(&records, &members, |_| None, 0), Some(Step::AwaitCatchUp(2)));
}

#[test]
fn a_serving_learner_stays_one() {
    let records = records(&[(1, Voter), (2, Learner)]);
    assert_eq!(next_step(&records, &membership(&[&[1]], &[2]), |_| Some(9), 9), None);
}

#[test]
fn a_replacement_is_one_change() {
    let records = records(&[(1, Voter), (2, Voter), (3, Removed), (4, Voter)]);
    let members = membership(&[&[1, 2, 3]], &[4]);
    let step = next_step(&records, &members, |_| Some(9), 9);
    assert_eq!(step, Some(Step::SetVoters(BTreeSet::from([1, 2, 4]))));
    // A voter that was removed is a learner then, and leaves next.
    let members = membership(&[&[1, 2, 4]], &[3]);
    let step = next_step(&records, &members, |_| Some(9), 9);
    assert_eq!(step, Some(Step::RemoveLearners(BTreeSet::from([3]))));
    assert_eq!(next_step(&records, &membership(&[&[1, 2, 4]], &[]), |_| Some(9), 9), None);
}

#[test]
fn a_change_left_half_done_is_finished() {
    let records = records(&[(1, Voter), (2, Voter), (3, Removed)]);
    let joint = membership(&[&[1, 2, 3], &[1, 2]], &[]);
    let step = next_step(&records, &joint, |_| Some(9), 9);
    assert_eq!(step, Some(Step::SetVoters(BTreeSet::from([1, 2]))));
}

#[test]
fn without_records_nothing_changes() {
    assert_eq!(next_step(&BTreeMap::new(), &membership(&[&[1]], &[]), |_| Some(9), 9), None);
}
