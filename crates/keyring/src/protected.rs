//! Keys in protected memory: never swapped, never dumped, wiped when dropped.

use twinkeep_envelope::ExposeKey;
use twinkeep_envelope::OpenKey;
use twinkeep_sysmem::{Arena, ArenaError, Protected};

/// A key that wraps and derives from where it lies.
#[derive(Debug)]
pub(crate) struct ProtectedKey(Protected<{ OpenKey::LEN }>);

impl ProtectedKey {
    /// Moves a key to its place; the one given is wiped.
    pub(crate) fn keep(key: OpenKey, arena: &Arena) -> Result<Self, ArenaError> {
        arena.protect(|place| place.copy_from_slice(key.danger_expose())).map(Self)
    }
}

impl ExposeKey for ProtectedKey {
    fn danger_expose(&self) -> &[u8; OpenKey::LEN] {
        self.0.danger_expose()
    }
}
