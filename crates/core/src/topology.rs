//! Where nodes stand: zones, address ranges, and which memberships are sound.
//!
//! A wrong placement costs nothing until a zone dies, and then everything. So it is refused when the
//! node joins, by [`Placement::check`], [`check_join`] and [`check_voters`], each error naming what
//! is wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::key::closed_set;
use crate::name::{VpcName, VswitchName, ZoneName};
use crate::record::NodeRecord;

closed_set! {
    /// What a node does in the cluster.
    NodeRole, "node role", {
        /// Holds the root key when unsealed, serves callers and signs commands.
        Data = 1, "data";
        /// Votes and keeps the log; never unseals, never serves.
        Witness = 2, "witness";
    }
}

closed_set! {
    /// How a node counts.
    Standing, "standing", {
        /// Follows the log and, if it is a data node, serves; counts in no quorum.
        Learner = 1, "learner";
        /// Counts in every quorum.
        Voter = 2, "voter";
        /// Was taken out; its id is never given again.
        Removed = 3, "removed";
    }
}

/// Where a node stands and is reached.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Placement {
    /// The zone, which is lost as a whole.
    #[n(0)]
    pub zone: ZoneName,
    /// The VPC that all nodes of a cluster share.
    #[n(1)]
    pub vpc: VpcName,
    /// The vSwitch, an address range of the zone.
    #[n(2)]
    pub vswitch: VswitchName,
    /// The vSwitch's address range.
    #[cbor(n(3), with = "text")]
    pub cidr: IpNet,
    /// Where callers reach the node.
    #[cbor(n(4), with = "text")]
    pub client_address: SocketAddr,
    /// Where other nodes reach the node.
    #[cbor(n(5), with = "text")]
    pub peer_address: SocketAddr,
}

/// Why a node may not stand where it wants to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, minicbor::Encode, minicbor::Decode)]
pub enum Misplaced {
    /// An address lies outside the node's vSwitch.
    #[error(
        "the {which} address {address} is not in the CIDR {cidr} of vSwitch {vswitch}: give an address inside it or name the vSwitch that it belongs to"
    )]
    #[n(1)]
    OutsideCidr {
        /// `client` or `peer`.
        #[n(0)]
        which: String,
        /// The address.
        #[cbor(n(1), with = "text")]
        address: IpAddr,
        /// The range.
        #[cbor(n(2), with = "text")]
        cidr: IpNet,
        /// The range's name.
        #[n(3)]
        vswitch: VswitchName,
    },
    /// The cluster knows the vSwitch otherwise.
    #[error("vSwitch {vswitch} is recorded as {recorded}, but the node says {said}")]
    #[n(2)]
    VswitchDiffers {
        /// The vSwitch.
        #[n(0)]
        vswitch: VswitchName,
        /// Zone, VPC and CIDR as recorded.
        #[n(1)]
        recorded: String,
        /// Zone, VPC and CIDR as the node says.
        #[n(2)]
        said: String,
    },
    /// Two vSwitches share addresses.
    #[error("the CIDR {cidr} of vSwitch {vswitch} overlaps {other_cidr} of vSwitch {other}")]
    #[n(3)]
    CidrOverlaps {
        /// The new vSwitch.
        #[n(0)]
        vswitch: VswitchName,
        /// Its range.
        #[cbor(n(1), with = "text")]
        cidr: IpNet,
        /// The recorded one.
        #[n(2)]
        other: VswitchName,
        /// Its range.
        #[cbor(n(3), with = "text")]
        other_cidr: IpNet,
    },
    /// The node names another VPC than the cluster's.
    #[error("the cluster lives in VPC {cluster}, but the node says {said}")]
    #[n(4)]
    OtherVpc {
        /// The cluster's VPC.
        #[n(0)]
        cluster: VpcName,
        /// The node's.
        #[n(1)]
        said: VpcName,
    },
    /// The witness must not be lost together with data.
    #[error("zone {zone} would hold the witness and data nodes: the witness needs a third place")]
    #[n(5)]
    WitnessSharesZone {
        /// The zone.
        #[n(0)]
        zone: ZoneName,
    },
    /// Data nodes live in two zones.
    #[error(
        "zone {zone} would be a third zone with data; a cluster has two, and a witness elsewhere"
    )]
    #[n(6)]
    ThirdDataZone {
        /// The zone.
        #[n(0)]
        zone: ZoneName,
    },
    /// Another node listens there.
    #[error("address {address} belongs to node {node}")]
    #[n(7)]
    AddressTaken {
        /// The address.
        #[cbor(n(0), with = "text")]
        address: SocketAddr,
        /// The node that has it.
        #[n(1)]
        node: crate::id::NodeId,
    },
    /// Losing one zone would lose the majority.
    #[error(
        "zone {zone} would hold {voters} of {all} voters, a majority: losing it would stop all writes; add voters elsewhere or name it the preferred zone"
    )]
    #[n(8)]
    MajorityInZone {
        /// The zone.
        #[n(0)]
        zone: ZoneName,
        /// Voters in it.
        #[n(1)]
        voters: u32,
        /// Voters in all.
        #[n(2)]
        all: u32,
    },
}

