//! Who lets a node in: enough operators, each once, over exactly this order, in time.

use twinkeep_core::record::Admission;

use super::*;

/// A data node that wants to join zone b.
fn joiner() -> NodeRecord {
    record(2, NodeRole::Data, "b", 1, Standing::Learner)
}

/// What both of two operators sign.
fn signed_by_two(order: &AdmissionOrder) -> Vec<Approval> {
    OPERATORS[..2].iter().map(|(name, seed)| approval(name, *seed, order)).collect()
}

/// Applies an admission that has to change nothing, and returns why it did.
fn refused(cluster: &mut Node, order: &AdmissionOrder, approvals: Vec<Approval>) -> Refusal {
    let signed = cluster.signed_by(1, &cluster.key, vec![admit_with(order, approvals)]);
    cluster.refused(&signed)
}

fn admitted(cluster: &mut Node, order: &AdmissionOrder, approvals: Vec<Approval>) -> bool {
    let outcome = cluster.apply_one(admit_with(order, approvals));
    matches!(outcome, Outcome::Applied(Applied::Admission(_)))
}

#[test]
fn any_two_of_three_operators_admit_a_node_and_three_do_too() {
    let order = order(&joiner());
    for who in [&[0, 1][..], &[1, 0], &[2, 0], &[1, 2], &[0, 1, 2]] {
        let sign = |at: &usize| approval(OPERATORS[*at].0, OPERATORS[*at].1, &order);
        assert!(admitted(&mut Node::begun(), &order, who.iter().map(sign).collect()), "{who:?}");
    }
}

#[test]
fn too_few_approvals_are_counted() {
    let mut cluster = Node::begun();
    let order = order(&joiner());
    let none = Refusal::TooFewApprovals { given: 0, needed: 2 };
    assert_eq!(refused(&mut cluster, &order, vec![]), none);
    let one = refused(&mut cluster, &order, vec![approval("cho", 103, &order)]);
    assert_eq!(one, Refusal::TooFewApprovals { given: 1, needed: 2 });
    assert!(one.to_string().starts_with("1 of 2 operators"), "{one}");
}

#[test]
fn one_operator_counts_once() {
    let mut cluster = Node::begun();
    let order = order(&joiner());
    let twice = vec![approval("ann", 101, &order), approval("ann", 101, &order)];
    assert_eq!(refused(&mut cluster, &order, twice), Refusal::ApprovedTwice(caller("ann")));
    let mut thrice = signed_by_two(&order);
    thrice.push(approval("ann", 101, &order));
    assert_eq!(refused(&mut cluster, &order, thrice), Refusal::ApprovedTwice(caller("ann")));
}

#[test]
fn stranger_neither_approves_nor_signs_for_an_operator() {
    let mut cluster = Node::begun();
    let order = order(&joiner());
    let with = |more: Approval| [signed_by_two(&order), vec![more]].concat();
    // Two good ones beside it do not help: somebody should look at what happened.
    let unknown = refused(&mut cluster, &order, with(approval("eve", 9, &order)));
    assert_eq!(unknown, Refusal::NoOperator(caller("eve")));
    let forged = refused(&mut cluster, &order, with(approval("cho", 9, &order)));
    assert_eq!(forged, Refusal::WrongApproval(caller("cho")));
    // Nor does one operator for another, nor the cluster's own command key.
    for seed in [101, 1] {
        let lent = refused(&mut cluster, &order, with(approval("cho", seed, &order)));
        assert_eq!(lent, Refusal::WrongApproval(caller("cho")));
    }
}

#[test]
fn approval_of_an_order_that_differs_in_one_field_is_refused() {
    let mut cluster = Node::begun();
    let asked = order(&joiner());
    let other = |change: fn(&mut AdmissionOrder)| {
        let mut signed = asked.clone();
        change(&mut signed);
        assert_ne!(signed, asked);
        signed
    };
    let signed = [
        other(|order| order.cluster = ClusterId::from_bytes([0x11; 16])),
        other(|order| order.incarnation = Incarnation::new(2).unwrap()),
        other(|order| order.spki_sha256[31] ^= 1),
        other(|order| order.role = NodeRole::Witness),
        other(|order| order.zone = "a".parse().unwrap()),
        other(|order| order.expires_ms += 1),
    ];
    for signed in signed {
        let mixed = vec![approval("ann", 101, &asked), approval("bob", 102, &signed)];
        let why = refused(&mut cluster, &asked, mixed);
        assert_eq!(why, Refusal::WrongApproval(caller("bob")), "{signed:?}");
    }
    assert!(admitted(&mut cluster, &asked, signed_by_two(&asked)), "the one that was signed");
}

#[test]
fn order_that_is_over_or_lasts_too_long_is_refused() {
    let mut cluster = Node::begun();
    let until = |expires_ms| AdmissionOrder { expires_ms, ..order(&joiner()) };
    let check = |cluster: &mut Node, order: &AdmissionOrder| {
        let approvals = signed_by_two(order);
        refused(cluster, order, approvals)
    };
    for expires_ms in [0, START_MS - 1, START_MS] {
        let lapsed = Refusal::AdmissionLapsed { expires_ms, now_ms: START_MS };
        assert_eq!(check(&mut cluster, &until(expires_ms)), lapsed);
    }
    let last = START_MS + AdmissionOrder::LIFE_MAX_MS;
    for expires_ms in [last + 1, u64::MAX] {
        let long = Refusal::AdmissionTooLong { expires_ms, now_ms: START_MS };
        assert_eq!(check(&mut cluster, &until(expires_ms)), long);
    }
    assert!(admitted(&mut cluster, &until(last), signed_by_two(&until(last))));
    // The node that it lets in has less time than the operators had.
    let open = Admission::all(&cluster.state).unwrap();
    assert_eq!(open[0].expires_ms, START_MS + Admission::LIFE_MAX_MS);
    // By the replicated clock, whatever anybody's own says.
    let short = until(START_MS + 20_000);
    cluster.apply_one(Command::Clock { unix_ms: START_MS + 20_000 });
    assert!(matches!(check(&mut cluster, &short), Refusal::AdmissionLapsed { .. }));
}

