//! The root key's way to a joining data node.

use twinkeep_core::command::{Batch, Purpose, SignatureVerifier as _, Signer};
use twinkeep_core::id::{ClusterId, Epoch, Incarnation, Revision};
use twinkeep_core::name::{VpcName, VswitchName, ZoneName};
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::{NodeRole, Placement, Standing};

use super::{CLUSTER, Cluster, arena, node_id};
use crate::join::{DataNode, Exporter, Joiner, TransferError};
use crate::{CommandVerifier, Keyring};

const EXPORTER: Exporter = [0xe0; 32];

fn record(role: NodeRole, standing: Standing) -> NodeRecord {
    NodeRecord {
        id: node_id(2),
        role,
        standing,
        placement: Placement {
            zone: ZoneName::parse("a").unwrap(),
            vpc: VpcName::parse("vpc").unwrap(),
            vswitch: VswitchName::parse("vsw-a").unwrap(),
            cidr: "127.0.1.0/24".parse().unwrap(),
            client_address: "127.0.1.1:1".parse().unwrap(),
            peer_address: "127.0.1.1:2".parse().unwrap(),
        },
        spki_sha256: [0; 32],
        incarnation: Incarnation::FIRST,
        revision: Revision::FIRST,
        removed_ms: None,
    }
}

fn joining() -> DataNode {
    DataNode::of(&record(NodeRole::Data, Standing::Learner)).unwrap()
}

#[test]
fn joined_node_opens_its_copy_of_the_records() {
    let cluster = Cluster::new();
    let joiner = Joiner::new().unwrap();
    let answer = cluster.keyring().transfer_root(joining(), &EXPORTER, &joiner.request()).unwrap();
    let root = joiner.receive(CLUSTER, node_id(2), &EXPORTER, &answer).unwrap();
    let opened = Keyring::open_with_root(&cluster.state, root, arena()).unwrap();
    assert_eq!(opened.command_key(), cluster.keyring().command_key());
    assert!(cluster.keyring().is_possession(&EXPORTER, &opened.possession(&EXPORTER)));
}

#[test]
fn witness_and_removed_nodes_are_no_data_nodes() {
    for standing in Standing::ALL {
        assert!(DataNode::of(&record(NodeRole::Witness, *standing)).is_none());
    }
    assert!(DataNode::of(&record(NodeRole::Data, Standing::Removed)).is_none());
    assert!(DataNode::of(&record(NodeRole::Data, Standing::Voter)).is_some());
}

#[test]
fn answer_opens_for_its_own_cluster_node_and_channel_alone() {
    let cluster = Cluster::new();
    let receive = |id: ClusterId, node, exporter: &Exporter| {
        let joiner = Joiner::new().unwrap();
        let request = joiner.request();
        let answer = cluster.keyring().transfer_root(joining(), &EXPORTER, &request).unwrap();
        joiner.receive(id, node_id(node), exporter, &answer)
    };
    assert!(receive(CLUSTER, 2, &EXPORTER).is_ok());
    let other = ClusterId::from_bytes([0x11; 16]);
    assert_eq!(receive(other, 2, &EXPORTER).unwrap_err(), TransferError);
    assert_eq!(receive(CLUSTER, 3, &EXPORTER).unwrap_err(), TransferError);
    assert_eq!(receive(CLUSTER, 2, &[0xe1; 32]).unwrap_err(), TransferError);
}

#[test]
fn answer_to_another_joiner_does_not_open() {
    let cluster = Cluster::new();
    let (meant, other) = (Joiner::new().unwrap(), Joiner::new().unwrap());
    let answer = cluster.keyring().transfer_root(joining(), &EXPORTER, &meant.request()).unwrap();
    assert_eq!(other.receive(CLUSTER, node_id(2), &EXPORTER, &answer).unwrap_err(), TransferError);
}

