//! Applies signed batches to a state in memory: who is believed, what is refused, what a replay does.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod approvals;
mod leadership;
mod recovery;
mod replication;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use twinkeep_core::access::{Grant, Role, Scope};
use twinkeep_core::admission::{AdmissionOrder, Approval};
use twinkeep_core::apply::{Trust, apply_entry, now_ms};
use twinkeep_core::command::{
    Batch, Command, Genesis, Proposal, Purpose, SignatureVerifier, SignedBatch, Signer,
    StandingChange,
};
use twinkeep_core::id::{ClusterId, Epoch, Incarnation, KeyId, KeyVersionNumber, NodeId, Revision};
use twinkeep_core::key::{KeyEvent, KeyState};
use twinkeep_core::name::CallerName;
use twinkeep_core::outcome::{Applied, Outcome, Refusal};
use twinkeep_core::record::{
    Binding, ClusterRecord, ClusterVersion, CommandKey, Digest, KeyRecord, KeyVersionRecord,
    NodeRecord, Operator, Record, RecordKind, Roots, SealedRecord, Token, TokenRecord,
};
use twinkeep_core::topology::{Misplaced, NodeRole, Placement, Standing};
use twinkeep_testkit::memory::Memory;
use twinkeep_testkit::records::{INSTANCE, create_instance, create_key};

const CLUSTER: ClusterId = ClusterId::from_bytes([0x10; 16]);
const START_MS: u64 = 1_800_000_000_000;

struct RingVerifier;

impl SignatureVerifier for RingVerifier {
    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
    }
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().unwrap()
}

fn caller(name: &str) -> CallerName {
    CallerName::parse(name).unwrap()
}

/// A cluster as one node sees it: its state and the next log index.
struct Node {
    state: Memory,
    index: u64,
    key: Ed25519KeyPair,
}

impl Node {
    fn begun() -> Self {
        let mut node = Self { state: Memory::default(), index: 0, key: pair(1) };
        let genesis = node.genesis();
        assert_eq!(node.apply(vec![genesis]), vec![Outcome::Applied(Applied::Cluster)]);
        let instance = create_instance("main", INSTANCE);
        assert!(matches!(node.apply_one(instance), Outcome::Applied(Applied::Instance(_))));
        node
    }

    fn trust(&self) -> Trust {
        Trust { cluster: CLUSTER, genesis_key: public(&self.key) }
    }

    fn genesis(&self) -> Command {
        Command::Genesis(Box::new(Genesis {
            cluster: ClusterRecord {
                id: CLUSTER,
                incarnation: Incarnation::FIRST,
                version: ClusterVersion(1),
                epoch: Epoch::FIRST,
                command_keys: vec![CommandKey { epoch: Epoch::FIRST, public: public(&self.key) }],
                roots: Roots { node: vec![1], caller: vec![2], endpoint: vec![3] },
                operators: OPERATORS.map(operator).to_vec(),
                dev: true,
                preferred_zone: None,
                domain: "twinkeep.example".into(),
                revision: Revision::FIRST,
                approvals_min: 2,
                freshness_lease_ms: None,
            },
            node: record(1, NodeRole::Data, "a", 1, Standing::Voter),
            seals: vec![],
            sealed: vec![],
            admin: Binding {
                caller: caller("admin"),
                grants: vec![Grant { role: Role::Admin, scope: Scope::Cluster }],
                revision: Revision::FIRST,
            },
            unix_ms: START_MS,
        }))
    }

    fn signed_by(&self, signer: u64, key: &Ed25519KeyPair, commands: Vec<Command>) -> SignedBatch {
        let commands = commands.into_iter().map(|command| Proposal {
            actor: Some(caller("admin")),
            token: None,
            command,
        });
        self.sign(signer, key, commands.collect())
    }

