//! Forced recovery: what operators sign, and what the state looks like when the next life begins.

use twinkeep_core::leadership::Leadership;
use twinkeep_core::record::{Admission, LeadershipRecord, RecoveryRecord, ReplicationRecord};
use twinkeep_core::recovery::{LastEntry, RecoveryOrder, Survivor, Unfit, recover};
use twinkeep_core::replication::{Mode, usable_up_to};

use super::*;

const NOW_MS: u64 = START_MS + 3_600_000;

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

/// Two data nodes in each of two zones and a witness: 1 and 2 in a, 3 and 4 in b, 5 outside.
fn five() -> Node {
    let mut cluster = Node::begun();
    cluster
        .apply_one(Command::RaiseVersion { to: ClusterVersion::NEWEST, expected: Revision::FIRST });
    for (node, role, zone, host) in [
        (2, NodeRole::Data, "a", 2),
        (3, NodeRole::Data, "b", 1),
        (4, NodeRole::Data, "b", 2),
        (5, NodeRole::Witness, "w", 1),
    ] {
        admitted_and_joined(&mut cluster, &record(node, role, zone, host, Standing::Learner));
    }
    let promoted = cluster.apply_one(promote(&[2, 3, 4, 5], 1));
    assert!(matches!(promoted, Outcome::Applied(_)), "{promoted:?}");
    assert!(matches!(cluster.apply_one(create_key(1)), Outcome::Applied(_)));
    cluster
}

fn survivor(former: u64, node: u64) -> Survivor {
    let spki_sha256 = [u8::try_from(former).unwrap(); 32];
    Survivor { former: id(former), node: id(node), spki_sha256 }
}

/// Zone b goes on; zone a and the witness are lost.
fn order(cluster: &Node) -> RecoveryOrder {
    RecoveryOrder {
        cluster: CLUSTER,
        ends: Incarnation::FIRST,
        last: LastEntry { term: 3, leader: 1, index: cluster.index },
        complete_until_ms: NOW_MS - 1000,
        expires_ms: NOW_MS + 60_000,
        survivors: vec![survivor(3, 101), survivor(4, 102)],
        lost: vec![id(1), id(2), id(5)],
    }
}

fn signed(order: &RecoveryOrder, who: &[usize]) -> Vec<Approval> {
    let sign = |at: &usize| {
        let (name, seed) = OPERATORS[*at];
        let signature = pair(seed).sign(&order.message());
        Approval { operator: caller(name), signature: signature.as_ref().try_into().unwrap() }
    };
    who.iter().map(sign).collect()
}

fn recovered(cluster: &mut Node, order: &RecoveryOrder) -> NodeRecord {
    let (approvals, index) = (signed(order, &[0, 1]), cluster.index + 1);
    recover(&mut cluster.state, order, &approvals, index, NOW_MS, &RingVerifier).unwrap().unwrap()
}

/// Tries what has to change nothing, and returns why it did.
fn refused(order: &RecoveryOrder, approvals: &[Approval], now_ms: u64) -> Unfit {
    let mut cluster = five();
    let (before, index) = (cluster.state.clone(), cluster.index + 1);
    let tried = recover(&mut cluster.state, order, approvals, index, now_ms, &RingVerifier);
    assert_eq!(cluster.state, before, "a refusal changed the state");
    tried.unwrap().unwrap_err()
}

#[test]
fn next_life_has_one_voter_and_knows_the_former_nodes_as_removed() {
    let mut cluster = five();
    let order = order(&cluster);
    let first = recovered(&mut cluster, &order);
    let next = Incarnation::new(2).unwrap();
    assert_eq!((first.id, first.incarnation, first.standing), (id(101), next, Standing::Voter));
    let nodes = NodeRecord::all(&cluster.state).unwrap();
    let living: Vec<_> = nodes.iter().filter(|n| n.standing != Standing::Removed).collect();
    assert_eq!(living, [&first]);
    assert_eq!(nodes.len(), 6);
    assert!(
        nodes[..5].iter().all(|n| n.incarnation == Incarnation::FIRST && n.removed_ms.is_some())
    );
    let open = Admission::all(&cluster.state).unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].node, open[0].spki_sha256), (id(102), [4; 32]));
    assert_eq!(usable_up_to(&cluster.state).unwrap(), cluster.index + 1);
    let history = RecoveryRecord::history(&cluster.state).unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].begins, &history[0].order), (next, &order));
    assert!(cluster.key(1).state == KeyState::Enabled);
}

