//! Seals: the ways to the root key. Each yields a 32-byte seal key under which the root key is stored.
//!
//! - [`passphrase`]: Argon2id, for trying things out;
//! - [`share`] and [`progress`]: k of n people with a share each.
//!
//! A key check value in the seal's record tells a wrong passphrase or wrong shares from a damaged
//! keyring.

pub mod passphrase;
pub mod progress;
pub mod share;

use subtle::ConstantTimeEq as _;
use twinkeep_core::record::{SealId, SealRecord};
use twinkeep_envelope::kdf::derive;
use twinkeep_envelope::record::{Wrap, WrapLevel};
use twinkeep_envelope::{ExposeKey, OpenKey};

use crate::label;

/// Length of a key check value in bytes.
pub(crate) const CHECK_VALUE_LEN: usize = 8;

/// The key that a seal yields, checked against the seal's record. Opens the root key.
#[derive(Debug)]
pub struct SealKey {
    id: SealId,
    key: OpenKey,
}

/// The key is not the one that the seal was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrongKey;

impl SealKey {
    /// Takes the key of a seal that is being made.
    pub(crate) fn new(id: SealId, key: OpenKey) -> Self {
        Self { id, key }
    }

    /// Takes a key if it is the seal's.
    pub(crate) fn check(seal: &SealRecord, key: OpenKey) -> Result<Self, WrongKey> {
        let same = check_value(&key, seal.id).ct_eq(&seal.kcv);
        if bool::from(same) { Ok(Self { id: seal.id, key }) } else { Err(WrongKey) }
    }

    /// The seal.
    #[must_use]
    pub fn id(&self) -> SealId {
        self.id
    }

    pub(crate) fn key(&self) -> &OpenKey {
        &self.key
    }

    /// How records wrapped by this key say so.
    pub(crate) fn wrap(&self) -> Wrap {
        let mut key = [0; 16];
        key[..self.id.0.len()].copy_from_slice(&self.id.0);
        Wrap { level: WrapLevel::Seal, key, version: 1 }
    }
}

/// Tells one key from another without telling anything of it.
pub(crate) fn check_value(key: &impl ExposeKey, set: SealId) -> [u8; CHECK_VALUE_LEN] {
    let derived = derive(key, label::CHECK_VALUE, &set.0);
    *derived.danger_expose().first_chunk().expect("a key has 32 bytes")
}