#[test]
fn changed_or_cut_answer_does_not_open() {
    let cluster = Cluster::new();
    let exchange = |change: &dyn Fn(&mut Vec<u8>)| {
        let joiner = Joiner::new().unwrap();
        let request = joiner.request();
        let mut answer = cluster.keyring().transfer_root(joining(), &EXPORTER, &request).unwrap();
        change(&mut answer);
        joiner.receive(CLUSTER, node_id(2), &EXPORTER, &answer)
    };
    assert_eq!(1 + 1120 + 48, {
        let joiner = Joiner::new().unwrap();
        cluster.keyring().transfer_root(joining(), &EXPORTER, &joiner.request()).unwrap().len()
    });
    for at in [0, 1, 700, 1088, 1089, 1120, 1121, 1152, 1153, 1168] {
        assert!(exchange(&|answer| answer[at] ^= 1).is_err(), "byte {at}");
    }
    for len in [0, 1, 1121, 1137, 1168] {
        assert!(exchange(&|answer| answer.truncate(len)).is_err(), "{len} bytes");
    }
    assert!(exchange(&|answer| answer.push(0)).is_err());
}

#[test]
fn request_that_is_none_is_refused() {
    let cluster = Cluster::new();
    let request = Joiner::new().unwrap().request();
    assert_eq!(request.len(), 1217);
    let other_format = [&[2], &request[1..]].concat();
    let longer = [request.as_slice(), &[0]].concat();
    // ML-KEM's check of the modulus (FIPS 203, 7.2).
    let not_reduced = [&[1], [0xff; 1216].as_slice()].concat();
    for wrong in [&[][..], &request[..1216], &other_format, &longer, &not_reduced] {
        let refused = cluster.keyring().transfer_root(joining(), &EXPORTER, wrong).unwrap_err();
        assert_eq!(refused, TransferError);
    }
}

#[test]
fn possession_holds_on_its_own_channel_alone() {
    let (cluster, stranger) = (Cluster::new(), Cluster::new());
    let proof = cluster.keyring().possession(&EXPORTER);
    assert!(cluster.keyring().is_possession(&EXPORTER, &proof));
    assert!(!cluster.keyring().is_possession(&[0xe1; 32], &proof));
    assert!(!cluster.keyring().is_possession(&EXPORTER, &proof[..31]));
    assert!(!cluster.keyring().is_possession(&EXPORTER, &[]));
    let guessed = stranger.keyring().possession(&EXPORTER);
    assert!(!cluster.keyring().is_possession(&EXPORTER, &guessed));
}

#[test]
fn every_unsealed_data_node_signs_with_the_same_key() {
    let cluster = Cluster::new();
    let reopened = Keyring::open(&cluster.state, &cluster.seal_key(), arena()).unwrap();
    let batch = Batch { not_after_ms: 30_000, commands: Vec::new() };
    let signed = reopened.sign_batch(Incarnation::FIRST, node_id(2), &batch);
    let public = cluster.keyring().command_key().public;
    assert!(signed.is_signed_by(&public, CLUSTER, &CommandVerifier));
    let stranger = Cluster::new().keyring().command_key().public;
    assert!(!signed.is_signed_by(&stranger, CLUSTER, &CommandVerifier));
}

#[test]
fn signature_names_its_purpose() {
    let cluster = Cluster::new();
    let keyring = cluster.keyring();
    let (epoch, signature) =
        keyring.sign(Purpose::Snapshot, Incarnation::FIRST, node_id(2), b"manifest");
    assert_eq!(epoch, Epoch::FIRST);
    let (cluster, incarnation, node) = (CLUSTER, Incarnation::FIRST, node_id(2));
    let signer = Signer { cluster, incarnation, epoch, node };
    let public = keyring.command_key().public;
    let holds = |purpose| {
        CommandVerifier.verify(&public, &signer.message(purpose, b"manifest"), &signature)
    };
    assert!(holds(Purpose::Snapshot));
    assert!(!holds(Purpose::Command));
}
