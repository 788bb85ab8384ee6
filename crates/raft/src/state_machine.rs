//! The replicated state as openraft drives it.
//!
//! Entries are applied in runs: each through [`apply_entry`] into one transaction, which is committed
//! together with the last entry's place and the membership. Answers go out after the commit. An entry
//! that the state already holds is skipped, so that a log that is replayed changes nothing. A run waits
//! for this node's own log: an entry is committed when a majority has it on disk, which need not mean us.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;
use twinkeep_core::apply::{Trust, apply_entry};
use twinkeep_core::command::SignatureVerifier;
use twinkeep_core::outcome::{self, Outcome};
use twinkeep_core::state::{Fault, Read, Rows, Table, Write};
use twinkeep_storage::state::Applied as Marker;
use twinkeep_storage::{LogDb, StateDb};

use crate::blocking::blocking;
use crate::changes::{Changes, Touched};
use crate::codec::Applied;
use crate::replication::Replication;
use crate::roster::Roster;
use crate::snapshot::{Snapshot, SnapshotData, Snapshots};
use crate::types::{Entry, LogId, Outcomes, Payload, SnapshotMeta, StoredMembership, TypeConfig};

/// openraft with the types of this crate.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Most entries in one transaction.
const RUN_MAX: usize = 64;

/// Applies entries to the state.
pub struct StateMachine {
    pub(crate) state: Arc<StateDb>,
    pub(crate) log: Arc<LogDb>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) replication: Arc<Replication>,
    pub(crate) trust: Trust,
    pub(crate) verifier: Arc<dyn SignatureVerifier>,
    /// How far the state is applied.
    pub(crate) applied: Applied,
    /// Tells the index of the last applied entry; closes when this is dropped.
    pub(crate) told: watch::Sender<Option<u64>>,
}

type Responder = Option<ApplyResponder<TypeConfig>>;

impl StateMachine {
    /// Applies a run of entries and commits them together.
    fn apply_run(&mut self, run: Vec<(Entry, Responder)>) -> Result<(), Fault> {
        let mut applied = self.applied.clone();
        let mut overlay = Noting { inner: self.state.begin(), touched: Touched::default() };
        let mut answers = Vec::with_capacity(run.len());
        let mut created_at = None;
        for (entry, responder) in run {
            let is_new = Some(entry.log_id.index) > applied.last_log_id.map(|id| id.index);
            overlay.touched.versions = false;
            let outcomes = if is_new {
                apply_one(&mut overlay, &mut applied, entry, &self.trust, &*self.verifier)?
            } else {
                Vec::new()
            };
            if overlay.touched.versions {
                created_at = applied.last_log_id.map(|id| id.index);
            }
            // Also an answer that repeats what an earlier entry did: that one may not be marked yet.
            let is_key =
                |outcome: &Outcome| matches!(outcome, Outcome::Applied(outcome::Applied::Key(_)));
            let needs_marker = outcomes.iter().any(is_key);
            let outcomes = Outcomes { outcomes, needs_marker };
            answers.extend(responder.map(|responder| (responder, outcomes)));
        }
        if let Some(last) = applied.last_log_id.filter(|_| applied != self.applied) {
            let Noting { inner, touched } = overlay;
            self.state.commit(inner, &Marker { index: last.index, meta: applied.encode() })?;
            if touched.roster {
                self.state.view(|state| self.roster.refresh(state))?;
            }
            if touched.cluster {
                self.state.view(|state| self.replication.refresh(state, Some(last.index)))?;
            }
            if let Some(index) = created_at {
                self.replication.await_marker(index);
            }
            // After the commit, before anybody is told: kept copies rest on this order.
            self.changes.note(&touched.rows);
            self.applied = applied;
            self.told.send_replace(Some(last.index));
        }
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        Ok(())
    }
}

/// Applies one entry, and notes in `applied` how far the state has come with it.
pub(crate) fn apply_one(
    state: &mut impl Write,
    applied: &mut Applied,
    entry: Entry,
    trust: &Trust,
    verifier: &dyn SignatureVerifier,
) -> Result<Vec<Outcome>, Fault> {
    let log_id = entry.log_id;
    applied.last_log_id = Some(log_id);
    match entry.payload {
        Payload::Blank => Ok(Vec::new()),
        Payload::Normal(batch) => apply_entry(state, log_id.index, &batch.0, trust, verifier),
        Payload::Membership(members) => {
            applied.membership = StoredMembership::new(Some(log_id), members);
            Ok(Vec::new())
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.last_log_id, self.applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        loop {
            let mut run = Vec::with_capacity(RUN_MAX);
            while run.len() < RUN_MAX
                && let Some(entry) = entries.next().await
            {
                run.push(entry?);
            }
            let Some((last, _)) = run.last() else { return Ok(()) };
            let last = last.log_id.index;
            blocking(|| {
                self.log.wait_synced(last).map_err(io::Error::other)?;
                self.apply_run(run).map_err(io::Error::other)
            })?;
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if force {
            return Some(Builder(Arc::clone(&self.snapshots), Source::Now));
        }
        match blocking(|| self.snapshots.newest()) {
            Ok(newest) => newest.map(|d| Builder(Arc::clone(&self.snapshots), Source::Stored(d))),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "no snapshot can be read");
                None
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(Arc::clone(&self.snapshots), Source::Now)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let applied =
            Applied { last_log_id: meta.last_log_id, membership: meta.last_membership.clone() };
        blocking(|| {
            // Were the process to end after the state changed and before the log is purged, the
            // state would be ahead of the log, which is otherwise damage.
            if let Some(last) = applied.last_log_id {
                self.log.expect_snapshot(last.index).map_err(io::Error::other)?;
            }
            self.snapshots.install(&snapshot).map_err(io::Error::other)?;
            self.changes.note_all();
            let refreshed = self.state.view(|state| {
                self.roster.refresh(state)?;
                self.replication.refresh(state, applied.last_log_id.map(|id| id.index))
            });
            refreshed.map_err(io::Error::other)
        })?;
        self.applied = applied;
        let index = self.applied.last_log_id.map(|id| id.index);
        self.told.send_replace(index);
        tracing::info!(index, "a snapshot was installed");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let newest = blocking(|| self.snapshots.newest()).map_err(io::Error::other)?;
        Ok(newest.map(SnapshotData::into_snapshot))
    }
}

/// Hands openraft a snapshot: the newest stored one, or one that is built now.
///
/// Snapshots are made or fetched by the snapshot keeper, which then says so; only a state that
/// has none at all is built from here.
pub struct Builder(Arc<Snapshots>, Source);

enum Source {
    /// A stored snapshot.
    Stored(SnapshotData),
    /// The state as it stands, signed by this node; the newest stored one where it cannot sign.
    Now,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let Self(snapshots, source) = self;
        let data = match source {
            Source::Stored(data) => Some(data.clone()),
            Source::Now => match blocking(|| snapshots.build()).map_err(io::Error::other)? {
                Some(built) => Some(built),
                None => blocking(|| snapshots.newest()).map_err(io::Error::other)?,
            },
        };
        let data = data.ok_or_else(|| io::Error::other("this node cannot sign a snapshot"))?;
        Ok(data.into_snapshot())
    }
}

/// A transaction that notes what it changes.
struct Noting<W> {
    inner: W,
    touched: Touched,
}

impl<W: Read> Read for Noting<W> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Rows, Fault> {
        self.inner.scan(table, prefix, from, limit)
    }
}

impl<W: Write> Write for Noting<W> {
    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.touched.touch(table, key);
        self.inner.put(table, key, value);
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.touched.touch(table, key);
        self.inner.delete(table, key);
    }
}
