//! Snapshots: built and signed by unsealed data nodes, believed by nobody without that signature.
//!
//! A snapshot is a checkpoint of the state with a manifest of its chunks, which holds how far the
//! state was applied. It is handed on verbatim, by the witness too, which can neither build nor
//! change one. What has arrived and is not installed yet ends beyond the state, and counts for
//! nothing until the state has come that far.

use std::sync::Arc;

use parking_lot::Mutex;
use twinkeep_core::command::SignatureVerifier;
use twinkeep_core::record::{ClusterRecord, Record};
use twinkeep_core::state::Fault;
use twinkeep_storage::snapshot::{Manifest, Receiver, Snapshot as Stored, SnapshotError};
use twinkeep_storage::state::InstallError;
use twinkeep_storage::{Identity, SnapshotStore, StateDb};

use crate::codec::{Applied, Malformed};
use crate::signing::{CommandSigner, Disbelief, Judge, SnapshotSignature};
use crate::stores::Stores;
use crate::transport::Me;
use crate::types::{Contact, LeaderId, LogId, SnapshotMeta};

/// A snapshot as openraft passes it on.
pub(crate) type Snapshot = openraft::Snapshot<LeaderId, u64, Contact, SnapshotData>;

/// A stored snapshot. Its files stay for as long as a clone is held.
#[derive(Clone)]
pub struct SnapshotData {
    /// `None` for the state before its first entry, which has nothing to store.
    stored: Option<Arc<Stored>>,
    applied: Applied,
}

impl SnapshotData {
    fn of(stored: Arc<Stored>) -> Result<Self, Malformed> {
        let applied = Applied::decode(stored.manifest().meta())?;
        Ok(Self { stored: Some(stored), applied })
    }

    /// Returns the last entry that the snapshot covers.
    #[must_use]
    pub fn last_log_id(&self) -> Option<LogId> {
        self.applied.last_log_id
    }

    pub(crate) fn stored(&self) -> Option<&Arc<Stored>> {
        self.stored.as_ref()
    }

    pub(crate) fn into_snapshot(self) -> Snapshot {
        Snapshot { meta: self.applied.snapshot_meta(), snapshot: self }
    }
}

/// Why a snapshot cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It could not be built, kept or read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It does not say how far the state was applied.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It was not installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] Fault),
}

/// Makes, keeps and checks snapshots.
pub(crate) struct Snapshots {
    store: Arc<SnapshotStore>,
    state: Arc<StateDb>,
    me: Me,
    genesis_key: [u8; 32],
    signer: Arc<dyn CommandSigner>,
    verifier: Arc<dyn SignatureVerifier>,
    /// Held while one is built: a second one beside it would only cost the disk.
    building: Mutex<()>,
}

impl Snapshots {
    pub(crate) fn new(stores: &Stores) -> Arc<Self> {
        let Stores { me, trust, .. } = stores;
        let (store, state) = (Arc::clone(&stores.snapshots), Arc::clone(&stores.state));
        let (signer, verifier) = (Arc::clone(&stores.signer), Arc::clone(&stores.verifier));
        Arc::new(Self::over(store, state, *me, trust.genesis_key, signer, verifier))
    }

    /// Makes snapshots of a state that no Raft runs over.
    pub(crate) fn over(
        store: Arc<SnapshotStore>,
        state: Arc<StateDb>,
        me: Me,
        genesis_key: [u8; 32],
        signer: Arc<dyn CommandSigner>,
        verifier: Arc<dyn SignatureVerifier>,
    ) -> Self {
        Self { store, state, me, genesis_key, signer, verifier, building: Mutex::default() }
    }

    /// Returns the newest snapshot that is not beyond the state.
    ///
    /// # Errors
    /// [`Unusable`] when the state or the manifest cannot be read.
    pub(crate) fn newest(&self) -> Result<Option<SnapshotData>, Unusable> {
        let Some(applied) = self.state.applied()? else { return Ok(None) };
        let stored = self.store.latest_upto(applied.index);
        Ok(stored.map(SnapshotData::of).transpose()?)
    }

