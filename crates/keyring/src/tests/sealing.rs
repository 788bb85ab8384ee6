//! Sealing a node takes its keys out of memory.

use std::sync::Arc;

use twinkeep_sysmem::{Arena, ArenaError};

use super::{Cluster, arena};
use crate::{Keyring, KeyringSlot, Sealed};

/// Tells whether every slot of the arena is free, which means wiped.
fn is_empty(arena: &Arena) -> bool {
    let taken: Result<Vec<_>, ArenaError> = (0..arena.slots())
        .map(|_| arena.protect::<64>(|bytes| assert_eq!(*bytes, [0; 64])))
        .collect();
    taken.is_ok()
}

#[test]
fn sealed_slot_has_no_keyring_and_wipes_it() {
    let cluster = Cluster::new();
    let arena = arena();
    let slot = KeyringSlot::default();
    assert_eq!(slot.keyring().unwrap_err(), Sealed);
    slot.unseal(Keyring::open(&cluster.state, &cluster.seal_key(), arena.clone()).unwrap());
    let record = slot.keyring().unwrap().new_instance_key(&super::INSTANCE).unwrap();
    assert_eq!(record.instance, twinkeep_core::id::InstanceId::CLUSTER);
    assert!(!slot.is_sealed());
    assert!(!is_empty(&arena));

    assert_eq!(slot.seal(), 0);
    assert!(slot.is_sealed());
    assert!(is_empty(&arena));
    assert_eq!(slot.seal(), 0, "sealing twice is no harm");
}

#[test]
fn running_call_keeps_its_keys_until_it_ends() {
    let cluster = Cluster::new();
    let arena = arena();
    let slot = KeyringSlot::default();
    slot.unseal(Keyring::open(&cluster.state, &cluster.seal_key(), arena.clone()).unwrap());
    let call = slot.keyring().unwrap();
    assert_eq!(slot.seal(), 1);
    assert_eq!(slot.keyring().unwrap_err(), Sealed);
    assert!(!is_empty(&arena));
    assert_eq!(Arc::strong_count(&call), 1);
    drop(call);
    assert!(is_empty(&arena));
}
