//! What this node has applied of the replication mode and of the marker that key versions wait for.
//!
//! Kept in memory beside the state, since every use of a key asks for the marker. It is replaced after the
//! commit that moved it and before anybody is told of that commit, so it is never ahead of the state and
//! never behind what an answer said.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use twinkeep_core::freshness::LEASE_DEFAULT;
use twinkeep_core::id::Revision;
use twinkeep_core::leadership::Leadership;
use twinkeep_core::record::{ClusterRecord, ClusterVersion, Record, ReplicationRecord};
use twinkeep_core::replication::{Mode, usable_up_to};
use twinkeep_core::state::{Fault, Read};

use crate::lease::millis;

/// The replication mode and the marker, as applied here.
#[derive(Debug)]
pub struct Replication {
    usable_up_to: AtomicU64,
    freshness_lease_ms: AtomicU64,
    applied: watch::Sender<Applied>,
    /// The last entry that waits for its marker, as far as this node knows.
    unmarked: watch::Sender<u64>,
}

/// The replication mode and the marker at one point of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whether the cluster is at a version that has mode and marker.
    pub has_modes: bool,
    /// Whether nodes take part only after their boot handshake.
    pub has_handshake: bool,
    /// Whether a node that starts needs company.
    pub needs_company: bool,
    /// What is promised of acknowledged changes.
    pub mode: Mode,
    /// Counts changes of the mode; `None` before the first.
    pub revision: Option<Revision>,
    /// Since when the mode holds, by the replicated clock, milliseconds since the Unix epoch; 0 before the
    /// first change.
    pub since_ms: u64,
    /// The log entry that changed the mode; 0 before the first change.
    pub mode_index: u64,
    /// The last entry that the marker covers.
    pub usable_up_to: u64,
    /// How long a node's state counts as fresh.
    pub freshness_lease: Duration,
    /// Which zone shall lead, and which shall not.
    pub leadership: Leadership,
    /// The entry that this was read after: a node that has applied it knows as much.
    pub as_of: u64,
}

impl Default for Replication {
    /// Knows of no cluster yet: nothing may be used.
    fn default() -> Self {
        let applied = Applied {
            has_modes: false,
            has_handshake: false,
            needs_company: false,
            mode: Mode::Sync,
            revision: None,
            since_ms: 0,
            mode_index: 0,
            usable_up_to: 0,
            freshness_lease: LEASE_DEFAULT,
            leadership: Leadership::default(),
            as_of: 0,
        };
        Self {
            usable_up_to: AtomicU64::new(0),
            freshness_lease_ms: AtomicU64::new(millis(LEASE_DEFAULT)),
            applied: watch::Sender::new(applied),
            unmarked: watch::Sender::new(0),
        }
    }
}

impl Replication {
    /// Reads mode and marker again, from a state that has applied entries up to `as_of`.
    ///
    /// # Errors
    /// [`Fault`] when the store fails.
    pub(crate) fn refresh(
        &self,
        state: &(impl Read + ?Sized),
        as_of: Option<u64>,
    ) -> Result<(), Fault> {
        let cluster = ClusterRecord::load(state, &())?;
        let is_at_least =
            |version| cluster.as_ref().is_some_and(|cluster| cluster.version >= version);
        let record = ReplicationRecord::load(state, &())?;
        let (revision, since_ms, mode_index) = match &record {
            Some(record) => (Some(record.revision), record.since_ms, record.index),
            None => (None, 0, 0),
        };
        let applied = Applied {
            has_modes: is_at_least(ClusterVersion::ZONE_GUARANTEES),
            has_handshake: is_at_least(ClusterVersion::BOOT_HANDSHAKE),
            needs_company: is_at_least(ClusterVersion::RECOVERY),
            freshness_lease: {
                let cluster = cluster.as_ref();
                cluster.map_or(LEASE_DEFAULT, ClusterRecord::freshness_lease)
            },
            mode: record.map_or(Mode::Sync, |record| record.mode),
            revision,
            since_ms,
            mode_index,
            usable_up_to: match cfg!(twinkeep_break = "marker") {
                true => u64::MAX,
                false => usable_up_to(state)?,
            },
            leadership: Leadership::read(state)?.0,
            as_of: as_of.unwrap_or(0),
        };
        self.usable_up_to.store(applied.usable_up_to, Ordering::Release);
        self.freshness_lease_ms.store(millis(applied.freshness_lease), Ordering::Release);
        self.applied.send_if_modified(|shown| {
            let changed = *shown != applied;
            *shown = applied;
            changed
        });
        Ok(())
    }

    /// Notes that an entry created key versions, or may have: it waits for its marker, whether or not anybody
    /// waits for the entry.
    pub(crate) fn await_marker(&self, index: u64) {
        self.unmarked.send_if_modified(|last| {
            let moved = *last < index;
            *last = index.max(*last);
            moved
        });
    }

    /// Watches the last entry that waits for its marker.
    pub(crate) fn unmarked(&self) -> watch::Receiver<u64> {
        self.unmarked.subscribe()
    }

    /// Returns the index up to which created key versions may be used.
    #[must_use]
    pub fn usable_up_to(&self) -> u64 {
        self.usable_up_to.load(Ordering::Acquire)
    }

    /// Returns how long a node's state counts as fresh.
    #[must_use]
    pub fn freshness_lease(&self) -> Duration {
        Duration::from_millis(self.freshness_lease_ms.load(Ordering::Acquire))
    }

    /// Watches mode and marker.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }
}