#[test]
fn batches_of_the_former_life_are_not_believed_in_the_next() {
    let mut cluster = five();
    // Signed before the recovery by a node that survives, and by one that is lost.
    let late = [1, 3].map(|signer| cluster.signed_by(signer, &cluster.key, vec![create_key(2)]));
    let order = order(&cluster);
    recovered(&mut cluster, &order);
    for signed in late {
        assert_eq!(cluster.refused(&signed), Refusal::Unsigned);
    }
}

#[test]
fn modes_and_wishes_of_the_former_life_are_over() {
    let mut cluster = five();
    let to = Mode::Degraded { zone: "a".parse().unwrap() };
    cluster.apply_one(Command::SetReplicationMode { to, expected: None });
    let wish = Leadership { preferred: Some("a".parse().unwrap()), drained: None };
    cluster.apply_one(Command::SetLeadership { to: wish, expected: None });
    let order = order(&cluster);
    recovered(&mut cluster, &order);
    let mode = ReplicationRecord::load(&cluster.state, &()).unwrap().unwrap();
    assert_eq!((mode.mode, mode.revision.get()), (Mode::Sync, 2));
    let wish = LeadershipRecord::load(&cluster.state, &()).unwrap().unwrap();
    assert_eq!(wish.leadership, Leadership::default());
}

/// The clock of the next life, signed as its first node signs.
fn in_next_life(cluster: &mut Node, command: Command) -> Outcome {
    let commands = vec![Proposal { actor: None, token: None, command }];
    let batch = Batch { not_after_ms: START_MS + Batch::LIFE_MS, commands }.to_bytes();
    let (incarnation, node) = (Incarnation::new(2).unwrap(), id(101));
    let signer = Signer { cluster: CLUSTER, incarnation, epoch: Epoch::FIRST, node };
    let signature = cluster.key.sign(&signer.message(Purpose::Command, &batch));
    let signature = signature.as_ref().try_into().unwrap();
    let signed = SignedBatch { incarnation, epoch: Epoch::FIRST, signer: node, batch, signature };
    cluster.apply_signed(&signed).pop().unwrap()
}

fn next_record(node: u64, zone: &str, host: u8, key: u8) -> NodeRecord {
    let incarnation = Incarnation::new(2).unwrap();
    let like = record(1, NodeRole::Data, zone, host, Standing::Learner);
    NodeRecord { id: id(node), spki_sha256: [key; 32], incarnation, ..like }
}

fn majority_zone(cluster: &Node) -> Option<String> {
    let record = ClusterRecord::load(&cluster.state, &()).unwrap().unwrap();
    record.preferred_zone.map(|zone| zone.to_string())
}

#[test]
fn second_survivor_joins_without_new_approvals_and_may_vote_at_once() {
    let mut cluster = five();
    let order = order(&cluster);
    recovered(&mut cluster, &order);
    assert_eq!(majority_zone(&cluster).as_deref(), Some("b"));
    let second = next_record(102, "b", 2, 4);
    // Another key than the order named, and another node id.
    for other in [next_record(102, "b", 2, 9), next_record(103, "b", 2, 4)] {
        let joined = in_next_life(&mut cluster, Command::JoinNode { node: Box::new(other) });
        assert_eq!(joined, Outcome::Refused(Refusal::NotAdmitted));
    }
    let joined = in_next_life(&mut cluster, Command::JoinNode { node: Box::new(second) });
    assert!(matches!(joined, Outcome::Applied(_)), "{joined:?}");
    let promoted = in_next_life(&mut cluster, promote(&[102], 1));
    assert!(matches!(promoted, Outcome::Applied(_)), "{promoted:?}");
    assert_eq!(majority_zone(&cluster).as_deref(), Some("b"), "two of two voters stand there");
}

#[test]
fn majority_is_taken_back_once_no_zone_needs_it() {
    let mut cluster = five();
    let order = order(&cluster);
    recovered(&mut cluster, &order);
    for (node, zone, host, role) in [
        (102, "b", 2, NodeRole::Data),
        (103, "a", 1, NodeRole::Data),
        (104, "w", 1, NodeRole::Witness),
    ] {
        let record =
            NodeRecord { role, ..next_record(node, zone, host, u8::try_from(node).unwrap()) };
        record.store(&mut cluster.state);
    }
    in_next_life(&mut cluster, promote(&[102], 1));
    assert_eq!(majority_zone(&cluster).as_deref(), Some("b"));
    in_next_life(&mut cluster, promote(&[103, 104], 1));
    assert_eq!(majority_zone(&cluster), None, "2 of 4 are no majority");
    assert!(!RecoveryRecord::history(&cluster.state).unwrap()[0].lends_majority);
}

