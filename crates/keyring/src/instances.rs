//! Instance keys in use: opened when first needed, at most [`INSTANCE_KEYS_MAX`], the longest unused
//! dropped first.

use std::collections::HashMap;
use std::sync::Arc;

use twinkeep_core::id::{InstanceId, InstanceKeyVersion};

use crate::protected::ProtectedKey;

/// Most instance keys that are open at one time.
pub(crate) const INSTANCE_KEYS_MAX: usize = 256;

/// Names a key of an instance.
pub(crate) type InstanceKeyName = (InstanceId, InstanceKeyVersion);

/// The bounded map.
#[derive(Debug, Default)]
pub(crate) struct InstanceKeys {
    open: HashMap<InstanceKeyName, Entry>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    key: Arc<ProtectedKey>,
    used: u64,
}

impl InstanceKeys {
    pub(crate) fn find(&mut self, name: &InstanceKeyName) -> Option<Arc<ProtectedKey>> {
        self.uses += 1;
        let entry = self.open.get_mut(name)?;
        entry.used = self.uses;
        Some(entry.key.clone())
    }

    /// Keeps a key, dropping another where the map is full.
    pub(crate) fn keep(&mut self, name: InstanceKeyName, key: Arc<ProtectedKey>) {
        if self.open.len() >= INSTANCE_KEYS_MAX && !self.open.contains_key(&name) {
            let oldest =
                self.open.iter().min_by_key(|(_, entry)| entry.used).map(|(name, _)| *name);
            oldest.map(|name| self.open.remove(&name));
        }
        self.uses += 1;
        self.open.insert(name, Entry { key, used: self.uses });
    }

    /// Drops all keys of an instance.
    pub(crate) fn forget(&mut self, instance: InstanceId) {
        self.open.retain(|(of, _), _| *of != instance);
    }
}

#[cfg(test)]
mod tests {
    use twinkeep_envelope::OpenKey;
    use twinkeep_sysmem::Arena;

    use super::*;

    fn name(number: u32) -> InstanceKeyName {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        (InstanceId::from_bytes(id), InstanceKeyVersion::FIRST)
    }

    fn key(arena: &Arena) -> Arc<ProtectedKey> {
        Arc::new(ProtectedKey::keep(OpenKey::build(|_| ()), arena).unwrap())
    }

    #[test]
    fn longest_unused_key_gives_way() {
        let arena = Arena::new(INSTANCE_KEYS_MAX + 1).unwrap();
        let mut keys = InstanceKeys::default();
        for number in 0..u32::try_from(INSTANCE_KEYS_MAX).unwrap() {
            keys.keep(name(number), key(&arena));
        }
        keys.find(&name(0)).unwrap();
        keys.keep(name(9999), key(&arena));
        assert_eq!(keys.open.len(), INSTANCE_KEYS_MAX);
        assert!(keys.find(&name(0)).is_some(), "was used last");
        assert!(keys.find(&name(1)).is_none(), "gave way");
        assert!(keys.find(&name(9999)).is_some());
    }

    #[test]
    fn forgotten_instance_has_no_open_key() {
        let arena = Arena::new(2).unwrap();
        let mut keys = InstanceKeys::default();
        keys.keep(name(1), key(&arena));
        keys.keep(name(2), key(&arena));
        keys.forget(name(1).0);
        assert!(keys.find(&name(1)).is_none());
        assert!(keys.find(&name(2)).is_some());
    }
}
