//! What a backend offers.

use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};

/// What a backend offers. Found out when it is connected, fixed until it is connected again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Who holds the material.
    pub custody: Custody,
    /// Whether material made elsewhere can be taken in.
    pub imports: bool,
    /// The kinds of keys, each with what it does.
    pub keys: Vec<KeyCapability>,
    /// Longest plaintext of a symmetric key, in bytes. RSA has limits of its own
    /// ([`crate::limits::oaep_plaintext_bytes_max`]).
    pub plaintext_bytes_max: usize,
    /// Longest message to sign or to authenticate, in bytes.
    pub message_bytes_max: usize,
}

/// Who holds the material of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Custody {
    /// We do: it leaves the backend once, to be sealed and replicated.
    Sealed,
    /// The backend does: material never leaves it, and we store its name.
    Kept,
}

/// What one kind of key does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCapability {
    /// What the material is.
    pub spec: KeySpec,
    /// What the key is for.
    pub usage: KeyUsage,
    /// The algorithms, the default first.
    pub algorithms: Vec<Algorithm>,
}

impl Capabilities {
    /// Tells whether keys of this spec and usage can be made here.
    #[must_use]
    pub fn offers(&self, spec: KeySpec, usage: KeyUsage) -> bool {
        self.keys.iter().any(|key| key.spec == spec && key.usage == usage)
    }
}
