use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use twinkeep_core::id::{ClusterId, Revision};
use twinkeep_core::record::{ClusterVersion, CommandKey, Roots};
use twinkeep_testkit::memory::Memory;

use super::*;
use twinkeep_testkit::records::node_record;

struct Ed25519;

impl SignatureVerifier for Ed25519 {
    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
    }
}

/// Signs as a node, in an epoch.
struct Pen(Me, Epoch, u8);

impl CommandSigner for Pen {
    fn sign(&self, purpose: Purpose, payload: &[u8]) -> Option<(Epoch, [u8; 64])> {
        let Self(Me { cluster, incarnation, node }, epoch, seed) = *self;
        let message = Signer { cluster, incarnation, epoch, node }.message(purpose, payload);
        let signature = key(seed).sign(&message);
        Some((epoch, signature.as_ref().try_into().unwrap()))
    }

    fn is_sealed(&self) -> bool {
        false
    }
}

struct SealedPen;

impl CommandSigner for SealedPen {
    fn sign(&self, _: Purpose, _: &[u8]) -> Option<(Epoch, [u8; 64])> {
        None
    }

    fn is_sealed(&self) -> bool {
        true
    }
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(seed: u8) -> [u8; 32] {
    key(seed).public_key().as_ref().try_into().unwrap()
}

fn me(node: u64) -> Me {
    Me {
        cluster: ClusterId::from_bytes([1; 16]),
        incarnation: Incarnation::FIRST,
        node: NodeId::new(node).unwrap(),
    }
}

fn node(id: u64, role: NodeRole) -> NodeRecord {
    NodeRecord { role, ..node_record(id) }
}

/// A state with data node 1 and witness 5, and the command key of seed 7 in epoch 1.
fn state() -> Memory {
    let mut state = Memory::default();
    let cluster = ClusterRecord {
        id: me(1).cluster,
        incarnation: Incarnation::FIRST,
        version: ClusterVersion::NEWEST,
        epoch: Epoch::FIRST,
        command_keys: vec![CommandKey { epoch: Epoch::FIRST, public: public(7) }],
        roots: Roots { node: vec![1], caller: vec![2], endpoint: vec![3] },
        operators: Vec::new(),
        dev: true,
        preferred_zone: None,
        domain: "example".to_owned(),
        revision: Revision::FIRST,
        approvals_min: 1,
        freshness_lease_ms: None,
    };
    cluster.store(&mut state);
    node(1, NodeRole::Data).store(&mut state);
    node(5, NodeRole::Witness).store(&mut state);
    state
}

fn judged(signature: &[u8], by: u64, state: &Memory) -> Result<(), Disbelief> {
    let genesis_key = public(7);
    let judge = Judge { me: me(3), genesis_key: &genesis_key, state, verifier: &Ed25519 };
    let by = NodeId::new(by).unwrap();
    SnapshotSignature::verify(signature, by, b"manifest", &judge)
}

fn signed(pen: &Pen) -> Vec<u8> {
    SnapshotSignature::sign(pen.0, pen, b"manifest").unwrap()
}

#[test]
fn a_data_nodes_snapshot_is_believed() {
    let by_1 = signed(&Pen(me(1), Epoch::FIRST, 7));
    judged(&by_1, 1, &state()).unwrap();
    // A node that joined after what this one has applied.
    let by_9 = signed(&Pen(me(9), Epoch::FIRST, 7));
    judged(&by_9, 9, &state()).unwrap();
    // A fresh node knows the genesis key and no cluster.
    judged(&by_1, 1, &Memory::default()).unwrap();
}

#[test]
fn anybody_elses_snapshot_is_not() {
    let state = state();
    let stranger = signed(&Pen(me(1), Epoch::FIRST, 8));
    judged(&stranger, 1, &state).unwrap_err();
    judged(&stranger, 1, &Memory::default()).unwrap_err();
    let witness = signed(&Pen(me(5), Epoch::FIRST, 7));
    judged(&witness, 5, &state).unwrap_err();
    let unknown_epoch = signed(&Pen(me(1), Epoch::new(2).unwrap(), 7));
    judged(&unknown_epoch, 1, &state).unwrap_err();
    let former_life = Me { incarnation: Incarnation::new(2).unwrap(), ..me(1) };
    judged(&signed(&Pen(former_life, Epoch::FIRST, 7)), 1, &state).unwrap_err();
    let other_cluster = Me { cluster: ClusterId::from_bytes([2; 16]), ..me(1) };
    judged(&signed(&Pen(other_cluster, Epoch::FIRST, 7)), 1, &state).unwrap_err();
}

#[test]
fn a_signature_covers_its_signer_and_its_purpose() {
    let by_1 = signed(&Pen(me(1), Epoch::FIRST, 7));
    judged(&by_1, 2, &state()).unwrap_err();
    let pen = Pen(me(1), Epoch::FIRST, 7);
    let (epoch, signature) = pen.sign(Purpose::Command, b"manifest").unwrap();
    let as_command = SnapshotSignature { incarnation: Incarnation::FIRST, epoch, signature };
    judged(&minicbor::to_vec(as_command).unwrap(), 1, &state()).unwrap_err();
}

#[test]
fn damaged_signatures_are_refused() {
    let good = signed(&Pen(me(1), Epoch::FIRST, 7));
    for len in 0..good.len() {
        judged(&good[..len], 1, &state()).unwrap_err();
    }
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        judged(&bad, 1, &state()).unwrap_err();
    }
}

#[test]
fn a_sealed_node_signs_nothing() {
    SnapshotSignature::sign(me(1), &SealedPen, b"manifest").unwrap_err();
    let batch = Batch { not_after_ms: 1, commands: Vec::new() };
    assert!(sign_batch(me(1), &SealedPen, &batch).is_none());
}
