//! The unsealed keyring: root key, epoch keys, and the instance keys in use.
//!
//! | key          | wrapped by       | named in the wrap by                    | record kind    |
//! |--------------|------------------|-----------------------------------------|----------------|
//! | root key     | seal key, level 0 | seal id, version 1                     | `RootKey`      |
//! | epoch key    | root key, level 1 | derived id of the root key, version 1  | `EpochKey`     |
//! | instance key | epoch key, level 2 | cluster id, epoch                     | `InstanceKey`  |
//! | key material | instance key, level 3 | instance id, instance key version  | `KeyMaterial`  |
//!
//! Authority keys and other secrets of the cluster itself are wrapped by the epoch key. All plaintexts
//! are raw bytes, schema 1: 32 of them for root, epoch and instance keys.
//!
//! The keys of the first three rows live in protected memory and leave it only inside the functions that
//! wrap and derive; dropping the keyring wipes them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ring::rand::{SecureRandom, SystemRandom};
use twinkeep_core::id::{ClusterId, Epoch, InstanceId, Revision};
use twinkeep_core::record::{ClusterRecord, CommandKey, Record as _, RecordKind, SealedRecord};
use twinkeep_core::state::{Fault, Read};
use twinkeep_envelope::kdf::derive;
use twinkeep_envelope::record::{Wrap, WrapLevel};
use twinkeep_envelope::{ExposeKey as _, OpenKey, RandomnessFailed};
use twinkeep_sysmem::{Arena, ArenaError};

use crate::instances::{INSTANCE_KEYS_MAX, InstanceKeys};
use crate::label;
use crate::protected::ProtectedKey;
use crate::records::{RecordError, open_record, seal_record};
use crate::seal::SealKey;
use crate::signing;

/// Most epochs whose keys a cluster keeps.
pub const EPOCHS_MAX: usize = 16;

