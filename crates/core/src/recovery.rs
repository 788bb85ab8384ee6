//! Forced recovery: beginning a new life of a cluster that has lost its quorum for good.
//!
//! What is left of the voters cannot decide anything by itself, so people do. They write down which nodes go on
//! and which are **powered off for good**, operators sign those exact bytes, and the state of the survivor with
//! the newest log is rewritten offline: the next incarnation, fresh node ids, every former node removed. There is no
//! command for it: no log entry of a living cluster can end that cluster.
//!
//! What an operator signs. Integers are big-endian.
//!
//! | offset | size   | field                                                                |
//! |-------:|-------:|----------------------------------------------------------------------|
//! | 0      | 21     | label `twinkeep-approval-v1`, 0x00                                   |
//! | 21     | 1      | what is approved: 0x02 recovery                                      |
//! | 22     | 16     | cluster id                                                           |
//! | 38     | 8      | the incarnation that ends                                            |
//! | 46     | 24     | last entry that is kept: term, leader, index                         |
//! | 70     | 8      | up to when nothing acknowledged is missing, milliseconds since 1970; 0 if that is not known |
//! | 78     | 8      | until when the order holds, milliseconds since 1970                  |
//! | 86     | 1      | n, how many nodes go on; the first one is the one with the newest log |
//! | 87     | 48 · n | of each: its former id, its new id, SHA-256 of its public key (SPKI DER) |
//! |        | 1      | m, how many nodes are lost                                           |
//! |        | 8 · m  | their ids                                                            |
//!
//! Golden bytes are in `tests/golden/`.

use std::collections::BTreeSet;

use crate::admission::{Approval, check_approvals};
use crate::apply::{NODE_ID_ROW, following, given_node_id, now_ms};
use crate::clock::UnixMs;
use crate::command::{Purpose, SignatureVerifier};
use crate::id::{ClusterId, Incarnation, NodeId, Revision};
use crate::leadership::Leadership;
use crate::outcome::Refusal;
use crate::record::{
    Admission, ClusterRecord, LeadershipRecord, NodeRecord, Record, RecoveryRecord,
    ReplicationRecord,
};
use crate::replication::{Mode, set_usable_up_to};
use crate::state::{Fault, Table, Write};
use crate::topology::{NodeRole, Standing};

/// The kind of an order that recovers a cluster.
const KIND_RECOVERY: u8 = 2;

/// The place of an entry in the log of the incarnation that ends. Ordered as logs are: by leader, then by index.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
pub struct LastEntry {
    /// Term of the leader that made the entry.
    #[n(0)]
    pub term: u64,
    /// That leader.
    #[n(1)]
    pub leader: u64,
    /// Counts entries from 0.
    #[n(2)]
    pub index: u64,
}

/// A node that goes on.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Survivor {
    /// The id that it had.
    #[n(0)]
    pub former: NodeId,
    /// The id that it gets.
    #[n(1)]
    pub node: NodeId,
    /// SHA-256 of its public key (SPKI DER), which it keeps.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub spki_sha256: [u8; 32],
}

/// What operators sign: which nodes begin the next life of a cluster, with which log, and which are lost.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct RecoveryOrder {
    /// The cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// The life that ends.
    #[n(1)]
    pub ends: Incarnation,
    /// The last entry in the log of the first survivor: what is kept ends there.
    #[n(2)]
    pub last: LastEntry,
    /// Up to when every acknowledged change is kept; 0 where nothing can be said.
    #[n(3)]
    pub complete_until_ms: UnixMs,
    /// When the order lapses.
    #[n(4)]
    pub expires_ms: UnixMs,
    /// Who goes on; the first one brings the state.
    #[n(5)]
    pub survivors: Vec<Survivor>,
    /// Who is powered off for good.
    #[n(6)]
    pub lost: Vec<NodeId>,
}

