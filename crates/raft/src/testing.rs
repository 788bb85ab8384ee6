//! What the unit tests of several modules need.

use twinkeep_core::id::{Incarnation, NodeId, Revision};
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::{NodeRole, Placement, Standing};

/// A voting data node of `zone-a` at 127.0.1.<id>; tests change what they are about.
pub(crate) fn node_record(id: u64) -> NodeRecord {
    let address = format!("127.0.1.{id}:7401").parse().unwrap();
    NodeRecord {
        id: NodeId::new(id).unwrap(),
        role: NodeRole::Data,
        standing: Standing::Voter,
        placement: Placement {
            zone: "zone-a".parse().unwrap(),
            vpc: "vpc".parse().unwrap(),
            vswitch: "vsw-a".parse().unwrap(),
            cidr: "127.0.1.0/24".parse().unwrap(),
            client_address: address,
            peer_address: address,
        },
        spki_sha256: [0; 32],
        incarnation: Incarnation::FIRST,
        revision: Revision::FIRST,
    }
}
