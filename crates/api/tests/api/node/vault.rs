//! Seals records by the real envelope, all under one key: the hierarchy above is the keyring's matter.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use twinkeep_api::ports::{Vault, VaultError};
use twinkeep_core::id::{InstanceId, InstanceKeyVersion, KeyId, KeyVersionNumber, Revision};
use twinkeep_core::record::{
    Digest, InstanceRecord, KeyVersionRecord, RecordKind, SealedBlob, SealedRecord,
};
use twinkeep_core::state::Read;
use twinkeep_envelope::record::{RecordBinding, Wrap, WrapLevel};
use twinkeep_envelope::{OpenKey, SecretBytes};

use super::CLUSTER;

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct TestVault {
    /// Odd while sealed.
    seals: AtomicU64,
    /// Runs once, before the next key is opened.
    while_opening: Mutex<Option<Hook>>,
    /// Runs once, after the next key was opened.
    after_opening: Mutex<Option<Hook>>,
    pub(crate) opened: AtomicU64,
}

const WRAP: Wrap = Wrap { level: WrapLevel::Instance, key: [0x30; 16], version: 1 };

impl TestVault {
    pub(crate) fn seal(&self) {
        self.seals.fetch_or(1, Ordering::AcqRel);
    }

    pub(crate) fn unseal(&self) {
        let seals = self.seals.load(Ordering::Acquire);
        self.seals.store((seals | 1) + 1, Ordering::Release);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.generation().is_none()
    }

    pub(crate) fn while_opening(&self, hook: impl FnOnce() + Send + 'static) {
        *self.while_opening.lock() = Some(Box::new(hook));
    }

    pub(crate) fn after_opening(&self, hook: impl FnOnce() + Send + 'static) {
        *self.after_opening.lock() = Some(Box::new(hook));
    }

    fn key(&self) -> Result<OpenKey, VaultError> {
        if self.is_sealed() {
            return Err(VaultError::Sealed);
        }
        Ok(OpenKey::build(|bytes| bytes.fill(0x42)))
    }

    fn seal_record(
        &self,
        kind: RecordKind,
        instance: InstanceId,
        record_key: Vec<u8>,
        secret: &SecretBytes,
    ) -> Result<SealedRecord, VaultError> {
        let blank = SealedBlob::from_envelope(Vec::new());
        let mut record = SealedRecord {
            kind,
            instance,
            record_key,
            revision: Revision::FIRST,
            schema: 1,
            blob: blank,
        };
        let sealed = twinkeep_envelope::record::seal(
            &self.key()?,
            &WRAP,
            &binding(&record),
            secret.danger_expose(),
        );
        record.blob = sealed.map_err(|error| VaultError::Failed(error.into()))?;
        Ok(record)
    }
}

fn binding(record: &SealedRecord) -> RecordBinding<'_> {
    RecordBinding {
        cluster: CLUSTER,
        kind: record.kind,
        instance: record.instance,
        record_key: &record.record_key,
        revision: record.revision,
        schema: record.schema,
    }
}

impl Vault for TestVault {
    fn generation(&self) -> Option<u64> {
        let seals = self.seals.load(Ordering::Acquire);
        seals.is_multiple_of(2).then_some(seals)
    }

    fn seal_material(
        &self,
        _: &dyn Read,
        instance: &InstanceRecord,
        (key, number): (&KeyId, KeyVersionNumber),
        material: &SecretBytes,
    ) -> Result<SealedRecord, VaultError> {
        let record_key = KeyVersionRecord::material_key(key, number);
        self.seal_record(RecordKind::KeyMaterial, instance.id, record_key, material)
    }

    fn open_material(
        &self,
        _: &dyn Read,
        record: &SealedRecord,
    ) -> Result<SecretBytes, VaultError> {
        let hook = self.while_opening.lock().take();
        if let Some(hook) = hook {
            hook();
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        let key = self.key()?;
        let opened = twinkeep_envelope::record::open(&key, &WRAP, &binding(record), &record.blob);
        let hook = self.after_opening.lock().take();
        if let Some(hook) = hook {
            hook();
        }
        opened.map_err(|error| VaultError::Damaged(error.into()))
    }

    fn seal_instance_key(
        &self,
        _: &dyn Read,
        instance: InstanceId,
    ) -> Result<SealedRecord, VaultError> {
        let record_key = InstanceRecord::instance_key(&instance, InstanceKeyVersion::FIRST);
        let secret = SecretBytes::copy_of(&[7; 32]);
        self.seal_record(RecordKind::InstanceKey, InstanceId::CLUSTER, record_key, &secret)
    }

    fn request_digest(&self, _: &dyn Read, request: &[u8]) -> Result<Digest, VaultError> {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&crc32c::crc32c(request).to_be_bytes());
        Ok(Digest(digest))
    }
}
