//! Where a node keeps its keyring: empty while it is sealed.

use std::sync::{Arc, PoisonError, RwLock};

use crate::keyring::Keyring;

/// The node is sealed: it has no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is sealed")]
pub struct Sealed;

/// Holds the keyring of an unsealed node. Shared by everything that seals, opens or signs.
#[derive(Debug, Default)]
pub struct KeyringSlot(RwLock<Option<Arc<Keyring>>>);

impl KeyringSlot {
    /// Returns the keyring, for the length of one call: whoever keeps it keeps its keys in memory.
    pub fn keyring(&self) -> Result<Arc<Keyring>, Sealed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Sealed)
    }

    /// Tells whether there are no keys.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Puts an opened keyring in its place; the one before it, if any, is dropped.
    pub fn unseal(&self, keyring: Keyring) {
        self.replace(Some(Arc::new(keyring)));
    }

    /// Drops the keyring. Its keys are wiped when the last call that uses them ends; returns how many
    /// calls that were at this moment.
    pub fn seal(&self) -> usize {
        self.replace(None).map_or(0, |keyring| Arc::strong_count(&keyring) - 1)
    }

    fn replace(&self, keyring: Option<Arc<Keyring>>) -> Option<Arc<Keyring>> {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, keyring)
    }
}
