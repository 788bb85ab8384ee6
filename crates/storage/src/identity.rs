//! Whose database this is: the stamp that keeps a folder from being used by another node.
//!
//! | offset | size | field                    |
//! |-------:|-----:|--------------------------|
//! | 0      | 16   | cluster id               |
//! | 16     | 8    | node id, big-endian      |

use twinkeep_core::id::{ClusterId, NodeId};

use crate::record::Damaged;

const STAMP_BYTES: usize = 24;

/// The cluster and the node that a database belongs to, for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node; its id is never given to a second disk.
    pub node: NodeId,
}

/// The folder belongs to somebody else. Nothing in it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is the data of node {} of cluster {}, not of node {} of cluster {}",
    .found.node, .found.cluster, .expected.node, .expected.cluster
)]
pub struct Foreign {
    /// Whose it is.
    pub found: Identity,
    /// Who asked.
    pub expected: Identity,
}

impl Identity {
    pub(crate) fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut stamp = [0; STAMP_BYTES];
        stamp[..16].copy_from_slice(self.cluster.as_bytes());
        stamp[16..].copy_from_slice(&self.node.get().to_be_bytes());
        stamp
    }

    pub(crate) fn decode(key: &[u8], stamp: &[u8]) -> Result<Self, Damaged> {
        let shape = || Damaged::Shape { what: "identity stamp", key: key.to_vec() };
        let (cluster, node) = stamp.split_first_chunk::<16>().ok_or_else(shape)?;
        let node: [u8; 8] = node.try_into().map_err(|_| shape())?;
        let node = NodeId::new(u64::from_be_bytes(node)).map_err(|_| shape())?;
        Ok(Self { cluster: ClusterId::from_bytes(*cluster), node })
    }

    /// Refuses a stamp that is not this one.
    pub(crate) fn expect(&self, found: Self) -> Result<(), Foreign> {
        if found == *self { Ok(()) } else { Err(Foreign { found, expected: *self }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(node: u64) -> Identity {
        Identity { cluster: ClusterId::from_bytes([7; 16]), node: NodeId::new(node).unwrap() }
    }

    #[test]
    fn stamp_comes_back() {
        assert_eq!(Identity::decode(b"", &identity(3).encode()), Ok(identity(3)));
    }

    #[test]
    fn stamp_of_wrong_length_or_node_zero_is_refused() {
        let stamp = identity(3).encode();
        Identity::decode(b"", &stamp[1..]).unwrap_err();
        Identity::decode(b"", &[&stamp[..], &[0]].concat()).unwrap_err();
        Identity::decode(b"", &[0; STAMP_BYTES]).unwrap_err();
    }

    #[test]
    fn refusal_names_both_sides() {
        let told = identity(3).expect(identity(4)).unwrap_err().to_string();
        let cluster = identity(3).cluster;
        assert_eq!(
            told,
            format!(
                "this is the data of node 4 of cluster {cluster}, not of node 3 of cluster {cluster}"
            )
        );
    }
}