/// Why an order does not recover a cluster. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The order is for another cluster or another life of it.
    #[error(
        "the order ends incarnation {ends} of {cluster}, and this is incarnation {found} of {own}"
    )]
    OtherLife {
        /// The order's cluster.
        cluster: ClusterId,
        /// The life that it ends.
        ends: Incarnation,
        /// The cluster of the state.
        own: ClusterId,
        /// The life of the state.
        found: Incarnation,
    },
    /// The order has lapsed, or was written for longer than orders may hold.
    #[error(
        "the order holds until {expires_ms} and it is {now_ms} (milliseconds since 1970; at most {} ahead): plan again",
        RecoveryOrder::LIFE_MAX_MS
    )]
    Lapsed {
        /// When it lapses.
        expires_ms: UnixMs,
        /// The time now.
        now_ms: UnixMs,
    },
    /// Not enough operators have signed exactly this, or somebody else has.
    #[error(transparent)]
    Approvals(#[from] Refusal),
    /// Nobody goes on.
    #[error("the order names no survivor")]
    NoSurvivor,
    /// More nodes go on, or are lost, than a cluster can have.
    #[error("the order names more than {} nodes", RecoveryOrder::NODES_MAX)]
    TooManyNodes,
    /// A node is named twice, or as lost and as a survivor.
    #[error("the order names node {0} twice")]
    NamedTwice(NodeId),
    /// A node of the cluster is in neither list.
    #[error("the order says nothing of node {0}: every node has to be lost or go on; plan again")]
    NotNamed(NodeId),
    /// The order names a node that the cluster does not have.
    #[error("the order names node {0}, which the cluster does not have; plan again")]
    Unknown(NodeId),
    /// A survivor is no data node, or has another key.
    #[error("node {0} cannot go on: it is no data node with the key that the order names")]
    NotFit(NodeId),
    /// A new id was given before.
    #[error("node id {0} was given before: plan again")]
    IdTaken(NodeId),
}

impl RecoveryOrder {
    /// Longest life of an order, in milliseconds: a day.
    pub const LIFE_MAX_MS: u64 = 24 * 3600 * 1000;

    /// Most nodes that go on, and most that are lost.
    pub const NODES_MAX: usize = 255;

    /// Returns the life that begins.
    #[must_use]
    pub fn begins(&self) -> Option<Incarnation> {
        self.ends.next()
    }

