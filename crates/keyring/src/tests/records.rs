//! Records of keys: each opens in its own place, with its own keys, and nowhere else.

use twinkeep_core::id::{InstanceId, InstanceKeyVersion, KeyId, KeyVersionNumber, Revision};
use twinkeep_core::record::{Record as _, RecordKind, SealedRecord};
use twinkeep_envelope::SecretBytes;
use twinkeep_envelope::record::{Wrap, WrapLevel};

use super::{CLUSTER, Cluster, INSTANCE, arena, flipped, instance};
use crate::{AuthorityName, Keyring, RecordError};

const KEY: KeyId = KeyId::from_bytes([0xa0; 16]);

fn material() -> SecretBytes {
    SecretBytes::copy_of(&[0x5a; 48])
}

fn seal(cluster: &Cluster) -> SealedRecord {
    let place = (&KEY, KeyVersionNumber::FIRST);
    cluster
        .keyring()
        .seal_material(&cluster.state, &instance(INSTANCE), place, Revision::FIRST, &material())
        .unwrap()
}

fn open(cluster: &Cluster, record: &SealedRecord) -> Result<SecretBytes, RecordError> {
    cluster.keyring().open_material(&cluster.state, record)
}

#[test]
fn material_opens_on_another_node() {
    let cluster = Cluster::new();
    let record = seal(&cluster);
    let other = Keyring::open(&cluster.state, &cluster.seal_key(), arena()).unwrap();
    let opened = other.open_material(&cluster.state, &record).unwrap();
    assert!(opened.same_as(&material()));
}

#[test]
fn record_says_where_it_stands_and_what_wraps_it() {
    let cluster = Cluster::new();
    let record = seal(&cluster);
    assert_eq!(record.kind, RecordKind::KeyMaterial);
    assert_eq!(record.instance, INSTANCE);
    assert_eq!(record.record_key, [&[0xa0; 16][..], &[0, 0, 0, 1]].concat());
    let levels = [
        (record, WrapLevel::Instance, *INSTANCE.as_bytes()),
        (cluster.sealed(RecordKind::InstanceKey), WrapLevel::Epoch, *CLUSTER.as_bytes()),
    ];
    for (record, level, key) in levels {
        assert_eq!(Wrap::parse(&record.blob), Ok(Wrap { level, key, version: 1 }));
    }
    let level = |kind| Wrap::parse(&cluster.sealed(kind).blob).unwrap().level;
    assert_eq!(level(RecordKind::EpochKey), WrapLevel::Root);
    assert_eq!(level(RecordKind::RootKey), WrapLevel::Seal);
}

#[test]
fn moved_or_changed_record_does_not_open() {
    let cluster = Cluster::new();
    let record = seal(&cluster);
    let mut other_key = record.clone();
    other_key.record_key[0] ^= 1;
    let mut other_version = record.clone();
    other_version.record_key[19] = 2;
    let rolled = SealedRecord { revision: Revision::new(2).unwrap(), ..record.clone() };
    let schema = SealedRecord { schema: 2, ..record.clone() };
    let damaged = SealedRecord { blob: flipped(&record.blob), ..record.clone() };
    let other_kind = SealedRecord { kind: RecordKind::SecretVersion, ..record.clone() };
    for moved in [other_key, other_version, rolled, schema, damaged, other_kind] {
        let refused = open(&cluster, &moved).unwrap_err();
        assert!(matches!(refused, RecordError::Damaged(_)), "{moved:?}");
    }
}

#[test]
fn material_of_one_instance_does_not_open_in_another() {
    let mut cluster = Cluster::new();
    let other = InstanceId::from_bytes([0x21; 16]);
    cluster.keyring().new_instance_key(&other).unwrap().store(&mut cluster.state);
    let moved = SealedRecord { instance: other, ..seal(&cluster) };
    assert!(matches!(open(&cluster, &moved), Err(RecordError::Damaged(_))));
}

#[test]
fn instance_without_a_key_is_named() {
    let cluster = Cluster::new();
    let stranger = instance(InstanceId::from_bytes([0x22; 16]));
    let refused = cluster
        .keyring()
        .seal_material(
            &cluster.state,
            &stranger,
            (&KEY, KeyVersionNumber::FIRST),
            Revision::FIRST,
            &material(),
        )
        .unwrap_err();
    assert!(matches!(
        refused,
        RecordError::NoInstanceKey(id, InstanceKeyVersion::FIRST) if id == stranger.id
    ));
}

#[test]
fn forgotten_instance_key_is_opened_again_from_its_record() {
    let mut cluster = Cluster::new();
    let record = seal(&cluster);
    cluster.delete(RecordKind::InstanceKey);
    open(&cluster, &record).expect("the key is still open");
    cluster.keyring().forget_instance(INSTANCE);
    assert!(matches!(open(&cluster, &record), Err(RecordError::NoInstanceKey(..))));
}

#[test]
fn damaged_instance_key_is_told_from_damaged_material() {
    let mut cluster = Cluster::new();
    let record = seal(&cluster);
    cluster.keyring().forget_instance(INSTANCE);
    cluster.damage(RecordKind::InstanceKey);
    let refused = open(&cluster, &record).unwrap_err();
    assert!(matches!(refused, RecordError::Damaged(RecordKind::InstanceKey)));
}

#[test]
fn keyring_of_another_cluster_opens_nothing() {
    let cluster = Cluster::new();
    let record = seal(&cluster);
    let other = Cluster::new();
    assert!(other.keyring().open_material(&cluster.state, &record).is_err());
    assert!(other.keyring().open_material(&other.state, &record).is_err());
}

#[test]
fn authority_keys_open_by_name() {
    let mut cluster = Cluster::new();
    let secret = |byte| SecretBytes::copy_of(&[byte; 80]);
    for (name, byte) in AuthorityName::ALL.into_iter().zip(1..) {
        let keyring = cluster.keyring();
        let record = keyring.seal_authority(name, Revision::FIRST, &secret(byte)).unwrap();
        record.store(&mut cluster.state);
    }
    for (name, byte) in AuthorityName::ALL.into_iter().zip(1..) {
        let opened = cluster.keyring().open_authority(&cluster.state, name).unwrap();
        assert!(opened.unwrap().same_as(&secret(byte)), "{name:?}");
    }
}

#[test]
fn authority_keys_cannot_change_places() {
    let mut cluster = Cluster::new();
    let keyring = cluster.keyring();
    let secret = SecretBytes::copy_of(&[1; 80]);
    let mut moved =
        keyring.seal_authority(AuthorityName::Callers, Revision::FIRST, &secret).unwrap();
    moved.record_key = AuthorityName::Nodes.record_key().to_vec();
    moved.store(&mut cluster.state);
    let opened = cluster.keyring().open_authority(&cluster.state, AuthorityName::Nodes);
    assert!(matches!(opened, Err(RecordError::Damaged(RecordKind::AuthorityKey))));
    let absent = cluster.keyring().open_authority(&cluster.state, AuthorityName::Endpoints);
    assert!(absent.unwrap().is_none());
}

#[test]
fn request_digests_depend_on_request_and_keyring() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let digest = cluster.keyring().request_digest(b"create");
    assert_eq!(digest, cluster.keyring().request_digest(b"create"));
    assert_ne!(digest, cluster.keyring().request_digest(b"create "));
    assert_ne!(digest, other.keyring().request_digest(b"create"));
    let reopened = Keyring::open(&cluster.state, &cluster.seal_key(), arena()).unwrap();
    assert_eq!(digest, reopened.request_digest(b"create"), "the same on every node");
}