    fn sign(&self, signer: u64, key: &Ed25519KeyPair, commands: Vec<Proposal>) -> SignedBatch {
        let batch = Batch { not_after_ms: START_MS + Batch::LIFE_MS, commands }.to_bytes();
        let signer = Signer {
            cluster: CLUSTER,
            incarnation: Incarnation::FIRST,
            epoch: Epoch::FIRST,
            node: NodeId::new(signer).unwrap(),
        };
        let signature = key.sign(&signer.message(Purpose::Command, &batch));
        SignedBatch {
            incarnation: signer.incarnation,
            epoch: signer.epoch,
            signer: signer.node,
            batch,
            signature: signature.as_ref().try_into().unwrap(),
        }
    }

    fn apply_signed(&mut self, signed: &SignedBatch) -> Vec<Outcome> {
        self.apply_bytes(&signed.to_bytes())
    }

    fn apply_bytes(&mut self, bytes: &[u8]) -> Vec<Outcome> {
        self.index += 1;
        let trust = self.trust();
        apply_entry(&mut self.state, self.index, bytes, &trust, &RingVerifier).unwrap()
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let signed = self.signed_by(1, &self.key, commands);
        self.apply_signed(&signed)
    }

    fn apply_one(&mut self, command: Command) -> Outcome {
        self.apply(vec![command]).pop().unwrap()
    }

    /// Applies and asserts that the state stays as it was.
    fn refused(&mut self, signed: &SignedBatch) -> Refusal {
        let before = self.state.clone();
        let outcome = self.apply_signed(signed).pop().unwrap();
        assert_eq!(self.state, before, "a refusal changed the state");
        match outcome {
            Outcome::Refused(refusal) => refusal,
            Outcome::Applied(applied) => panic!("applied {applied:?}"),
        }
    }

    fn key(&self, id: u8) -> KeyRecord {
        KeyRecord::load(&self.state, &KeyId::from_bytes([id; 16])).unwrap().unwrap()
    }
}

fn move_key(id: u8, event: KeyEvent, expected: u64) -> Command {
    let expected = Revision::new(expected).unwrap();
    Command::MoveKey { key: KeyId::from_bytes([id; 16]), event, expected }
}

fn placement(zone: &str, net: u8, host: u8) -> Placement {
    Placement {
        zone: zone.parse().unwrap(),
        vpc: "vpc-1".parse().unwrap(),
        vswitch: format!("vsw-{zone}").parse().unwrap(),
        cidr: format!("127.0.{net}.0/24").parse().unwrap(),
        client_address: format!("127.0.{net}.{host}:7100").parse().unwrap(),
        peer_address: format!("127.0.{net}.{host}:7101").parse().unwrap(),
    }
}

