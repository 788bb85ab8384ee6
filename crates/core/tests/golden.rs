//! Stored and signed bytes, frozen: a change here is a change of the format and needs a cluster version.
//!
//! `golden/` holds the bytes as hex. To see what a change does: `TWINKEEP_BLESS=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use twinkeep_core::access::{Grant, Permission, Role, Scope};
use twinkeep_core::admission::{AdmissionOrder, Approval};
use twinkeep_core::command::{Batch, Command, CreateKey, Proposal, SignedBatch};
use twinkeep_core::id::{
    ClusterId, Epoch, Incarnation, InstanceId, KeyId, KeyVersionId, KeyVersionNumber, NodeId,
    Revision,
};
use twinkeep_core::key::{KeyEvent, KeySpec, KeyState, KeyUsage};
use twinkeep_core::leadership::Leadership;
use twinkeep_core::name::{CallerName, Description};
use twinkeep_core::outcome::{Outcome, Refusal};
use twinkeep_core::record::{
    BackendKind, Binding, ClusterRecord, ClusterVersion, CommandKey, Digest, KeyRecord,
    KeyVersionRecord, LeadershipRecord, NodeRecord, Operator, RecordKind, RecoveryRecord,
    ReplicationRecord, Roots, SealedBlob, SealedRecord, Token,
};
use twinkeep_core::recovery::{LastEntry, RecoveryOrder, Survivor};
use twinkeep_core::replication::Mode;
use twinkeep_core::topology::{NodeRole, Placement, Standing};

fn check<T>(name: &str, value: &T)
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> + PartialEq + std::fmt::Debug,
{
    let bytes = minicbor::to_vec(value).unwrap();
    check_bytes(name, &bytes);
    assert_eq!(minicbor::decode::<T>(&bytes).unwrap(), *value, "{name} does not come back");
}