    /// Returns the exact bytes that are signed.
    ///
    /// # Panics
    /// When more than 255 nodes go on or are lost; [`Self::check_signed`] and the order's file refuse them before.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let count = |len: usize| u8::try_from(len).expect("a cluster has at most 255 nodes");
        let mut out = Vec::with_capacity(88 + 48 * self.survivors.len() + 8 * self.lost.len());
        out.extend_from_slice(Purpose::Approval.label().as_bytes());
        out.push(0);
        out.push(KIND_RECOVERY);
        out.extend_from_slice(self.cluster.as_bytes());
        let LastEntry { term, leader, index } = self.last;
        let numbers =
            [self.ends.get(), term, leader, index, self.complete_until_ms, self.expires_ms];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        out.push(count(self.survivors.len()));
        for Survivor { former, node, spki_sha256 } in &self.survivors {
            out.extend_from_slice(&former.get().to_be_bytes());
            out.extend_from_slice(&node.get().to_be_bytes());
            out.extend_from_slice(spki_sha256);
        }
        out.push(count(self.lost.len()));
        self.lost.iter().for_each(|node| out.extend_from_slice(&node.get().to_be_bytes()));
        out
    }

    /// Checks that enough of the cluster's operators have signed exactly this order for this cluster and life.
    /// Says nothing of its nodes and of the time: a node that is told that it is lost believes it at any time.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn check_signed(
        &self,
        approvals: &[Approval],
        cluster: &ClusterRecord,
        verifier: &dyn SignatureVerifier,
    ) -> Result<(), Unfit> {
        if (self.cluster, self.ends) != (cluster.id, cluster.incarnation) {
            let (ends, found) = (self.ends, cluster.incarnation);
            return Err(Unfit::OtherLife { cluster: self.cluster, ends, own: cluster.id, found });
        }
        self.check_names()?;
        Ok(check_approvals(&self.message(), approvals, cluster, verifier)?)
    }

    /// Refuses an order without survivors or with a node that is named twice, by its former or its new id.
    fn check_names(&self) -> Result<(), Unfit> {
        if self.survivors.len().max(self.lost.len()) > Self::NODES_MAX {
            return Err(Unfit::TooManyNodes);
        }
        let former = self.survivors.iter().map(|survivor| survivor.former);
        let new = self.survivors.iter().map(|survivor| survivor.node);
        let mut seen = BTreeSet::new();
        for node in former.chain(self.lost.iter().copied()).chain(new) {
            if !seen.insert(node) {
                return Err(Unfit::NamedTwice(node));
            }
        }
        if self.survivors.is_empty() { Err(Unfit::NoSurvivor) } else { Ok(()) }
    }

    fn check_life(&self, now_ms: UnixMs) -> Result<(), Unfit> {
        let expires_ms = self.expires_ms;
        let holds = (now_ms..=now_ms.saturating_add(Self::LIFE_MAX_MS)).contains(&expires_ms);
        if holds { Ok(()) } else { Err(Unfit::Lapsed { expires_ms, now_ms }) }
    }

    /// Checks that the order names every node of the cluster as it is; returns the records of those that go on,
    /// in the order's order.
    fn check_nodes(
        &self,
        nodes: &[NodeRecord],
        given: Option<NodeId>,
    ) -> Result<Vec<NodeRecord>, Unfit> {
        let living = || nodes.iter().filter(|node| node.standing != Standing::Removed);
        let goes_on = |id: NodeId| self.survivors.iter().any(|survivor| survivor.former == id);
        if let Some(node) = living().find(|n| !goes_on(n.id) && !self.lost.contains(&n.id)) {
            return Err(Unfit::NotNamed(node.id));
        }
        let is_living = |id: &NodeId| living().any(|node| node.id == *id);
        if let Some(unknown) = self.lost.iter().find(|id| !is_living(id)) {
            return Err(Unfit::Unknown(*unknown));
        }
        let highest = nodes.iter().map(|node| node.id).max().max(given);
        let mut records = Vec::with_capacity(self.survivors.len());
        for Survivor { former, node, spki_sha256 } in &self.survivors {
            let record = living().find(|record| record.id == *former);
            let record = record.ok_or(Unfit::Unknown(*former))?;
            if record.role != NodeRole::Data || record.spki_sha256 != *spki_sha256 {
                return Err(Unfit::NotFit(*former));
            }
            if Some(*node) <= highest {
                return Err(Unfit::IdTaken(*node));
            }
            records.push(record.clone());
        }
        Ok(records)
    }
}