impl Placement {
    /// Checks that both addresses lie in the vSwitch's range.
    ///
    /// # Errors
    /// [`Misplaced::OutsideCidr`] for the first that does not.
    pub fn check(&self) -> Result<(), Misplaced> {
        for (which, address) in
            [("client", self.client_address.ip()), ("peer", self.peer_address.ip())]
        {
            if !self.cidr.contains(&address) {
                return Err(Misplaced::OutsideCidr {
                    which: which.to_owned(),
                    address,
                    cidr: self.cidr,
                    vswitch: self.vswitch.clone(),
                });
            }
        }
        Ok(())
    }

    fn vswitch_facts(&self) -> String {
        format!("zone {}, VPC {}, CIDR {}", self.zone, self.vpc, self.cidr)
    }
}

/// Checks that a node may stand beside those that are recorded.
///
/// # Errors
/// The first rule that its placement breaks.
pub fn check_join(
    recorded: &[NodeRecord],
    role: NodeRole,
    new: &Placement,
) -> Result<(), Misplaced> {
    new.check()?;
    let living = || recorded.iter().filter(|node| node.standing != Standing::Removed);
    for node in living() {
        check_beside(node, role, new)?;
    }
    let mut zones: Vec<_> = living()
        .filter(|node| node.role == NodeRole::Data)
        .map(|node| &node.placement.zone)
        .collect();
    zones.sort_unstable();
    zones.dedup();
    if role == NodeRole::Data && zones.len() >= 2 && !zones.contains(&&new.zone) {
        return Err(Misplaced::ThirdDataZone { zone: new.zone.clone() });
    }
    Ok(())
}

fn check_beside(node: &NodeRecord, role: NodeRole, new: &Placement) -> Result<(), Misplaced> {
    let old = &node.placement;
    if old.vpc != new.vpc {
        return Err(Misplaced::OtherVpc { cluster: old.vpc.clone(), said: new.vpc.clone() });
    }
    if old.vswitch == new.vswitch && old.vswitch_facts() != new.vswitch_facts() {
        return Err(Misplaced::VswitchDiffers {
            vswitch: new.vswitch.clone(),
            recorded: old.vswitch_facts(),
            said: new.vswitch_facts(),
        });
    }
    let overlap = old.cidr.contains(&new.cidr) || new.cidr.contains(&old.cidr);
    if old.vswitch != new.vswitch && overlap {
        return Err(Misplaced::CidrOverlaps {
            vswitch: new.vswitch.clone(),
            cidr: new.cidr,
            other: old.vswitch.clone(),
            other_cidr: old.cidr,
        });
    }
    if old.zone == new.zone && node.role != role {
        return Err(Misplaced::WitnessSharesZone { zone: new.zone.clone() });
    }
    for address in [new.client_address, new.peer_address] {
        if [old.client_address, old.peer_address].contains(&address) {
            return Err(Misplaced::AddressTaken { address, node: node.id });
        }
    }
    Ok(())
}

/// Checks that no zone holds a majority of the voters, unless it is the preferred one.
///
/// A single voter is the forming cluster: it passes, and the next membership has to be sound.
///
/// # Errors
/// [`Misplaced::MajorityInZone`].
pub fn check_voters<'a>(
    voters: impl IntoIterator<Item = &'a NodeRecord>,
    preferred: Option<&ZoneName>,
) -> Result<(), Misplaced> {
    let mut zones: BTreeMap<&ZoneName, u32> = BTreeMap::new();
    for voter in voters {
        *zones.entry(&voter.placement.zone).or_default() += 1;
    }
    let all = zones.values().sum::<u32>();
    let majority = zones.into_iter().find(|(_, count)| *count * 2 > all);
    match majority {
        Some((zone, voters)) if all > 1 && preferred != Some(zone) => {
            Err(Misplaced::MajorityInZone { zone: zone.clone(), voters, all })
        }
        _ => Ok(()),
    }
}

/// Stores addresses and ranges as their text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{Encoder, Write};

    pub(super) fn encode<T: Display, C, W: Write>(
        value: &T,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&value.to_string())?.ok()
    }

    pub(super) fn decode<T: FromStr, C>(d: &mut Decoder<'_>, _: &mut C) -> Result<T, Error>
    where
        T::Err: Display,
    {
        d.str()?.parse().map_err(Error::message)
    }
}
