//! Opening the node's keyring: by shares, by a passphrase, or with the root key that a peer sent.

use std::sync::Arc;

use parking_lot::Mutex;
use twinkeep_api::ports::{ClusterError, UnsealProgress, UnsealSecret};
use twinkeep_core::record::{Record, SealKind, SealRecord};
use twinkeep_envelope::{OpenKey, SecretBytes};
use twinkeep_keyring::{Keyring, SealKey, Step, UnsealError, UnsealProgress as Shares, seal};
use twinkeep_storage::StateDb;
use twinkeep_sysmem::Arena;

use super::vault::NodeVault;

/// Unseals and seals one node.
pub(crate) struct Unsealer {
    vault: Arc<NodeVault>,
    state: Arc<StateDb>,
    shares: Mutex<Option<Shares>>,
}

impl Unsealer {
    /// Takes where the keyring goes and where its records are.
    pub(crate) fn new(vault: Arc<NodeVault>, state: Arc<StateDb>) -> Self {
        Self { vault, state, shares: Mutex::new(None) }
    }

    /// Takes a share or a passphrase. Deriving a key from a passphrase takes a tenth of a second: not
    /// for an I/O thread.
    pub(crate) fn offer(&self, secret: UnsealSecret) -> Result<UnsealProgress, ClusterError> {
        if !self.vault.is_sealed() {
            return Ok(self.progress());
        }
        match secret {
            UnsealSecret::Share(text) => self.offer_share(&text)?,
            UnsealSecret::Passphrase(text) => {
                let words = SecretBytes::copy_of(text.as_bytes());
                let seal = self
                    .seal_of(|kind| matches!(kind, SealKind::Passphrase { .. }), "a passphrase")?;
                let key = seal::passphrase::open(&seal, &words)
                    .map_err(|error| ClusterError::BadUnsealSecret(error.to_string()))?;
                self.open(&key)?;
            }
        }
        Ok(self.progress())
    }

    fn offer_share(&self, text: &str) -> Result<(), ClusterError> {
        let mut shares = self.shares.lock();
        let progress = match &mut *shares {
            Some(progress) => progress,
            empty => {
                let seal =
                    self.seal_of(|kind| matches!(kind, SealKind::Shamir { .. }), "a share")?;
                empty.insert(Shares::new(seal).map_err(failed)?)
            }
        };
        let step = progress
            .offer(text)
            .map_err(|error| ClusterError::BadUnsealSecret(error.to_string()))?;
        if let Step::Open(key) = step {
            *shares = None;
            self.open(&key)?;
        }
        Ok(())
    }

    fn seal_of(
        &self,
        is_wanted: impl Fn(&SealKind) -> bool,
        what: &'static str,
    ) -> Result<SealRecord, ClusterError> {
        let seals = SealRecord::all(&self.state.latest()).map_err(failed)?;
        seals
            .into_iter()
            .find(|seal| is_wanted(&seal.kind))
            .ok_or(ClusterError::NoSuchSeal { what })
    }

    fn open(&self, key: &SealKey) -> Result<(), ClusterError> {
        let arena = Arena::new(Keyring::SLOTS).map_err(failed)?;
        let keyring = Keyring::open(&self.state.latest(), key, arena).map_err(failed)?;
        self.vault.unseal(keyring);
        tracing::info!("the node is unsealed");
        Ok(())
    }

    /// Opens the keyring with the root key that a peer sent when this node joined.
    pub(crate) fn open_with_root(&self, root: OpenKey) -> Result<(), UnsealError> {
        let arena = Arena::new(Keyring::SLOTS)?;
        self.vault.unseal(Keyring::open_with_root(&self.state.latest(), root, arena)?);
        tracing::info!("the node is unsealed with the root key that a peer sent");
        Ok(())
    }

    /// Tells whether the node holds no key.
    pub(crate) fn is_sealed(&self) -> bool {
        self.vault.is_sealed()
    }

    /// Forgets the shares that were given so far.
    pub(crate) fn forget_shares(&self) -> UnsealProgress {
        *self.shares.lock() = None;
        self.progress()
    }

    /// Drops the keyring.
    pub(crate) fn seal(&self) {
        *self.shares.lock() = None;
        let in_use = self.vault.seal();
        tracing::info!(in_use, "the node is sealed");
    }

    fn progress(&self) -> UnsealProgress {
        let shares = self.shares.lock();
        let sealed = self.vault.is_sealed();
        let threshold = || {
            let seals = SealRecord::all(&self.state.latest()).unwrap_or_default();
            seals.iter().find_map(|seal| match seal.kind {
                SealKind::Shamir { threshold, .. } => Some(u32::from(threshold)),
                SealKind::Passphrase { .. } => None,
            })
        };
        UnsealProgress {
            sealed,
            shares_given: shares.as_ref().map_or(0, |shares| shares.collected().into()),
            shares_needed: threshold().filter(|_| sealed).unwrap_or(0),
        }
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClusterError {
    ClusterError::Failed(error.into())
}