/// Why a keyring did not open.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// This node has no state of a cluster yet.
    #[error("this node has not received the cluster's records yet")]
    NotBegun,
    /// No root key is stored under this seal.
    #[error("no root key is stored under this seal")]
    NoRootKey,
    /// A record of the keyring does not open though the key above it is the right one.
    #[error("the keyring is damaged: the {0} does not open")]
    Damaged(&'static str),
    /// The root key is not the one that wraps this cluster's epoch keys.
    #[error("the root key is that of another keyring")]
    OtherRootKey,
    /// The key of the current epoch is missing.
    #[error("the key of epoch {0} is missing")]
    NoEpochKey(Epoch),
    /// The command key recorded for an epoch is not the one that its epoch key gives.
    #[error("the recorded command key of epoch {0} does not belong to its epoch key")]
    OtherCommandKey(Epoch),
    /// There are more epoch keys than any release of ours makes.
    #[error("there are more than {EPOCHS_MAX} epoch keys")]
    TooManyEpochs,
    /// The state could not be read.
    #[error("the stored keyring could not be read")]
    State(#[from] Fault),
    /// No room in protected memory.
    #[error("the keys found no place in protected memory")]
    Memory(#[from] ArenaError),
}

/// Why no keyring was made.
#[derive(Debug, thiserror::Error)]
pub enum FreshError {
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessFailed),
    /// No room in protected memory.
    #[error("the keys found no place in protected memory")]
    Memory(#[from] ArenaError),
}

/// The keys of an unsealed data node.
pub struct Keyring {
    pub(crate) cluster: ClusterId,
    pub(crate) current: Epoch,
    root: ProtectedKey,
    epochs: BTreeMap<Epoch, ProtectedKey>,
    pub(crate) instances: Mutex<InstanceKeys>,
    pub(crate) arena: Arena,
}

impl Keyring {
    /// Slots of protected memory that a keyring needs: every key that it may hold, and some for instance
    /// keys that are dropped from the bounded map while calls still use them.
    pub const SLOTS: usize = 1 + EPOCHS_MAX + INSTANCE_KEYS_MAX + 64;

    /// Draws the root key and the first epoch key of a new cluster.
    pub fn fresh(cluster: ClusterId, arena: Arena) -> Result<Self, FreshError> {
        let random = SystemRandom::new();
        let keep_fresh = |random: &dyn SecureRandom| {
            Ok::<_, FreshError>(ProtectedKey::keep(OpenKey::generate(random)?, &arena)?)
        };
        let (root, epoch) = (keep_fresh(&random)?, keep_fresh(&random)?);
        let epochs = BTreeMap::from([(Epoch::FIRST, epoch)]);
        Ok(Self::new(cluster, Epoch::FIRST, root, epochs, arena))
    }

    /// Opens the stored keyring with the key of one of its seals.
    pub fn open(
        state: &(impl Read + ?Sized),
        key: &SealKey,
        arena: Arena,
    ) -> Result<Self, UnsealError> {
        let cluster = ClusterRecord::load(state, &())?.ok_or(UnsealError::NotBegun)?;
        let id = (RecordKind::RootKey, InstanceId::CLUSTER, key.id().0.to_vec());
        let record = SealedRecord::load(state, &id)?.ok_or(UnsealError::NoRootKey)?;
        let root = open_record(key.key(), &key.wrap(), cluster.id, &record)
            .ok()
            .and_then(|root| OpenKey::from_slice(root.danger_expose()))
            .ok_or(UnsealError::Damaged("root key"))?;
        Self::with_root(state, &cluster, root, arena)
    }

    /// Opens the stored keyring with the root key itself, received when joining or taken out of a
    /// recovery bundle.
    pub fn open_with_root(
        state: &(impl Read + ?Sized),
        root: OpenKey,
        arena: Arena,
    ) -> Result<Self, UnsealError> {
        let cluster = ClusterRecord::load(state, &())?.ok_or(UnsealError::NotBegun)?;
        Self::with_root(state, &cluster, root, arena)
    }

    fn with_root(
        state: &(impl Read + ?Sized),
        cluster: &ClusterRecord,
        root: OpenKey,
        arena: Arena,
    ) -> Result<Self, UnsealError> {
        let prefix = SealedRecord::kind_prefix(RecordKind::EpochKey);
        let records = SealedRecord::list(state, &prefix, &[], EPOCHS_MAX + 1)?;
        if records.len() > EPOCHS_MAX {
            return Err(UnsealError::TooManyEpochs);
        }
        let wrap = root_wrap(&root, cluster.id);
        let mut epochs = BTreeMap::new();
        for record in &records {
            let (epoch, key) = open_epoch(&root, &wrap, cluster.id, record)?;
            epochs.insert(epoch, ProtectedKey::keep(key, &arena)?);
        }
        check_epochs(&epochs, cluster)?;
        let root = ProtectedKey::keep(root, &arena)?;
        Ok(Self::new(cluster.id, cluster.epoch, root, epochs, arena))
    }

    fn new(
        cluster: ClusterId,
        current: Epoch,
        root: ProtectedKey,
        epochs: BTreeMap<Epoch, ProtectedKey>,
        arena: Arena,
    ) -> Self {
        Self { cluster, current, root, epochs, instances: Mutex::default(), arena }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The epoch whose keys seal and sign now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.current
    }

    /// The public half of the current epoch's command key.
    #[must_use]
    pub fn command_key(&self) -> CommandKey {
        let public = signing::public_key(self.current_key(), self.cluster, self.current);
        CommandKey { epoch: self.current, public }
    }

    /// Seals the root key under a seal; the record of a first sealing has revision 1.
    pub fn seal_root(
        &self,
        key: &SealKey,
        revision: Revision,
    ) -> Result<SealedRecord, RecordError> {
        let place = (RecordKind::RootKey, InstanceId::CLUSTER, key.id().0.to_vec());
        let plaintext = self.root.danger_expose();
        seal_record(key.key(), &key.wrap(), self.cluster, place, revision, plaintext)
    }

    /// Seals the keys of all epochs under the root key, each at the revision given.
    pub fn seal_epochs(&self, revision: Revision) -> Result<Vec<SealedRecord>, RecordError> {
        let wrap = root_wrap(&self.root, self.cluster);
        let seal = |(epoch, key): (&Epoch, &ProtectedKey)| {
            let record_key = epoch.get().to_be_bytes().to_vec();
            let place = (RecordKind::EpochKey, InstanceId::CLUSTER, record_key);
            seal_record(&self.root, &wrap, self.cluster, place, revision, key.danger_expose())
        };
        self.epochs.iter().map(seal).collect()
    }

    pub(crate) fn root(&self) -> &ProtectedKey {
        &self.root
    }

    pub(crate) fn epoch_key(&self, epoch: Epoch) -> Option<&ProtectedKey> {
        self.epochs.get(&epoch)
    }

    pub(crate) fn current_key(&self) -> &ProtectedKey {
        self.epoch_key(self.current).expect("a keyring without its current epoch is not made")
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("cluster", &self.cluster)
            .field("epoch", &self.current)
            .finish_non_exhaustive()
    }
}

/// How records wrapped by a root key say so. The id is derived from the key, so that a record wrapped
/// by another root key is told from a damaged one.
fn root_wrap(root: &impl twinkeep_envelope::ExposeKey, cluster: ClusterId) -> Wrap {
    let id = derive(root, label::ROOT_ID, cluster.as_bytes());
    let key = *id.danger_expose().first_chunk().expect("a key has 32 bytes");
    Wrap { level: WrapLevel::Root, key, version: 1 }
}

fn open_epoch(
    root: &OpenKey,
    wrap: &Wrap,
    cluster: ClusterId,
    record: &SealedRecord,
) -> Result<(Epoch, OpenKey), UnsealError> {
    const DAMAGED: UnsealError = UnsealError::Damaged("epoch key");
    match Wrap::parse(&record.blob) {
        Ok(found) if found.level == WrapLevel::Root && found.key != wrap.key => {
            return Err(UnsealError::OtherRootKey);
        }
        Ok(_) => {}
        Err(_) => return Err(DAMAGED),
    }
    let plaintext = open_record(root, wrap, cluster, record).map_err(|_| DAMAGED)?;
    let key = OpenKey::from_slice(plaintext.danger_expose()).ok_or(DAMAGED)?;
    let number = record.record_key.as_slice().try_into().map_err(|_| DAMAGED)?;
    let epoch = Epoch::new(u32::from_be_bytes(number)).map_err(|_| DAMAGED)?;
    Ok((epoch, key))
}

/// Checks the opened keys against what the cluster record says in public.
fn check_epochs(
    epochs: &BTreeMap<Epoch, ProtectedKey>,
    cluster: &ClusterRecord,
) -> Result<(), UnsealError> {
    if !epochs.contains_key(&cluster.epoch) || cluster.command_key(cluster.epoch).is_none() {
        return Err(UnsealError::NoEpochKey(cluster.epoch));
    }
    for recorded in &cluster.command_keys {
        let Some(key) = epochs.get(&recorded.epoch) else { continue };
        if signing::public_key(key, cluster.id, recorded.epoch) != recorded.public {
            return Err(UnsealError::OtherCommandKey(recorded.epoch));
        }
    }
    Ok(())
}