    /// Builds, signs and stores a snapshot; `None` while this node is sealed.
    ///
    /// # Errors
    /// [`Unusable`] when the disk fails.
    pub(crate) fn build(&self) -> Result<Option<SnapshotData>, Unusable> {
        let _one_at_a_time = self.building.lock();
        let cluster = self.state.view(|state| ClusterRecord::load(state, &()))?;
        let version = cluster.map_or(0, |cluster| cluster.version.0);
        let identity = Identity { cluster: self.me.cluster, node: self.me.node };
        let sign = |manifest: &[u8]| SnapshotSignature::sign(self.me, &*self.signer, manifest);
        match self.store.build(&self.state, identity, version, sign) {
            Ok(stored) => Ok(Some(SnapshotData::of(stored)?)),
            Err(SnapshotError::Empty) => {
                Ok(Some(SnapshotData { stored: None, applied: Applied::default() }))
            }
            // The only reason of ours not to sign is that this node is sealed.
            Err(SnapshotError::Signing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the state with a snapshot, which is this node's newest then.
    ///
    /// # Errors
    /// [`Unusable`] when it is not believed or torn; the state is the old one then.
    pub(crate) fn install(&self, data: &SnapshotData) -> Result<(), Unusable> {
        let stored = data.stored.as_ref().ok_or(SnapshotError::Empty)?;
        self.keep(stored)?;
        Ok(self.state.install(stored, |m, bytes, s| self.verify(m, bytes, s))?)
    }

    /// Takes a snapshot into this node's store, unless it came from there.
    fn keep(&self, stored: &Stored) -> Result<(), Unusable> {
        let newest = self.store.latest_upto(stored.manifest().index());
        if newest.is_some_and(|newest| newest.signed() == stored.signed()) {
            return Ok(());
        }
        let mut incoming = self.receive(&stored.signed().encode())?;
        for (number, chunk) in (0..).zip(stored.chunks(0)) {
            incoming.accept(number, &chunk?)?;
        }
        incoming.finish().map(drop)
    }

    /// Begins to take in a snapshot whose signed manifest a peer sent.
    ///
    /// # Errors
    /// [`Unusable`] when the manifest is not believed.
    pub(crate) fn receive(&self, signed: &[u8]) -> Result<Incoming<'_>, Unusable> {
        let receiver = self.store.receive(signed, |m, bytes, s| self.verify(m, bytes, s))?;
        let applied = Applied::decode(receiver.manifest().meta())?;
        Ok(Incoming { receiver, applied })
    }

    fn verify(&self, manifest: &Manifest, bytes: &[u8], signature: &[u8]) -> Result<(), Disbelief> {
        self.state.view(|state| {
            let Self { me, genesis_key, verifier, .. } = self;
            let judge = Judge { me: *me, genesis_key, state, verifier: &**verifier };
            SnapshotSignature::verify(signature, manifest.node(), bytes, &judge)
        })
    }
}

/// A snapshot that is arriving; dropped before its end, it leaves nothing behind.
pub(crate) struct Incoming<'a> {
    receiver: Receiver<'a>,
    applied: Applied,
}

impl Incoming<'_> {
    /// Returns what the snapshot covers.
    pub(crate) fn meta(&self) -> SnapshotMeta {
        self.applied.snapshot_meta()
    }

    /// Takes the next chunk and compares it with the manifest.
    ///
    /// # Errors
    /// [`Unusable`] for a chunk out of turn or one that was not signed.
    pub(crate) fn accept(&mut self, number: u64, chunk: &[u8]) -> Result<(), Unusable> {
        Ok(self.receiver.accept(number, chunk)?)
    }

    /// Stores the snapshot once its last chunk has come.
    ///
    /// # Errors
    /// [`Unusable`] while chunks are missing, or when the disk fails.
    pub(crate) fn finish(self) -> Result<SnapshotData, Unusable> {
        Ok(SnapshotData::of(self.receiver.finish()?)?)
    }
}