#[test]
fn order_needs_the_operators_signatures_over_exactly_it() {
    let good = order(&five());
    let approvals = |who: &[usize]| signed(&good, who);
    let few = refused(&good, &approvals(&[2]), NOW_MS);
    assert!(matches!(few, Unfit::Approvals(Refusal::TooFewApprovals { given: 1, needed: 2 })));
    let changes: [fn(&mut RecoveryOrder); 6] = [
        |order| order.last.index -= 1,
        |order| order.complete_until_ms += 1,
        |order| order.expires_ms += 1,
        |order| order.survivors.swap(0, 1),
        |order| order.survivors[0].node = id(201),
        |order| order.lost.swap(0, 1),
    ];
    for change in changes {
        let mut other = good.clone();
        change(&mut other);
        let unfit = refused(&other, &approvals(&[0, 1]), NOW_MS);
        assert!(matches!(unfit, Unfit::Approvals(Refusal::WrongApproval(_))), "{other:?}");
    }
}

#[test]
fn order_that_does_not_fit_the_cluster_is_refused_by_its_node() {
    let good = order(&five());
    let tried = |change: fn(&mut RecoveryOrder)| {
        let mut order = good.clone();
        change(&mut order);
        refused(&order, &signed(&order, &[0, 2]), NOW_MS)
    };
    assert_eq!(tried(|o| o.lost.truncate(2)), Unfit::NotNamed(id(5)));
    assert_eq!(tried(|o| o.lost.push(id(9))), Unfit::Unknown(id(9)));
    assert_eq!(tried(|o| o.lost.push(id(4))), Unfit::NamedTwice(id(4)));
    assert_eq!(tried(|o| o.survivors[1].node = id(101)), Unfit::NamedTwice(id(101)));
    assert_eq!(tried(|o| o.survivors.clear()), Unfit::NoSurvivor);
    assert_eq!(tried(|o| o.survivors[1].spki_sha256 = [9; 32]), Unfit::NotFit(id(4)));
    // It cannot even be signed.
    let mut many = good.clone();
    many.lost = (1..=256).map(id).collect();
    assert_eq!(refused(&many, &[], NOW_MS), Unfit::TooManyNodes);
    // A witness has the log, and cannot bring a state.
    let witness = tried(|o| {
        o.lost = vec![id(1), id(2)];
        o.survivors.push(survivor(5, 103));
    });
    assert_eq!(witness, Unfit::NotFit(id(5)));
    let other = tried(|o| o.cluster = ClusterId::from_bytes([9; 16]));
    assert!(matches!(other, Unfit::OtherLife { .. }));
    let later = tried(|o| o.ends = Incarnation::new(2).unwrap());
    assert!(matches!(later, Unfit::OtherLife { .. }));
}

#[test]
fn order_with_an_id_that_was_given_is_refused() {
    let mut good = order(&five());
    good.survivors[1].node = id(5);
    good.lost = vec![id(1), id(2)];
    // Neither lost nor going on, its id would be given to another node.
    let unfit = refused(&good, &signed(&good, &[0, 1]), NOW_MS);
    assert_eq!(unfit, Unfit::NotNamed(id(5)));
    let mut cluster = five();
    let first = order(&cluster);
    recovered(&mut cluster, &first);
    let mut second = RecoveryOrder {
        ends: Incarnation::new(2).unwrap(),
        survivors: vec![Survivor { former: id(101), ..survivor(3, 102) }],
        lost: Vec::new(),
        ..first
    };
    let index = cluster.index + 2;
    let mut again = |order: &RecoveryOrder| {
        let approvals = signed(order, &[0, 1]);
        recover(&mut cluster.state, order, &approvals, index, NOW_MS, &RingVerifier).unwrap()
    };
    assert_eq!(again(&second), Err(Unfit::IdTaken(id(102))), "the admission has it");
    second.survivors[0].node = id(201);
    assert_eq!(again(&second).unwrap().incarnation.get(), 3);
}

#[test]
fn order_that_has_lapsed_or_holds_too_long_is_refused() {
    let good = order(&five());
    let approvals = signed(&good, &[0, 1]);
    let late = refused(&good, &approvals, good.expires_ms + 1);
    assert!(matches!(late, Unfit::Lapsed { .. }));
    let early = refused(&good, &approvals, good.expires_ms - RecoveryOrder::LIFE_MAX_MS - 1);
    assert!(matches!(early, Unfit::Lapsed { .. }));
}