fn record(id: u64, role: NodeRole, zone: &str, host: u8, standing: Standing) -> NodeRecord {
    let net = match zone {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    NodeRecord {
        id: NodeId::new(id).unwrap(),
        role,
        standing,
        placement: placement(zone, net, host),
        spki_sha256: [u8::try_from(id).unwrap(); 32],
        incarnation: Incarnation::FIRST,
        revision: Revision::FIRST,
        removed_ms: None,
    }
}

/// The operators with the seeds of their signing keys; any two approve.
const OPERATORS: [(&str, u8); 3] = [("ann", 101), ("bob", 102), ("cho", 103)];

fn operator((name, seed): (&str, u8)) -> Operator {
    let recipient = format!("age1{name}");
    Operator { name: caller(name), recipient, signing_key: public(&pair(seed)) }
}

fn order(node: &NodeRecord) -> AdmissionOrder {
    AdmissionOrder {
        cluster: CLUSTER,
        incarnation: Incarnation::FIRST,
        spki_sha256: node.spki_sha256,
        role: node.role,
        zone: node.placement.zone.clone(),
        expires_ms: START_MS + 60_000,
    }
}

fn approval(name: &str, seed: u8, order: &AdmissionOrder) -> Approval {
    let signature = pair(seed).sign(&order.message());
    Approval { operator: caller(name), signature: signature.as_ref().try_into().unwrap() }
}

fn admit_with(order: &AdmissionOrder, approvals: Vec<Approval>) -> Command {
    let AdmissionOrder { spki_sha256, role, zone, expires_ms, .. } = order.clone();
    Command::AdmitNode { spki_sha256, role, zone, expires_ms, approvals }
}

fn admit(node: &NodeRecord) -> Command {
    let order = order(node);
    let approvals = OPERATORS[..2].iter().map(|(name, seed)| approval(name, *seed, &order));
    admit_with(&order, approvals.collect())
}

fn join(cluster: &mut Node, node: &NodeRecord) -> Outcome {
    cluster.apply_one(Command::JoinNode { node: Box::new(node.clone()) })
}

fn admitted_and_joined(cluster: &mut Node, node: &NodeRecord) {
    assert!(matches!(
        cluster.apply_one(admit(node)),
        Outcome::Applied(Applied::Admission(admission)) if admission.node == node.id
    ));
    assert!(matches!(join(cluster, node), Outcome::Applied(Applied::Nodes(_))));
}

fn promote(nodes: &[u64], revision: u64) -> Command {
    let change = |id: &u64| StandingChange {
        node: NodeId::new(*id).unwrap(),
        to: Standing::Voter,
        expected: Revision::new(revision).unwrap(),
    };
    Command::SetStandings { changes: nodes.iter().map(change).collect() }
}

/// A data node in each of zones a and b, and a witness.
fn two_zones() -> Node {
    let mut node = Node::begun();
    admitted_and_joined(&mut node, &record(2, NodeRole::Data, "b", 1, Standing::Learner));
    admitted_and_joined(&mut node, &record(3, NodeRole::Witness, "w", 1, Standing::Learner));
    assert!(matches!(node.apply_one(promote(&[2, 3], 1)), Outcome::Applied(_)));
    node
}

fn applied(node: &mut Node, command: Command) {
    assert_eq!(node.apply_one(command), Outcome::Applied(Applied::Cluster));
}

fn refusal(node: &mut Node, command: Command) -> Refusal {
    let signed = node.signed_by(1, &node.key, vec![command]);
    node.refused(&signed)
}

#[test]
fn created_key_is_there_with_version_and_sealed_material() {
    let mut node = Node::begun();
    let outcome = node.apply_one(create_key(1));
    let key = node.key(1);
    assert_eq!(outcome, Outcome::Applied(Applied::Key(Box::new(key.clone()))));
    assert_eq!(
        (key.state, key.revision, key.created_ms),
        (KeyState::Enabled, Revision::FIRST, START_MS)
    );
    let version = KeyVersionRecord::load(&node.state, &(key.id, key.primary)).unwrap().unwrap();
    assert_eq!(version.created_index, node.index);
    let material = KeyVersionRecord::material_key(&key.id, key.primary);
    let id = (RecordKind::KeyMaterial, INSTANCE, material);
    assert!(SealedRecord::load(&node.state, &id).unwrap().is_some());
}

#[test]
fn unsigned_and_strangers_batches_change_nothing() {
    let mut node = Node::begun();
    let stranger = node.signed_by(1, &pair(9), vec![create_key(1)]);
    assert_eq!(node.refused(&stranger), Refusal::Unsigned);
    let mut unsigned = node.signed_by(1, &node.key, vec![create_key(1)]);
    unsigned.signature = [0; 64];
    assert_eq!(node.refused(&unsigned), Refusal::Unsigned);
    let mut altered = node.signed_by(1, &node.key, vec![create_key(1)]);
    *altered.batch.last_mut().unwrap() ^= 1;
    assert_eq!(node.refused(&altered), Refusal::Unsigned);
}

#[test]
fn batch_of_another_incarnation_or_epoch_changes_nothing() {
    let mut node = Node::begun();
    let mut signed = node.signed_by(1, &node.key, vec![create_key(1)]);
    signed.incarnation = Incarnation::new(2).unwrap();
    assert_eq!(node.refused(&signed), Refusal::Unsigned);
    let mut signed = node.signed_by(1, &node.key, vec![create_key(1)]);
    signed.epoch = Epoch::new(2).unwrap();
    assert_eq!(node.refused(&signed), Refusal::Unsigned);
}

#[test]
fn witness_removed_node_and_unknown_node_cannot_sign() {
    let mut node = Node::begun();
    let witness = record(2, NodeRole::Witness, "w", 1, Standing::Learner);
    admitted_and_joined(&mut node, &witness);
    for signer in [2, 77] {
        let signed = node.signed_by(signer, &node.key, vec![create_key(1)]);
        assert_eq!(node.refused(&signed), Refusal::Unsigned, "signed as node {signer}");
    }
}

#[test]
fn replayed_batch_changes_nothing() {
    let mut node = Node::begun();
    let create = node.signed_by(1, &node.key, vec![create_key(1)]);
    node.apply_signed(&create);
    let disable = node.signed_by(1, &node.key, vec![move_key(1, KeyEvent::Disable, 1)]);
    node.apply_signed(&disable);
    node.apply_one(move_key(1, KeyEvent::Enable, 2));
    assert_eq!(node.refused(&create), Refusal::KeyExists(KeyId::from_bytes([1; 16])));
    assert!(matches!(node.refused(&disable), Refusal::RevisionMismatch { .. }));
    assert_eq!(node.key(1).state, KeyState::Enabled);
}

#[test]
fn batch_that_was_held_back_is_refused_once_the_clock_is_past_it() {
    let mut node = Node::begun();
    let held = node.signed_by(1, &node.key, vec![create_key(1)]);
    node.apply_one(Command::Clock { unix_ms: START_MS + Batch::LIFE_MS + 1 });
    assert!(matches!(node.refused(&held), Refusal::Expired { .. }));
}

#[test]
fn clock_never_goes_back() {
    let mut node = Node::begun();
    node.apply_one(Command::Clock { unix_ms: START_MS + 500 });
    node.apply_one(Command::Clock { unix_ms: START_MS - 500 });
    assert_eq!(now_ms(&node.state).unwrap(), START_MS + 500);
}

#[test]
fn second_genesis_changes_nothing() {
    let mut node = Node::begun();
    let again = node.signed_by(1, &node.key, vec![node.genesis()]);
    assert_eq!(node.refused(&again), Refusal::AlreadyBegun);
}

#[test]
fn genesis_by_another_key_than_the_pinned_one_changes_nothing() {
    let mut node = Node { state: Memory::default(), index: 0, key: pair(1) };
    let foreign = node.signed_by(1, &pair(2), vec![node.genesis()]);
    assert_eq!(node.refused(&foreign), Refusal::Unsigned);
}

#[test]
fn garbage_is_a_refusal_and_never_a_panic() {
    let mut node = Node::begun();
    let good = node.signed_by(1, &node.key, vec![create_key(1)]).to_bytes();
    let longer = [good, vec![0]].concat();
    for bytes in [&b""[..], &[0xff; 40], &[0x85, 1, 1, 1, 0x40, 0x40], &longer] {
        assert_eq!(node.apply_bytes(bytes), vec![Outcome::Refused(Refusal::Malformed)]);
    }
}

#[test]
fn one_refused_command_leaves_the_others_of_its_batch_alone() {
    let mut node = Node::begun();
    let outcomes =
        node.apply(vec![create_key(1), move_key(9, KeyEvent::Disable, 1), create_key(2)]);
    assert!(matches!(
        outcomes[..],
        [Outcome::Applied(_), Outcome::Refused(Refusal::NoKey(_)), Outcome::Applied(_)]
    ));
}

#[test]
fn of_two_changes_that_saw_the_same_revision_the_second_is_refused() {
    let mut node = Node::begun();
    node.apply_one(create_key(1));
    let outcomes = node
        .apply(vec![move_key(1, KeyEvent::Disable, 1), move_key(1, KeyEvent::ScheduleDeletion, 1)]);
    assert!(matches!(outcomes[0], Outcome::Applied(_)));
    assert!(matches!(outcomes[1], Outcome::Refused(Refusal::RevisionMismatch { .. })));
}

#[test]
fn sealed_record_of_another_key_is_refused() {
    let mut node = Node::begun();
    let Command::CreateKey(mut new) = create_key(1) else { unreachable!() };
    let other =
        KeyVersionRecord::material_key(&KeyId::from_bytes([2; 16]), KeyVersionNumber::FIRST);
    new.sealed.record_key = other;
    let signed = node.signed_by(1, &node.key, vec![Command::CreateKey(new)]);
    assert_eq!(node.refused(&signed), Refusal::SealedElsewhere);
}

#[test]
fn repeated_token_returns_the_first_outcome_and_a_reused_one_is_refused() {
    let mut node = Node::begun();
    let token = |digest| Token {
        token: [5; 16],
        operation: twinkeep_core::access::Permission::CreateKey,
        digest: Digest([digest; 32]),
    };
    let tokened = |node: &Node, id, digest| {
        let proposal = Proposal {
            actor: Some(caller("admin")),
            token: Some(token(digest)),
            command: create_key(id),
        };
        node.sign(1, &node.key, vec![proposal])
    };
    let first = tokened(&node, 1, 1);
    let first = node.apply_signed(&first);
    // A retry draws new ids for the same request.
    let retry = tokened(&node, 2, 1);
    assert_eq!(node.apply_signed(&retry), first);
    assert!(KeyRecord::load(&node.state, &KeyId::from_bytes([2; 16])).unwrap().is_none());
    let other = tokened(&node, 3, 2);
    assert_eq!(node.refused(&other), Refusal::TokenReused);
    // A day later the token is free again.
    node.apply_one(Command::Clock { unix_ms: START_MS + TokenRecord::LIFE_MS });
    assert!(TokenRecord::all(&node.state).unwrap().is_empty());
}

#[test]
fn last_administrator_cannot_be_taken_away() {
    let mut node = Node::begun();
    let set = |name: &str, grants: Vec<Grant>, expected: Option<u64>| Command::SetBinding {
        caller: caller(name),
        grants,
        expected: expected.map(|r| Revision::new(r).unwrap()),
    };
    let revoke = node.signed_by(1, &node.key, vec![set("admin", vec![], Some(1))]);
    assert_eq!(node.refused(&revoke), Refusal::LastAdmin);
    let admin = Grant { role: Role::Admin, scope: Scope::Cluster };
    assert!(matches!(node.apply_one(set("second", vec![admin], None)), Outcome::Applied(_)));
    assert!(matches!(node.apply_one(set("admin", vec![], Some(1))), Outcome::Applied(_)));
    // The empty record stays, so that the first grant cannot be replayed.
    let replay = node.signed_by(1, &node.key, vec![set("admin", vec![admin], None)]);
    assert!(matches!(node.refused(&replay), Refusal::RevisionMismatch { .. }));
}

#[test]
fn five_nodes_join_and_become_voters_in_one_step() {
    let mut cluster = Node::begun();
    let nodes = [
        record(2, NodeRole::Data, "a", 2, Standing::Learner),
        record(3, NodeRole::Data, "b", 1, Standing::Learner),
        record(4, NodeRole::Data, "b", 2, Standing::Learner),
        record(5, NodeRole::Witness, "w", 1, Standing::Learner),
    ];
    for node in &nodes {
        admitted_and_joined(&mut cluster, node);
    }
    // Two more voters in zone a's favour would make it a majority.
    let lopsided = cluster.signed_by(1, &cluster.key, vec![promote(&[2, 3], 1)]);
    assert!(matches!(
        cluster.refused(&lopsided),
        Refusal::Misplaced(Misplaced::MajorityInZone { voters: 2, all: 3, .. })
    ));
    assert!(matches!(cluster.apply_one(promote(&[2, 3, 4, 5], 1)), Outcome::Applied(_)));
    let voters = NodeRecord::all(&cluster.state).unwrap();
    assert!(voters.iter().all(|node| node.standing == Standing::Voter));
}

#[test]
fn each_wrong_placement_is_refused_by_its_name() {
    let mut cluster = Node::begun();
    let good = record(2, NodeRole::Data, "a", 2, Standing::Learner);
    let spoil = |change: fn(&mut NodeRecord)| {
        let mut node = good.clone();
        change(&mut node);
        node
    };
    let cases = [
        spoil(|n| n.placement.client_address = "127.0.2.9:1".parse().unwrap()),
        spoil(|n| n.placement.vpc = "vpc-2".parse().unwrap()),
        spoil(|n| n.placement.cidr = "127.0.0.0/16".parse().unwrap()),
        spoil(|n| n.placement.vswitch = "vsw-x".parse().unwrap()),
        spoil(|n| n.placement.peer_address = "127.0.1.1:7101".parse().unwrap()),
    ];
    assert!(matches!(cluster.apply_one(admit(&good)), Outcome::Applied(_)));
    let errors: Vec<String> = cases
        .iter()
        .map(|node| match join(&mut cluster, node) {
            Outcome::Refused(refusal) => refusal.to_string(),
            Outcome::Applied(applied) => panic!("applied {applied:?}"),
        })
        .collect();
    assert_eq!(
        errors,
        [
            "the client address 127.0.2.9 is not in the CIDR 127.0.1.0/24 of vSwitch vsw-a: give an address inside it or name the vSwitch that it belongs to",
            "the cluster lives in VPC vpc-1, but the node says vpc-2",
            "vSwitch vsw-a is recorded as zone a, VPC vpc-1, CIDR 127.0.1.0/24, but the node says zone a, VPC vpc-1, CIDR 127.0.0.0/16",
            "the CIDR 127.0.1.0/24 of vSwitch vsw-x overlaps 127.0.1.0/24 of vSwitch vsw-a",
            "address 127.0.1.1:7101 belongs to node 1",
        ]
    );
    assert!(matches!(join(&mut cluster, &good), Outcome::Applied(_)), "the good one still joins");
}

#[test]
fn witness_in_a_data_zone_and_a_third_data_zone_are_refused() {
    let mut cluster = Node::begun();
    let witness = record(2, NodeRole::Witness, "a", 2, Standing::Learner);
    cluster.apply_one(admit(&witness));
    assert!(matches!(
        join(&mut cluster, &witness),
        Outcome::Refused(Refusal::Misplaced(Misplaced::WitnessSharesZone { .. }))
    ));
    let second = record(3, NodeRole::Data, "b", 1, Standing::Learner);
    admitted_and_joined(&mut cluster, &second);
    let third = record(4, NodeRole::Data, "c", 1, Standing::Learner);
    cluster.apply_one(admit(&third));
    assert!(matches!(
        join(&mut cluster, &third),
        Outcome::Refused(Refusal::Misplaced(Misplaced::ThirdDataZone { .. }))
    ));
}

#[test]
fn node_id_of_a_removed_node_is_never_given_again() {
    let mut cluster = Node::begun();
    let second = record(2, NodeRole::Data, "a", 2, Standing::Learner);
    admitted_and_joined(&mut cluster, &second);
    let remove = Command::SetStandings {
        changes: vec![StandingChange {
            node: second.id,
            to: Standing::Removed,
            expected: Revision::FIRST,
        }],
    };
    assert!(matches!(cluster.apply_one(remove), Outcome::Applied(_)));
    let mut fresh = record(3, NodeRole::Data, "a", 2, Standing::Learner);
    admitted_and_joined(&mut cluster, &fresh);
    fresh.id = second.id;
    fresh.spki_sha256 = [9; 32];
    cluster.apply_one(admit(&fresh));
    assert_eq!(join(&mut cluster, &fresh), Outcome::Refused(Refusal::NodeIdTaken(second.id)));
}

#[test]
fn last_voter_cannot_be_removed() {
    let mut cluster = Node::begun();
    let changes = vec![StandingChange {
        node: NodeId::FIRST,
        to: Standing::Removed,
        expected: Revision::FIRST,
    }];
    let signed = cluster.signed_by(1, &cluster.key, vec![Command::SetStandings { changes }]);
    assert_eq!(cluster.refused(&signed), Refusal::LastVoter);
}
