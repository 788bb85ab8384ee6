//! Key versions that are open: found by key and version, checked against the store before each use.
//!
//! An open key is good for as long as the vault has not been sealed since and its sealed record has the
//! revision it was opened from. The key's *state* is not looked at here: a disabled key may stay
//! open, its use is refused before.

use std::sync::Arc;

use tokio::time::timeout_at;
use twinkeep_core::id::{KeyId, KeyVersionNumber, Revision};
use twinkeep_core::record::{
    BackendKind, KeyRecord, KeyVersionRecord, Record, RecordKind, SealedRecord,
};
use twinkeep_core::state::RowMark;
use twinkeep_crypto::{Call, Error as BackendError, KeyHandle, KeyTemplate, Material};

use crate::cache::Bounded;
use crate::error::CallError;
use crate::limits::OPEN_KEYS_CACHED_MAX;
use crate::ports::{Backends, ControlPlane, Ports, Vault, VaultError};
use crate::records::Stamped;
use crate::turns::Turns;

/// A key version that is open.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) handle: KeyHandle,
    id: (KeyId, KeyVersionNumber),
    sealed: Revision,
    generation: u64,
    /// The row of the sealed record when the revision was last seen to be right.
    row: Stamped,
}

/// The key versions that are open on this node.
pub(crate) struct Handles {
    control: Arc<dyn ControlPlane>,
    vault: Arc<dyn Vault>,
    backends: Backends,
    open: Bounded<(KeyId, KeyVersionNumber), Opened>,
    /// Whoever opens a key; the others wait for it.
    opening: Turns<(KeyId, KeyVersionNumber)>,
}

impl Handles {
    pub(crate) fn new(ports: &Ports) -> Self {
        Self {
            control: Arc::clone(&ports.control),
            vault: Arc::clone(&ports.vault),
            backends: ports.backends.clone(),
            open: Bounded::new("open_keys", OPEN_KEYS_CACHED_MAX),
            opening: Turns::default(),
        }
    }

    /// Returns a key version, opening it if it is not open or not good any more.
    pub(crate) async fn open(
        &self,
        call: Call,
        key: &KeyRecord,
        version: &KeyVersionRecord,
    ) -> Result<Opened, CallError> {
        match self.find(key, (key.id, version.number))? {
            Some(good) => Ok(good),
            // Boxed: nearly every call finds its key open, and should not carry the room for opening it.
            None => Box::pin(self.open_in_turn(call, key, version)).await,
        }
    }

    async fn open_in_turn(
        &self,
        call: Call,
        key: &KeyRecord,
        version: &KeyVersionRecord,
    ) -> Result<Opened, CallError> {
        let id = (key.id, version.number);
        // Whoever opens the key may have more time than this call.
        let turn = timeout_at(call.deadline().into(), self.opening.take(id)).await;
        let _turn = turn.map_err(|_| BackendError::DeadlineExceeded)?;
        match self.find(key, id)? {
            Some(good) => Ok(good),
            None => self.open_anew(call, key, version).await,
        }
    }

    /// Returns a key version that is open and still good.
    fn find(
        &self,
        key: &KeyRecord,
        id: (KeyId, KeyVersionNumber),
    ) -> Result<Option<Opened>, CallError> {
        let Some(opened) = self.open.get(&id) else { return Ok(None) };
        let good = self.recheck(key, opened)?;
        if good.is_none() {
            self.open.remove(&id);
        }
        Ok(good)
    }

    /// Tells whether an open key is still good.
    pub(crate) fn still_good(&self, key: &KeyRecord, opened: &Opened) -> Result<bool, CallError> {
        Ok(self.recheck(key, opened.clone())?.is_some())
    }

    /// Forgets all open keys, after the vault was sealed.
    pub(crate) fn forget_all(&self) {
        self.open.clear();
    }

    fn recheck(&self, key: &KeyRecord, mut opened: Opened) -> Result<Option<Opened>, CallError> {
        if self.vault.generation() != Some(opened.generation) {
            return Ok(None);
        }
        if opened.row.holds(&*self.control) {
            return Ok(Some(opened));
        }
        let row = self.row(key, opened.id.1);
        let sealed = self.sealed(key, opened.id.1)?;
        if sealed.is_none_or(|sealed| sealed.revision != opened.sealed) {
            return Ok(None);
        }
        opened.row = row;
        self.keep(&opened);
        Ok(Some(opened))
    }

    async fn open_anew(
        &self,
        call: Call,
        key: &KeyRecord,
        version: &KeyVersionRecord,
    ) -> Result<Opened, CallError> {
        let generation = self.vault.generation().ok_or(VaultError::Sealed)?;
        let row = self.row(key, version.number);
        let sealed = self.sealed(key, version.number)?;
        let sealed = sealed.ok_or_else(|| missing(key.id, version.number))?;
        let material = self.vault.open_material(&*self.control.view(), &sealed)?;
        let template = template(key, version);
        let material = match version.backend {
            BackendKind::Software => Material::Sealable(material),
        };
        let opening = self.backends.of(version.backend).open(call, &template, material);
        let handle = opening.await.map_err(refused)?;
        let id = (key.id, version.number);
        let opened = Opened { handle, id, sealed: sealed.revision, generation, row };
        self.keep(&opened);
        Ok(opened)
    }

    /// Keeps an open key, unless the vault was sealed meanwhile: whoever seals forgets all open keys
    /// after the vault's generation has moved, so either they see this one or it is taken out here.
    fn keep(&self, opened: &Opened) {
        self.open.insert(opened.id, opened.clone());
        if self.vault.generation() != Some(opened.generation) {
            self.open.remove(&opened.id);
        }
    }

    fn sealed(
        &self,
        key: &KeyRecord,
        number: KeyVersionNumber,
    ) -> Result<Option<SealedRecord>, CallError> {
        Ok(SealedRecord::load(&*self.control.view(), &sealed_id(key, number))?)
    }

    /// Notes the row of the sealed record as it is now.
    fn row(&self, key: &KeyRecord, number: KeyVersionNumber) -> Stamped {
        let row = SealedRecord::row(&sealed_id(key, number));
        Stamped::now(&*self.control, RowMark::of(SealedRecord::TABLE, &row))
    }
}

fn sealed_id(key: &KeyRecord, number: KeyVersionNumber) -> <SealedRecord as Record>::Id {
    (RecordKind::KeyMaterial, key.instance, KeyVersionRecord::material_key(&key.id, number))
}

/// Returns what a backend is told about a key version.
pub(crate) fn template(key: &KeyRecord, version: &KeyVersionRecord) -> KeyTemplate {
    KeyTemplate {
        key_id: key.id,
        version: version.number,
        version_id: version.id,
        spec: key.spec,
        usage: key.usage,
    }
}

fn missing(key: KeyId, number: KeyVersionNumber) -> CallError {
    CallError::Missing(format!("the material of {key} version {number}"))
}

/// What the caller could mend in its own request it cannot mend in our store.
fn refused(error: BackendError) -> CallError {
    if error.is_retryable() { error.into() } else { CallError::BadMaterial(error) }
}
