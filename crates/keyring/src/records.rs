//! Sealing and opening records with the keyring.
//!
//! Sealing happens on the node that authorised a call, before anything is proposed; opening on any
//! data node, from the replicated records. A record opens only in its own place: cluster, kind,
//! instance, record key, revision and schema are bound into it.

use std::sync::{Arc, MutexGuard, PoisonError};

use ring::rand::SystemRandom;
use twinkeep_core::id::{
    ClusterId, Epoch, InstanceId, InstanceKeyVersion, KeyId, KeyVersionNumber, Revision,
};
use twinkeep_core::record::{
    InstanceRecord, KeyVersionRecord, Record as _, RecordKind, SealedRecord,
};
use twinkeep_core::state::{Fault, Read};
use twinkeep_envelope::record::{self, InvalidRecord, RecordBinding, Wrap, WrapLevel};
use twinkeep_envelope::{ExposeKey, OpenKey, RandomnessFailed, SealError, SecretBytes};
use twinkeep_sysmem::ArenaError;

use crate::instances::InstanceKeys;
use crate::keyring::Keyring;
use crate::protected::ProtectedKey;

/// Layout of all plaintexts: raw bytes.
const SCHEMA: u16 = 1;

/// Why a record was not sealed or did not open.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The key of the instance is not stored.
    #[error("instance {0} has no key of version {1}")]
    NoInstanceKey(InstanceId, InstanceKeyVersion),
    /// The epoch key that wraps the record is not held.
    #[error("the record is wrapped by epoch {0}, whose key is not held")]
    NoEpochKey(Epoch),
    /// Damaged, moved from another place, or not wrapped as records of its kind are.
    #[error("a sealed record of kind {0} does not open")]
    Damaged(RecordKind),
    /// Nothing was sealed.
    #[error("the record was not sealed")]
    Seal(#[from] SealError),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessFailed),
    /// The state could not be read.
    #[error("the sealed record could not be read")]
    State(#[from] Fault),
    /// No room in protected memory.
    #[error("the key found no place in protected memory")]
    Memory(#[from] ArenaError),
}

/// The cluster's certificate authorities, by what they certify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityName {
    /// Certifies nodes to each other.
    Nodes,
    /// Certifies callers to nodes.
    Callers,
    /// Certifies nodes to callers.
    Endpoints,
}

impl AuthorityName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nodes, Self::Callers, Self::Endpoints];

    /// The logical record key; stored.
    #[must_use]
    pub fn record_key(self) -> &'static [u8] {
        match self {
            Self::Nodes => b"nodes",
            Self::Callers => b"callers",
            Self::Endpoints => b"endpoints",
        }
    }
}

impl Keyring {
    /// Draws the first key of a new instance and returns it sealed under the current epoch key.
    pub fn new_instance_key(&self, instance: &InstanceId) -> Result<SealedRecord, RecordError> {
        let key = OpenKey::generate(&SystemRandom::new())?;
        let record_key = InstanceRecord::instance_key(instance, InstanceKeyVersion::FIRST);
        let secret = key.danger_expose();
        self.seal_for_cluster(RecordKind::InstanceKey, record_key, Revision::FIRST, secret)
    }

    /// Seals the material of a key version under its instance's current key.
    pub fn seal_material(
        &self,
        state: &(impl Read + ?Sized),
        instance: &InstanceRecord,
        (key, number): (&KeyId, KeyVersionNumber),
        revision: Revision,
        material: &SecretBytes,
    ) -> Result<SealedRecord, RecordError> {
        let wrapping = self.instance_key(state, instance.id, instance.key_version)?;
        let wrap = instance_wrap(instance.id, instance.key_version);
        let record_key = KeyVersionRecord::material_key(key, number);
        let place = (RecordKind::KeyMaterial, instance.id, record_key);
        seal_record(&*wrapping, &wrap, self.cluster, place, revision, material.danger_expose())
    }

    /// Opens the material of a key version.
    pub fn open_material(
        &self,
        state: &(impl Read + ?Sized),
        record: &SealedRecord,
    ) -> Result<SecretBytes, RecordError> {
        let damaged = |_| RecordError::Damaged(record.kind);
        let found = Wrap::parse(&record.blob).map_err(|_| RecordError::Damaged(record.kind))?;
        let version = InstanceKeyVersion::new(found.version).map_err(damaged)?;
        let wrap = instance_wrap(record.instance, version);
        if record.kind != RecordKind::KeyMaterial || found != wrap {
            return Err(RecordError::Damaged(record.kind));
        }
        let key = self.instance_key(state, record.instance, version)?;
        open_record(&*key, &wrap, self.cluster, record)
            .map_err(|InvalidRecord| RecordError::Damaged(record.kind))
    }

