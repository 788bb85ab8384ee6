//! Who belongs to the cluster, as the signed commands that this node has applied say.
//!
//! TLS handshakes, peer messages and membership entries all ask here, so the answer is kept in
//! memory and replaced whenever an applied entry touched a node record. A node that has applied
//! nothing yet knows the *pinned* nodes alone: those that its join answer named over a channel it
//! trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use twinkeep_core::id::{Incarnation, NodeId};
use twinkeep_core::record::{NodeRecord, Record};
use twinkeep_core::state::{Fault, Read};
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_pki::PeerTrust;

use crate::types::Membership;

/// A node that is trusted before its record is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The node.
    pub node: NodeId,
    /// The incarnation that its certificate names.
    pub incarnation: Incarnation,
    /// SHA-256 of its certificate's public key (SPKI DER).
    pub spki_sha256: [u8; 32],
}

/// The nodes of the cluster.
#[derive(Debug)]
pub struct Roster {
    records: ArcSwap<BTreeMap<u64, NodeRecord>>,
    pins: Vec<Pin>,
    genesis: NodeId,
}

impl Roster {
    /// Makes a roster that knows `pins` alone; `genesis` is the node that the cluster began with.
    #[must_use]
    pub fn new(genesis: NodeId, pins: Vec<Pin>) -> Arc<Self> {
        Arc::new(Self { records: ArcSwap::default(), pins, genesis })
    }

    /// Reads all node records again.
    ///
    /// # Errors
    /// [`Fault`] when the store fails.
    pub fn refresh(&self, state: &(impl Read + ?Sized)) -> Result<(), Fault> {
        let records = NodeRecord::all(state)?;
        let records = records.into_iter().map(|record| (record.id.get(), record)).collect();
        self.records.store(Arc::new(records));
        Ok(())
    }

    /// Returns all records, removed nodes included.
    #[must_use]
    pub fn records(&self) -> Arc<BTreeMap<u64, NodeRecord>> {
        self.records.load_full()
    }

    /// Returns the record of a node that is not removed.
    #[must_use]
    pub fn living(&self, node: u64) -> Option<NodeRecord> {
        self.records.load().get(&node).filter(|r| r.standing != Standing::Removed).cloned()
    }

    /// Tells whether a node was removed.
    #[must_use]
    pub fn is_removed(&self, node: u64) -> bool {
        self.records.load().get(&node).is_some_and(|r| r.standing == Standing::Removed)
    }

    /// Tells whether messages of a node count: it is recorded and not removed, or pinned and not
    /// recorded here yet.
    #[must_use]
    pub fn knows(&self, node: u64) -> bool {
        match self.records.load().get(&node) {
            Some(record) => record.standing != Standing::Removed,
            None => self.pins.iter().any(|pin| pin.node.get() == node),
        }
    }

    /// Tells whether a node is recorded as a living data node.
    #[must_use]
    pub fn is_data(&self, node: u64) -> bool {
        self.living(node).is_some_and(|record| record.role == NodeRole::Data)
    }

    /// Returns the first node of a membership that no signed command has recorded, or that was
    /// removed; nodes of the `present` memberships may stay until a change takes them out.
    ///
    /// The membership that a cluster begins with (`index` 0) is written before any command can be:
    /// it may name the genesis node, and no other.
    #[must_use]
    pub fn unrecorded(
        &self,
        index: u64,
        members: &Membership,
        present: &[Membership],
    ) -> Option<u64> {
        let records = self.records.load();
        let known = |node: u64| match records.get(&node) {
            Some(record) if record.standing != Standing::Removed => true,
            None if index == 0 => node == self.genesis.get(),
            _ => present.iter().any(|members| members.get_node(&node).is_some()),
        };
        members.nodes().map(|(node, _)| *node).find(|node| !known(*node))
    }
}

impl PeerTrust for Roster {
    fn trusts(&self, node: NodeId, incarnation: Incarnation, spki_sha256: &[u8; 32]) -> bool {
        match self.records.load().get(&node.get()) {
            Some(record) => {
                record.standing != Standing::Removed
                    && record.incarnation == incarnation
                    && record.spki_sha256 == *spki_sha256
            }
            None => {
                let pin = Pin { node, incarnation, spki_sha256: *spki_sha256 };
                self.pins.contains(&pin)
            }
        }
    }
}

#[cfg(test)]
mod tests;
