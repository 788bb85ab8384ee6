//! Opening the stored keyring, whole and damaged.

use twinkeep_core::id::{ClusterId, Epoch};
use twinkeep_core::record::{CommandKey, Record as _, RecordKind, SealKind};
use twinkeep_envelope::{OpenKey, SecretBytes};
use twinkeep_testkit::memory::Memory;

use super::{CLUSTER, Cluster, arena, operators};
use crate::seal::passphrase;
use crate::{Founding, Keyring, NewSeal, Quorum, UnsealError, found};

#[test]
fn stored_keyring_opens_with_its_shares() {
    let cluster = Cluster::new();
    let opened = Keyring::open(&cluster.state, &cluster.seal_key(), arena()).unwrap();
    assert_eq!(opened.cluster(), CLUSTER);
    assert_eq!(opened.epoch(), Epoch::FIRST);
    assert_eq!(opened.command_key(), cluster.keyring().command_key());
}

#[test]
fn stored_keyring_opens_with_the_passphrase() {
    let words = SecretBytes::copy_of(b"correct horse");
    let (operators, _) = operators();
    let seals = [NewSeal::Passphrase(&words)];
    let founding = Founding {
        cluster: CLUSTER,
        seals: &seals,
        operators: &operators[..1],
        recovery: Quorum::SINGLE,
        dev: true,
    };
    let founded = found(&founding, arena()).unwrap();
    let mut cluster = Cluster::new();
    founded.sealed.iter().for_each(|record| record.store(&mut cluster.state));
    cluster.change(|record| record.command_keys = vec![founded.keyring.command_key()]);

    let seal = &founded.seals[0];
    assert!(matches!(
        seal.kind,
        SealKind::Passphrase { memory_kib: 65_536, passes: 3, lanes: 4, .. }
    ));
    let key = passphrase::open(seal, &words).unwrap();
    let opened = Keyring::open(&cluster.state, &key, arena()).unwrap();
    assert_eq!(opened.command_key(), founded.keyring.command_key());
}

fn refusal(change: impl FnOnce(&mut Cluster)) -> UnsealError {
    let mut cluster = Cluster::new();
    let key = cluster.seal_key();
    change(&mut cluster);
    Keyring::open(&cluster.state, &key, arena()).unwrap_err()
}

#[test]
fn node_without_records_says_so() {
    let refused = refusal(|cluster| cluster.state = Memory::default());
    assert!(matches!(refused, UnsealError::NotBegun));
}

#[test]
fn damaged_root_key_is_told_from_wrong_shares() {
    let refused = refusal(|cluster| cluster.damage(RecordKind::RootKey));
    assert!(matches!(refused, UnsealError::Damaged("root key")));
}

#[test]
fn missing_root_key_is_named() {
    let refused = refusal(|cluster| cluster.delete(RecordKind::RootKey));
    assert!(matches!(refused, UnsealError::NoRootKey));
}

#[test]
fn damaged_epoch_key_is_named() {
    let refused = refusal(|cluster| cluster.damage(RecordKind::EpochKey));
    assert!(matches!(refused, UnsealError::Damaged("epoch key")));
}

#[test]
fn missing_epoch_key_is_named() {
    let refused = refusal(|cluster| cluster.delete(RecordKind::EpochKey));
    assert!(matches!(refused, UnsealError::NoEpochKey(Epoch::FIRST)));
    let second = Epoch::new(2).unwrap();
    let refused = refusal(|cluster| cluster.change(|record| record.epoch = second));
    assert!(matches!(refused, UnsealError::NoEpochKey(epoch) if epoch == second));
}

#[test]
fn epoch_key_of_another_keyring_is_told_from_a_damaged_one() {
    let refused = refusal(|cluster| {
        let other = Cluster::new();
        other.sealed(RecordKind::EpochKey).store(&mut cluster.state);
    });
    assert!(matches!(refused, UnsealError::OtherRootKey));
}

#[test]
fn command_key_that_is_not_the_epochs_is_refused() {
    let refused = refusal(|cluster| {
        let forged = CommandKey { epoch: Epoch::FIRST, public: [7; 32] };
        cluster.change(|record| record.command_keys = vec![forged]);
    });
    assert!(matches!(refused, UnsealError::OtherCommandKey(Epoch::FIRST)));
}

#[test]
fn records_of_another_cluster_do_not_open() {
    let refused = refusal(|cluster| {
        let other = ClusterId::from_bytes([0x11; 16]);
        cluster.change(|record| record.id = other);
    });
    assert!(matches!(refused, UnsealError::Damaged("root key")));
}

#[test]
fn epoch_key_stored_under_another_epoch_is_refused() {
    let refused = refusal(|cluster| {
        let mut moved = cluster.sealed(RecordKind::EpochKey);
        moved.record_key = 2u32.to_be_bytes().to_vec();
        moved.store(&mut cluster.state);
    });
    assert!(matches!(refused, UnsealError::Damaged("epoch key")));
}

#[test]
fn endless_epochs_are_refused() {
    let refused = refusal(|cluster| {
        for epoch in 2..100u32 {
            let mut record = cluster.sealed(RecordKind::EpochKey);
            record.record_key = epoch.to_be_bytes().to_vec();
            record.store(&mut cluster.state);
        }
    });
    assert!(matches!(refused, UnsealError::TooManyEpochs));
}

#[test]
fn another_root_key_is_refused() {
    let cluster = Cluster::new();
    let stranger = OpenKey::build(|bytes| bytes.fill(7));
    let refused = Keyring::open_with_root(&cluster.state, stranger, arena()).unwrap_err();
    assert!(matches!(refused, UnsealError::OtherRootKey));
}

#[test]
fn keyring_that_finds_no_place_does_not_open_by_halves() {
    let cluster = Cluster::new();
    let small = twinkeep_sysmem::Arena::new(1).unwrap();
    let taken: Vec<_> =
        (0..small.slots() - 1).map(|_| small.protect::<32>(|_| ()).unwrap()).collect();
    let refused = Keyring::open(&cluster.state, &cluster.seal_key(), small.clone()).unwrap_err();
    assert!(matches!(refused, UnsealError::Memory(_)));
    // The slot that was taken for the epoch key is free again.
    small.protect::<32>(|_| ()).unwrap();
    drop(taken);
}
