//! Which zone shall lead, and which shall not.
//!
//! Both are wishes about the leader, never about quorums: every voter votes and every data node serves as
//! ever. A zone is *preferred* so that changes are made near those who make them, and *drained* before its
//! machines are worked on, so that stopping them costs no election. Leaders follow the record by themselves.

use crate::id::Revision;
use crate::name::ZoneName;
use crate::record::{ClusterRecord, LeadershipRecord, NodeRecord, Record as _};
use crate::state::{Fault, Read};
use crate::topology::{NodeRole, Standing};

/// Which zone shall lead, and which shall not.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Leadership {
    /// The zone that the leader is to stand in while the zone is healthy.
    #[n(0)]
    pub preferred: Option<ZoneName>,
    /// The zone whose nodes are not to lead as long as others can.
    #[n(1)]
    pub drained: Option<ZoneName>,
}

impl Leadership {
    /// Reads what is wished, and the revision to change it at; `None` before the first change.
    ///
    /// A cluster that named a preferred zone when it began keeps its leader there until it is told otherwise.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or a record is damaged.
    pub fn read(state: &(impl Read + ?Sized)) -> Result<(Self, Option<Revision>), Fault> {
        if let Some(record) = LeadershipRecord::load(state, &())? {
            return Ok((record.leadership, Some(record.revision)));
        }
        let preferred = ClusterRecord::load(state, &())?.and_then(|cluster| cluster.preferred_zone);
        Ok((Self { preferred, drained: None }, None))
    }

    /// Tells whether the zone is drained.
    #[must_use]
    pub fn is_drained(&self, zone: &ZoneName) -> bool {
        self.drained.as_ref() == Some(zone)
    }

    /// Returns the zone that the lead goes back to: the preferred one, unless it is drained.
    #[must_use]
    pub fn home(&self) -> Option<&ZoneName> {
        self.preferred.as_ref().filter(|zone| !self.is_drained(zone))
    }
}

/// The voters that are left when a zone is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Without {
    /// Voters in all.
    pub voters: usize,
    /// Voters outside the zone.
    pub left: usize,
    /// Data nodes with a vote outside the zone.
    pub data_left: usize,
}

impl Without {
    /// Counts the voters with and without a zone.
    pub fn zone<'a>(nodes: impl IntoIterator<Item = &'a NodeRecord>, zone: &ZoneName) -> Self {
        let mut without = Self { voters: 0, left: 0, data_left: 0 };
        for node in nodes.into_iter().filter(|node| node.standing == Standing::Voter) {
            without.voters += 1;
            if node.placement.zone != *zone {
                without.left += 1;
                without.data_left += usize::from(node.role == NodeRole::Data);
            }
        }
        without
    }

    /// Returns how many of those that are left may be lost before changes stop; `None` when they stop with the
    /// zone.
    #[must_use]
    pub fn slack(&self) -> Option<usize> {
        self.left.checked_sub(self.voters / 2 + 1)
    }
}