#[test]
fn more_approvals_than_a_cluster_can_have_operators_are_refused_unread() {
    let mut cluster = Node::begun();
    let order = order(&joiner());
    let many = vec![approval("ann", 101, &order); AdmissionOrder::APPROVALS_MAX + 1];
    assert!(matches!(refused(&mut cluster, &order, many), Refusal::LimitReached { max: 16, .. }));
}

#[test]
fn each_bit_flip_of_an_approval_or_of_what_was_signed_is_refused() {
    let cluster = Node::begun();
    let record = ClusterRecord::load(&cluster.state, &()).unwrap().unwrap();
    let order = order(&joiner());
    let good = signed_by_two(&order);
    assert_eq!(order.check(&good, &record, START_MS, &RingVerifier), Ok(()));
    for bit in 0..512 {
        let mut flipped = good.clone();
        flipped[1].signature[bit / 8] ^= 1 << (bit % 8);
        let why = order.check(&flipped, &record, START_MS, &RingVerifier).unwrap_err();
        assert_eq!(why, Refusal::WrongApproval(caller("bob")), "bit {bit} of the signature");
    }
    let key = &record.operators[1].signing_key;
    let message = order.message();
    assert!(RingVerifier.verify(key, &message, &good[1].signature));
    for bit in 0..message.len() * 8 {
        let mut flipped = message.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(
            !RingVerifier.verify(key, &flipped, &good[1].signature),
            "bit {bit} of the message"
        );
    }
}

/// One approval serves one admission: the record that a join leaves holds the key.
#[test]
fn approved_order_is_used_once() {
    let mut cluster = Node::begun();
    let node = joiner();
    let order = order(&node);
    assert!(admitted(&mut cluster, &order, signed_by_two(&order)));
    assert!(matches!(join(&mut cluster, &node), Outcome::Applied(_)));
    assert_eq!(refused(&mut cluster, &order, signed_by_two(&order)), Refusal::KeyJoined);
}

/// A lost answer took the pass with it, and the node was locked out until the admission lapsed.
#[test]
fn order_that_is_repeated_gets_the_open_admission_again() {
    let mut cluster = Node::begun();
    let node = joiner();
    let first = order(&node);
    let answer = cluster.apply_one(admit_with(&first, signed_by_two(&first)));
    assert!(matches!(answer, Outcome::Applied(Applied::Admission(_))), "{answer:?}");
    let before = cluster.state.clone();
    // Also when it was approved anew, to a later end: the open one keeps its own.
    let later = AdmissionOrder { expires_ms: first.expires_ms + 1_000, ..first.clone() };
    for again in [&first, &later] {
        let repeated = cluster.apply_one(admit_with(again, signed_by_two(again)));
        assert_eq!(repeated, answer);
        assert_eq!(cluster.state, before, "a repetition changed the state");
    }
    assert!(matches!(join(&mut cluster, &node), Outcome::Applied(_)));
}

#[test]
fn open_admission_is_given_to_nobody_else() {
    let mut cluster = Node::begun();
    let first = order(&joiner());
    assert!(admitted(&mut cluster, &first, signed_by_two(&first)));
    let none = Refusal::TooFewApprovals { given: 0, needed: 2 };
    assert_eq!(refused(&mut cluster, &first, vec![]), none);
    let others = [
        AdmissionOrder { role: NodeRole::Witness, ..first.clone() },
        AdmissionOrder { zone: "a".parse().unwrap(), ..first.clone() },
    ];
    for other in others {
        let approvals = signed_by_two(&other);
        assert_eq!(refused(&mut cluster, &other, approvals), Refusal::KeyJoined, "{other:?}");
    }
}

#[test]
fn cluster_does_not_begin_with_operators_who_cannot_approve() {
    let begin = |change: fn(&mut ClusterRecord)| {
        let mut node = Node { state: Memory::default(), index: 0, key: pair(1) };
        let Command::Genesis(mut genesis) = node.genesis() else { unreachable!() };
        change(&mut genesis.cluster);
        node.apply_one(Command::Genesis(genesis))
    };
    let changes: [fn(&mut ClusterRecord); 6] = [
        |cluster| cluster.approvals_min = 0,
        |cluster| cluster.approvals_min = 4,
        |cluster| cluster.operators.clear(),
        |cluster| cluster.operators[2].name = cluster.operators[0].name.clone(),
        // Ann could approve in Cho's name.
        |cluster| cluster.operators[2].signing_key = cluster.operators[0].signing_key,
        |cluster| {
            let many = (0..17).map(|i| operator((&format!("operator-{i}"), i)));
            cluster.operators = many.collect();
        },
    ];
    for change in changes {
        assert_eq!(begin(change), Outcome::Refused(Refusal::OperatorsUnfit));
    }
    assert!(matches!(begin(|cluster| cluster.approvals_min = 3), Outcome::Applied(_)));
}
