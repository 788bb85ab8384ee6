//! Records and commands as tests make them. They take what they are about from here and change it.

use twinkeep_core::command::{Command, CreateInstance, CreateKey};
use twinkeep_core::id::{
    Incarnation, InstanceId, InstanceKeyVersion, KeyId, KeyVersionId, KeyVersionNumber, NodeId,
    Revision,
};
use twinkeep_core::key::{KeySpec, KeyUsage};
use twinkeep_core::name::{Description, InstanceName};
use twinkeep_core::record::{
    BackendKind, InstanceKind, InstanceRecord, KeyVersionRecord, NodeRecord, RecordKind,
    SealedBlob, SealedRecord,
};
use twinkeep_core::topology::{NodeRole, Placement, Standing};

/// The instance that [`create_key`] makes keys for.
pub const INSTANCE: InstanceId = InstanceId::from_bytes([0x20; 16]);

/// A voting data node of `zone-a` at 127.0.1.ID.
///
/// # Panics
/// For ids that are no last part of an address, 1 to 255.
#[must_use]
pub fn node_record(id: u64) -> NodeRecord {
    let address = format!("127.0.1.{id}:7401").parse().expect("the id is 1 to 255");
    NodeRecord {
        id: NodeId::new(id).expect("the id is not zero"),
        role: NodeRole::Data,
        standing: Standing::Voter,
        placement: Placement {
            zone: "zone-a".parse().expect("a name"),
            vpc: "vpc".parse().expect("a name"),
            vswitch: "vsw-a".parse().expect("a name"),
            cidr: "127.0.1.0/24".parse().expect("a range"),
            client_address: address,
            peer_address: address,
        },
        spki_sha256: [0; 32],
        incarnation: Incarnation::FIRST,
        revision: Revision::FIRST,
        removed_ms: None,
    }
}

/// A sealed record whose blob opens under no key.
#[must_use]
pub fn sealed(kind: RecordKind, instance: InstanceId, record_key: Vec<u8>) -> SealedRecord {
    let blob = SealedBlob::from_envelope(vec![0xce; 132]);
    SealedRecord { kind, instance, record_key, revision: Revision::FIRST, schema: 1, blob }
}

/// A new software instance.
///
/// # Panics
/// For what is no name of an instance.
#[must_use]
pub fn create_instance(name: &str, id: InstanceId) -> Command {
    let record_key = InstanceRecord::instance_key(&id, InstanceKeyVersion::FIRST);
    Command::CreateInstance(Box::new(CreateInstance {
        id,
        name: InstanceName::parse(name).expect("a name"),
        kind: InstanceKind::Software,
        sealed: sealed(RecordKind::InstanceKey, InstanceId::CLUSTER, record_key),
        when_stale: None,
    }))
}

/// A new AES-256 key of [`INSTANCE`] whose ids are this byte, sixteen times.
#[must_use]
pub fn create_key(id: u8) -> Command {
    let key = KeyId::from_bytes([id; 16]);
    let material = KeyVersionRecord::material_key(&key, KeyVersionNumber::FIRST);
    Command::CreateKey(Box::new(CreateKey {
        id: key,
        instance: INSTANCE,
        spec: KeySpec::Aes256,
        usage: KeyUsage::EncryptDecrypt,
        description: Description::default(),
        version: KeyVersionId::from_random([id; 16]),
        backend: BackendKind::Software,
        public_key: None,
        sealed: sealed(RecordKind::KeyMaterial, INSTANCE, material),
        when_stale: None,
    }))
}