/// Rewrites a state into the first one of the next life: the first survivor is its only node and its only voter, the
/// other survivors are admitted, all former nodes are removed, and every key version may be used.
///
/// `index` is the entry that the state will say it holds, one beyond the last. `now_ms` is the clock of the
/// machine where this is done. Offline only: never call it on the state of a node that runs.
///
/// # Errors
/// [`Fault`] when the store fails; inside, [`Unfit`] when the order is not fit. Nothing was written then.
pub fn recover(
    state: &mut impl Write,
    order: &RecoveryOrder,
    approvals: &[Approval],
    index: u64,
    now_ms: UnixMs,
    verifier: &dyn SignatureVerifier,
) -> Result<Result<NodeRecord, Unfit>, Fault> {
    let Some(cluster) = ClusterRecord::load(state, &())? else {
        return Err(Fault::new("the cluster has not begun"));
    };
    let Some(begins) = order.begins() else {
        return Err(Fault::new("a cluster has been recovered 2^64 times"));
    };
    let nodes = NodeRecord::all(state)?;
    let given = given_node_id(state)?;
    let checked = order
        .check_life(now_ms)
        .and_then(|()| order.check_signed(approvals, &cluster, verifier))
        .and_then(|()| order.check_nodes(&nodes, given));
    let survivors = match checked {
        Ok(survivors) => survivors,
        Err(unfit) => return Ok(Err(unfit)),
    };
    let zone = survivors[0].placement.zone.clone();
    let lends_majority = cluster.preferred_zone.is_none()
        && survivors.iter().all(|survivor| survivor.placement.zone == zone);
    remove(state, nodes)?;
    let first = admit(state, order, &survivors, begins)?;
    let preferred_zone = if lends_majority { Some(zone) } else { cluster.preferred_zone };
    let revision = following(cluster.revision)?;
    ClusterRecord { incarnation: begins, preferred_zone, revision, ..cluster }.store(state);
    reset_zones(state, index)?;
    let approvals = approvals.to_vec();
    RecoveryRecord { begins, order: order.clone(), approvals, lends_majority }.store(state);
    Ok(Ok(first))
}

/// Takes every node out, by the replicated clock as it stands: whoever waits for all nodes waits for their leases too.
fn remove(state: &mut impl Write, nodes: Vec<NodeRecord>) -> Result<(), Fault> {
    let now = now_ms(state)?;
    for node in nodes.into_iter().filter(|node| node.standing != Standing::Removed) {
        let revision = following(node.revision)?;
        let (standing, removed_ms) = (Standing::Removed, Some(now));
        NodeRecord { standing, removed_ms, revision, ..node }.store(state);
    }
    Ok(())
}

/// Records the first survivor as the only voter and admits the others for as long as the order holds. Admissions of
/// the former life lapse: passes for them name it.
fn admit(
    state: &mut impl Write,
    order: &RecoveryOrder,
    survivors: &[NodeRecord],
    begins: Incarnation,
) -> Result<NodeRecord, Fault> {
    for open in Admission::all(state)? {
        state.delete(Admission::TABLE, &open.own_row());
    }
    let mut recorded = survivors.iter().zip(&order.survivors);
    let (first, Survivor { node, .. }) = recorded.next().expect("checked: somebody goes on");
    let first = NodeRecord {
        id: *node,
        standing: Standing::Voter,
        incarnation: begins,
        revision: Revision::FIRST,
        removed_ms: None,
        ..first.clone()
    };
    first.store(state);
    for (record, Survivor { node, spki_sha256, .. }) in recorded {
        let (role, zone) = (record.role, record.placement.zone.clone());
        let (node, spki_sha256) = (*node, *spki_sha256);
        Admission { spki_sha256, node, role, zone, expires_ms: order.expires_ms }.store(state);
    }
    let last = order.survivors.iter().map(|survivor| survivor.node).max().unwrap_or(first.id);
    state.put(Table::Cluster, NODE_ID_ROW, last.get().to_be_bytes().to_vec());
    Ok(first)
}

/// Lets the cluster begin as one of one node does: in sync with itself, no zone preferred or drained, and with every key
/// usable, since it is as durable as it can be now.
fn reset_zones(state: &mut impl Write, index: u64) -> Result<(), Fault> {
    if let Some(record) = ReplicationRecord::load(state, &())? {
        let (since_ms, revision) = (now_ms(state)?, following(record.revision)?);
        ReplicationRecord { mode: Mode::Sync, since_ms, revision, index }.store(state);
    }
    if let Some(record) = LeadershipRecord::load(state, &())? {
        let (leadership, revision) = (Leadership::default(), following(record.revision)?);
        LeadershipRecord { leadership, revision, ..record }.store(state);
    }
    set_usable_up_to(state, index);
    Ok(())
}