fn check_bytes(name: &str, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
    if std::env::var_os("TWINKEEP_BLESS").is_some() {
        std::fs::write(&path, format!("{hex}\n")).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap();
    assert_eq!(hex, frozen.trim(), "{name} is written otherwise than it was");
}

fn caller() -> CallerName {
    CallerName::parse("app-1").unwrap()
}

fn sealed() -> SealedRecord {
    SealedRecord {
        kind: RecordKind::KeyMaterial,
        instance: InstanceId::from_bytes([0x20; 16]),
        record_key: KeyVersionRecord::material_key(
            &KeyId::from_bytes([0xa0; 16]),
            KeyVersionNumber::FIRST,
        ),
        revision: Revision::FIRST,
        schema: 1,
        blob: SealedBlob::from_envelope(vec![0xce; 12]),
    }
}

#[test]
fn records_are_written_as_they_were() {
    check("sealed-record", &sealed());
    check(
        "key-record",
        &KeyRecord {
            id: KeyId::from_bytes([0xa0; 16]),
            instance: InstanceId::from_bytes([0x20; 16]),
            spec: KeySpec::EcP256k1,
            usage: KeyUsage::SignVerify,
            state: KeyState::Disabled,
            primary: KeyVersionNumber::FIRST,
            description: Description::parse("a key").unwrap(),
            created_by: caller(),
            created_ms: 1_800_000_000_000,
            updated_ms: 1_800_000_000_001,
            revision: Revision::new(2).unwrap(),
            when_stale: None,
        },
    );
    check(
        "node-record",
        &NodeRecord {
            id: NodeId::new(5).unwrap(),
            role: NodeRole::Witness,
            standing: Standing::Voter,
            placement: Placement {
                zone: "w".parse().unwrap(),
                vpc: "vpc-1".parse().unwrap(),
                vswitch: "vsw-w".parse().unwrap(),
                cidr: "127.0.3.0/24".parse().unwrap(),
                client_address: "127.0.3.1:7100".parse().unwrap(),
                peer_address: "127.0.3.1:7101".parse().unwrap(),
            },
            spki_sha256: [5; 32],
            incarnation: Incarnation::FIRST,
            revision: Revision::FIRST,
            removed_ms: None,
        },
    );
    let operator = |name: &str, byte| Operator {
        name: CallerName::parse(name).unwrap(),
        recipient: format!("age1{name}"),
        signing_key: [byte; 32],
    };
    check(
        "cluster-record",
        &ClusterRecord {
            id: ClusterId::from_bytes([0x10; 16]),
            incarnation: Incarnation::FIRST,
            version: ClusterVersion(1),
            epoch: Epoch::FIRST,
            command_keys: vec![CommandKey { epoch: Epoch::FIRST, public: [0x11; 32] }],
            roots: Roots { node: vec![1], caller: vec![2], endpoint: vec![3] },
            operators: vec![operator("ann", 0x12), operator("bob", 0x13)],
            dev: false,
            preferred_zone: None,
            domain: "kms.example".to_owned(),
            revision: Revision::FIRST,
            approvals_min: 2,
            freshness_lease_ms: None,
        },
    );
    let scopes = [Scope::Cluster, Scope::Key(KeyId::from_bytes([0xa0; 16]))];
    check(
        "binding",
        &Binding {
            caller: caller(),
            grants: scopes.map(|scope| Grant { role: Role::KeyUser, scope }).to_vec(),
            revision: Revision::FIRST,
        },
    );
}

#[test]
fn replication_modes_are_written_as_they_were() {
    for (name, mode) in [
        ("replication-sync", Mode::Sync),
        ("replication-degraded", Mode::Degraded { zone: "zone-b".parse().unwrap() }),
    ] {
        let revision = Revision::new(4).unwrap();
        let since_ms = 1_800_000_000_000;
        check(name, &ReplicationRecord { mode, since_ms, revision, index: 1_000 });
    }
}

fn leadership() -> Leadership {
    let zone = |name: &str| Some(name.parse().unwrap());
    Leadership { preferred: zone("zone-a"), drained: zone("zone-b") }
}

#[test]
fn leadership_is_written_as_it_was() {
    let (revision, drained_ms) = (Revision::new(2).unwrap(), 1_800_000_000_000);
    check("leadership", &LeadershipRecord { leadership: leadership(), drained_ms, revision });
    let expected = Some(Revision::new(2).unwrap());
    check("set-leadership", &Command::SetLeadership { to: leadership(), expected });
}

#[test]
fn commands_and_outcomes_are_written_as_they_were() {
    let create = Command::CreateKey(Box::new(CreateKey {
        id: KeyId::from_bytes([0xa0; 16]),
        instance: InstanceId::from_bytes([0x20; 16]),
        spec: KeySpec::Aes256,
        usage: KeyUsage::EncryptDecrypt,
        description: Description::default(),
        version: KeyVersionId::from_random([0xb0; 16]),
        backend: BackendKind::Software,
        public_key: None,
        sealed: sealed(),
        when_stale: None,
    }));
    let token = Token { token: [7; 16], operation: Permission::CreateKey, digest: Digest([8; 32]) };
    let expected = Revision::FIRST;
    let key = KeyId::from_bytes([0xa0; 16]);
    let batch = Batch {
        not_after_ms: 1_800_000_030_000,
        commands: vec![
            Proposal { actor: None, token: None, command: Command::Clock { unix_ms: 1 } },
            Proposal { actor: Some(caller()), token: Some(token), command: create },
            Proposal {
                actor: Some(caller()),
                token: None,
                command: Command::MoveKey { key, event: KeyEvent::Disable, expected },
            },
        ],
    };
    check("batch", &batch);
    check(
        "signed-batch",
        &SignedBatch {
            incarnation: Incarnation::FIRST,
            epoch: Epoch::FIRST,
            signer: NodeId::new(2).unwrap(),
            batch: vec![1, 2, 3],
            signature: [9; 64],
        },
    );
    let approval =
        |name, byte| Approval { operator: CallerName::parse(name).unwrap(), signature: [byte; 64] };
    check(
        "admit-node",
        &Command::AdmitNode {
            spki_sha256: [0x30; 32],
            role: NodeRole::Data,
            zone: "zone-b".parse().unwrap(),
            expires_ms: 1_800_000_540_000,
            approvals: vec![approval("ann", 0x31), approval("bob", 0x32)],
        },
    );
    let judged_under = Some(Revision::new(2).unwrap());
    check("zone-durable", &Command::ZoneDurable { upto: 1_000, judged_under });
    let to = Mode::Recovering { zone: "zone-b".parse().unwrap(), target: 1_000 };
    check("set-replication-mode", &Command::SetReplicationMode { to, expected: None });
    let found = Some(Revision::new(3).unwrap());
    check("refusal", &Outcome::Refused(Refusal::RevisionMismatch { expected: None, found }));
}

#[test]
fn orders_are_signed_as_they_were() {
    let order = AdmissionOrder {
        cluster: ClusterId::from_bytes([0x10; 16]),
        incarnation: Incarnation::new(2).unwrap(),
        spki_sha256: [0x30; 32],
        role: NodeRole::Witness,
        zone: "zone-w".parse().unwrap(),
        expires_ms: 1_800_000_540_000,
    };
    check_bytes("admission-order", &order.message());
    let survivor = |former, node| Survivor {
        former: NodeId::new(former).unwrap(),
        node: NodeId::new(node).unwrap(),
        spki_sha256: [0x30; 32],
    };
    let order = RecoveryOrder {
        cluster: ClusterId::from_bytes([0x10; 16]),
        ends: Incarnation::FIRST,
        last: LastEntry { term: 3, leader: 1, index: 77 },
        complete_until_ms: 1_800_000_000_250,
        expires_ms: 1_800_000_540_000,
        survivors: vec![survivor(3, 101), survivor(4, 102)],
        lost: [1, 2, 5].map(|node| NodeId::new(node).unwrap()).to_vec(),
    };
    check_bytes("recovery-order", &order.message());
    let approval = Approval { operator: caller(), signature: [0x40; 64] };
    check(
        "recovery",
        &RecoveryRecord {
            begins: Incarnation::new(2).unwrap(),
            order,
            approvals: vec![approval],
            lends_majority: true,
        },
    );
}
