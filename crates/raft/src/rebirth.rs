//! Beginning the next life of a cluster from what one node has on its disk: offline, when the quorum is lost.
//!
//! The node's whole log counts, whether its entries are known to be committed or not: what was acknowledged is
//! among them. So the state is copied, the rest of the log is applied to the copy, and [`recovery::recover`] rewrites it.
//! What openraft finds at the next start is what it finds after a snapshot was installed: a state and a
//! snapshot that end with the same entry, a log that is purged up to it, and a membership of one voter. Terms and
//! indexes go on from those of the former life, so that nothing ever counts twice.
//!
//! Nothing of the former life's folders is changed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use twinkeep_core::admission::Approval;
use twinkeep_core::apply::Trust;
use twinkeep_core::clock::UnixMs;
use twinkeep_core::command::{Batch, Proposal, SignatureVerifier, SignedBatch};
use twinkeep_core::record::NodeRecord;
use twinkeep_core::recovery::{self, LastEntry, RecoveryOrder, Unfit};
use twinkeep_core::state::Fault;
use twinkeep_storage::log::WriteError;
use twinkeep_storage::state::Applied as Marker;
use twinkeep_storage::{Identity, LogDb, SnapshotStore, StateDb};

use crate::boot::Shown;
use crate::codec::{Applied, Malformed, encode_vote};
use crate::config::ENTRY_BYTES_PER_MESSAGE;
use crate::log_store::{LogStore, marker};
use crate::signing::CommandSigner;
use crate::snapshot::{Snapshots, Unusable};
use crate::state_machine::apply_one;
use crate::transport::Me;
use crate::types::{Contact, Entry, LeaderId, LogId, Membership, Payload, StoredMembership, Vote};