    /// Seals the private key of a certificate authority.
    pub fn seal_authority(
        &self,
        name: AuthorityName,
        revision: Revision,
        private_key: &SecretBytes,
    ) -> Result<SealedRecord, RecordError> {
        let record_key = name.record_key().to_vec();
        let secret = private_key.danger_expose();
        self.seal_for_cluster(RecordKind::AuthorityKey, record_key, revision, secret)
    }

    /// Reads and opens the private key of a certificate authority; `None` where none is stored.
    pub fn open_authority(
        &self,
        state: &(impl Read + ?Sized),
        name: AuthorityName,
    ) -> Result<Option<SecretBytes>, RecordError> {
        let place = (RecordKind::AuthorityKey, InstanceId::CLUSTER, name.record_key().to_vec());
        let record = SealedRecord::load(state, &place)?;
        record.map(|record| self.open_for_cluster(&record)).transpose()
    }

    /// Drops the open keys of an instance; calls that use one at this moment finish with it.
    pub fn forget_instance(&self, instance: InstanceId) {
        self.open_instances().forget(instance);
    }

    fn instance_key(
        &self,
        state: &(impl Read + ?Sized),
        instance: InstanceId,
        version: InstanceKeyVersion,
    ) -> Result<Arc<ProtectedKey>, RecordError> {
        if let Some(key) = self.open_instances().find(&(instance, version)) {
            return Ok(key);
        }
        let record_key = InstanceRecord::instance_key(&instance, version);
        let place = (RecordKind::InstanceKey, InstanceId::CLUSTER, record_key);
        let record = SealedRecord::load(state, &place)?
            .ok_or(RecordError::NoInstanceKey(instance, version))?;
        let plaintext = self.open_for_cluster(&record)?;
        let key = OpenKey::from_slice(plaintext.danger_expose())
            .ok_or(RecordError::Damaged(RecordKind::InstanceKey))?;
        let key = Arc::new(ProtectedKey::keep(key, &self.arena)?);
        self.open_instances().keep((instance, version), key.clone());
        Ok(key)
    }

    /// Seals under the current epoch key, for the cluster itself.
    fn seal_for_cluster(
        &self,
        kind: RecordKind,
        record_key: Vec<u8>,
        revision: Revision,
        plaintext: &[u8],
    ) -> Result<SealedRecord, RecordError> {
        let wrap = self.epoch_wrap(self.current);
        let place = (kind, InstanceId::CLUSTER, record_key);
        seal_record(self.current_key(), &wrap, self.cluster, place, revision, plaintext)
    }

    /// Opens what an epoch key of ours has sealed for the cluster itself.
    fn open_for_cluster(&self, record: &SealedRecord) -> Result<SecretBytes, RecordError> {
        let damaged = || RecordError::Damaged(record.kind);
        let found = Wrap::parse(&record.blob).map_err(|_| damaged())?;
        let epoch = Epoch::new(found.version).map_err(|_| damaged())?;
        let wrap = self.epoch_wrap(epoch);
        if found != wrap {
            return Err(damaged());
        }
        let key = self.epoch_key(epoch).ok_or(RecordError::NoEpochKey(epoch))?;
        open_record(key, &wrap, self.cluster, record).map_err(|InvalidRecord| damaged())
    }

    fn epoch_wrap(&self, epoch: Epoch) -> Wrap {
        let key = *self.cluster.as_bytes();
        Wrap { level: WrapLevel::Epoch, key, version: epoch.get() }
    }

    fn open_instances(&self) -> MutexGuard<'_, InstanceKeys> {
        // The map is whole after every step of its methods, so poison means nothing.
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn instance_wrap(instance: InstanceId, version: InstanceKeyVersion) -> Wrap {
    Wrap { level: WrapLevel::Instance, key: *instance.as_bytes(), version: version.get() }
}

/// Kind, instance and logical record key: where a record stands.
type Place = (RecordKind, InstanceId, Vec<u8>);

pub(crate) fn seal_record(
    key: &impl ExposeKey,
    wrap: &Wrap,
    cluster: ClusterId,
    (kind, instance, record_key): Place,
    revision: Revision,
    plaintext: &[u8],
) -> Result<SealedRecord, RecordError> {
    let schema = SCHEMA;
    let binding =
        RecordBinding { cluster, kind, instance, record_key: &record_key, revision, schema };
    let blob = record::seal(key, wrap, &binding, plaintext)?;
    Ok(SealedRecord { kind, instance, record_key, revision, schema, blob })
}

pub(crate) fn open_record(
    key: &impl ExposeKey,
    wrap: &Wrap,
    cluster: ClusterId,
    record: &SealedRecord,
) -> Result<SecretBytes, InvalidRecord> {
    let SealedRecord { kind, instance, record_key, revision, schema, blob } = record;
    if *schema != SCHEMA {
        return Err(InvalidRecord);
    }
    let binding = RecordBinding {
        cluster,
        kind: *kind,
        instance: *instance,
        record_key,
        revision: *revision,
        schema: *schema,
    };
    record::open(key, wrap, &binding, blob)
}