/// Why no next life begins. The former life's folders are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RebirthError {
    /// The order is not fit for this cluster.
    #[error("the order is refused")]
    Unfit(#[from] Unfit),
    /// The node's log ends elsewhere than the order says.
    #[error(
        "the log of this node ends with entry {} of term {}, and the order is about entry {} of term {}: plan again",
        .found.map_or(0, |last| last.index), .found.map_or(0, |last| last.term), .ordered.index, .ordered.term
    )]
    OtherLog {
        /// The last entry here.
        found: Option<LastEntry>,
        /// The last entry that was signed.
        ordered: LastEntry,
    },
    /// What is asked for is not in the log any more.
    #[error(
        "the log was purged up to entry {purged}, beyond entry {last}: what came between is in the state of this node \
         alone; keep its folder"
    )]
    Purged {
        /// The last purged entry.
        purged: u64,
        /// The last entry that was kept elsewhere.
        last: u64,
    },
    /// Log and state do not fit together.
    #[error("log and state do not fit together")]
    Log(#[from] twinkeep_storage::log::OpenError),
    /// The copy of the state could not be made or used.
    #[error("the state cannot be copied")]
    State(#[from] twinkeep_storage::state::OpenError),
    /// The log could not be read.
    #[error("the log cannot be read")]
    Read(#[from] io::Error),
    /// What was applied is not readable.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The state failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The new log could not be written.
    #[error("the new log cannot be written")]
    Write(#[from] WriteError),
    /// The first snapshot could not be made.
    #[error("the first snapshot cannot be made")]
    Snapshot(#[from] Unusable),
    /// The node is sealed.
    #[error("the keys are sealed: nothing can be signed")]
    Sealed,
}

/// What a node had in the life that ends.
pub struct Former {
    /// Its log, open.
    pub log: Arc<LogDb>,
    /// Its state, open.
    pub state: Arc<StateDb>,
    /// Whom it believed before it had any state.
    pub trust: Trust,
    /// Checks signatures.
    pub verifier: Arc<dyn SignatureVerifier>,
}

/// An entry that one node has and the recovered cluster has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Its place.
    pub at: LastEntry,
    /// Whether the node knew it to be committed.
    pub committed: bool,
    /// What it changes.
    pub proposals: Vec<Proposal>,
}

/// Where a disk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The last entry of the log.
    pub last: LastEntry,
    /// The term of the last vote.
    pub term: u64,
}

impl End {
    pub(crate) fn of(shown: &Shown) -> Option<Self> {
        let term = shown.vote.map_or(0, |vote| vote.leader_id.term);
        let last = shown.last.as_ref()?;
        Some(Self { last: place(last), term })
    }
}

fn place(id: &LogId) -> LastEntry {
    LastEntry { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

impl Former {
    /// Returns where the log ends; `None` when it is empty.
    ///
    /// # Errors
    /// [`RebirthError::Read`] when the log cannot be read.
    pub fn end(&self) -> Result<Option<End>, RebirthError> {
        Ok(End::of(&self.store().shown()?))
    }

    /// Returns the changes in this node's log that are beyond `last`, the end of the log that was kept: those
    /// behind it, and those of later leaders.
    ///
    /// # Errors
    /// [`RebirthError::Purged`] when some of them are in the state alone, and others when the log cannot be read.
    pub fn beyond(&self, last: &LastEntry) -> Result<Vec<Beyond>, RebirthError> {
        if let Some((purged, _)) = self.log.purged().filter(|(purged, _)| *purged > last.index) {
            return Err(RebirthError::Purged { purged, last: last.index });
        }
        let committed = self.log.committed().map(|(index, _)| index);
        let (log, mut found) = (self.store(), Vec::new());
        let mut from = self.log.span().map_or(0, |(first, _)| first);
        loop {
            let entries = log.read(from.., ENTRY_BYTES_PER_MESSAGE)?;
            let Some(end) = entries.last() else { return Ok(found) };
            from = end.log_id.index + 1;
            for Entry { log_id, payload } in entries {
                let at = place(&log_id);
                let is_beyond =
                    at.index > last.index || (at.term, at.leader) > (last.term, last.leader);
                let Payload::Normal(batch) = payload else { continue };
                if !is_beyond {
                    continue;
                }
                let signed = SignedBatch::from_bytes(&batch.0).ok();
                let batch = signed.and_then(|signed| Batch::from_bytes(&signed.batch).ok());
                // What does not decode changed nothing on any node.
                let proposals = batch.map(|batch| batch.commands).unwrap_or_default();
                let committed = Some(at.index) <= committed;
                found.push(Beyond { at, committed, proposals });
            }
        }
    }

    fn store(&self) -> LogStore {
        LogStore::new(Arc::clone(&self.log), Arc::clone(&self.state))
    }

    /// Copies the state into a new folder and brings the copy to the end of the log.
    fn copy(&self, root: &Path, identity: Identity) -> Result<(StateDb, Applied), RebirthError> {
        let copy = self.state.copy_to(root, identity)?;
        let mut applied = match copy.applied()? {
            Some(marker) => Applied::decode(&marker.meta)?,
            None => Applied::default(),
        };
        self.log.check_applied(applied.last_log_id.map(|id| id.index))?;
        let log = self.store();
        loop {
            let from = applied.last_log_id.map_or(0, |id| id.index + 1);
            let entries = log.read(from.., ENTRY_BYTES_PER_MESSAGE)?;
            if entries.is_empty() {
                return Ok((copy, applied));
            }
            let mut transaction = copy.begin();
            for entry in entries {
                let state = &mut transaction;
                apply_one(state, &mut applied, entry, &self.trust, &*self.verifier)?;
            }
            commit(&copy, transaction, &applied)?;
        }
    }
}

fn commit(
    state: &StateDb,
    transaction: twinkeep_storage::state::Transaction,
    applied: &Applied,
) -> Result<(), Fault> {
    let last = applied.last_log_id.expect("an entry was applied");
    state.commit(transaction, &Marker { index: last.index, meta: applied.encode() })
}

/// The next life's first node, on its way to its first start.
pub struct Reborn {
    /// Its state, in its folder.
    pub state: Arc<StateDb>,
    /// The node as it is recorded.
    pub record: NodeRecord,
    first: LogId,
    trust: Trust,
    verifier: Arc<dyn SignatureVerifier>,
}

impl Reborn {
    /// Rewrites a copy of a node's state by an order, in the folder `root`, which must be empty or missing. `now_ms` is
    /// the machine's clock.
    ///
    /// # Errors
    /// [`RebirthError`] with what does not fit.
    pub fn new(
        former: &Former,
        order: &RecoveryOrder,
        approvals: &[Approval],
        root: &Path,
        now_ms: UnixMs,
    ) -> Result<Self, RebirthError> {
        let end = former.end()?;
        let found = end.map(|end| end.last);
        let Some(end) = end.filter(|end| end.last == order.last) else {
            return Err(RebirthError::OtherLog { found, ordered: order.last });
        };
        let node = order.survivors.first().ok_or(Unfit::NoSurvivor)?.node;
        let cluster = former.trust.cluster;
        let (state, _) = former.copy(root, Identity { cluster, node })?;
        // Beyond every term that the node has seen. Others may have seen more; nobody of that life is heard any more.
        let term = end.term.max(end.last.term) + 1;
        let leader = LeaderId { term, node_id: node.get() };
        let first = LogId::new(leader, end.last.index + 1);
        let mut transaction = state.begin();
        let verifier = &*former.verifier;
        let index = first.index;
        let record =
            recovery::recover(&mut transaction, order, approvals, index, now_ms, verifier)??;
        let contact = Contact::new(record.placement.peer_address.to_string());
        let nodes = BTreeMap::from([(node.get(), contact)]);
        let members = Membership::new(vec![[node.get()].into()], nodes)
            .expect("its one voter is its one node, with an address");
        let membership = StoredMembership::new(Some(first), members);
        commit(&state, transaction, &Applied { last_log_id: Some(first), membership })?;
        state.flush()?;
        let (trust, verifier) = (former.trust, Arc::clone(&former.verifier));
        Ok(Self { state: Arc::new(state), record, first, trust, verifier })
    }

    /// Makes the first snapshot and the log of the new life, in folders that are empty or missing. The signer must be
    /// unsealed and sign as the new node of the new life.
    ///
    /// # Errors
    /// [`RebirthError`] when a disk fails, [`RebirthError::Sealed`].
    pub fn finish(
        &self,
        signer: Arc<dyn CommandSigner>,
        snapshots: Arc<SnapshotStore>,
        log: &Path,
    ) -> Result<(), RebirthError> {
        let (cluster, node) = (self.trust.cluster, self.record.id);
        let me = Me { cluster, incarnation: self.record.incarnation, node };
        let (state, verifier) = (Arc::clone(&self.state), Arc::clone(&self.verifier));
        let snapshots =
            Snapshots::over(snapshots, state, me, self.trust.genesis_key, signer, verifier);
        snapshots.build()?.ok_or(RebirthError::Sealed)?;
        let log = LogDb::open(log, Identity { cluster, node })?;
        let LeaderId { term, node_id } = self.first.leader_id;
        log.save_vote(encode_vote(&Vote::new(term, node_id)).into())?;
        log.save_committed(self.first.index, marker(&self.first));
        log.purge(self.first.index, marker(&self.first))?;
        Ok(())
    }
}
