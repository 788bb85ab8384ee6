//! How far an acknowledged write reaches.
//!
//! Raft commits an entry with any majority of the voters, which after the loss of one zone and the witness
//! may be gone. So the leader holds an answer back until the entry is on disk in both zones, for as long
//! as both answer: that is the replicated [`Mode`]. What an answer reached is its [`Durability`].
//!
//! A key needs more. Were it used before it is durable in both zones, the wrong loss would leave
//! ciphertexts without their key. So a key version may be used only once the replicated marker covers the
//! entry that created it: [`usable_up_to`]. The marker never goes back.

use crate::key::closed_set;
use crate::name::ZoneName;
use crate::record::{ClusterRecord, ClusterVersion, Record as _};
use crate::state::{Fault, Read, Table, Write};

closed_set! {
    /// What was reached before a change was acknowledged.
    Durability, "durability", {
        /// On disk in every data zone, and on two voters outside the leader's zone.
        EveryZone = 1, "EVERY_ZONE";
        /// On disk in every data zone, and on the only voter outside the leader's zone that answers.
        SingleCopyOutside = 2, "SINGLE_COPY_OUTSIDE";
        /// On disk at a majority of the voters; a data zone is lost or has not caught up yet.
        SingleZone = 3, "SINGLE_ZONE";
    }
}

/// What the cluster promises of a change that it acknowledges. Changed by commands alone, so that all
/// nodes know under which promise an entry was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Mode {
    /// Every data zone holds it.
    #[n(1)]
    Sync,
    /// One zone is lost; a majority without it holds what is acknowledged.
    #[n(2)]
    Degraded {
        /// The zone.
        #[n(0)]
        zone: ZoneName,
    },
    /// The zone answers again and catches up; acknowledged as while it was lost.
    #[n(3)]
    Recovering {
        /// The zone.
        #[n(0)]
        zone: ZoneName,
        /// The leader's last entry when the zone answered again: once the zone holds that, it is nearly there.
        #[n(1)]
        target: u64,
    },
}

impl Mode {
    /// Tells whether one mode may follow another: the one table of all legal moves.
    ///
    /// A zone that was lost is not believed to be whole again before it has caught up. Either zone can be
    /// lost in every mode, the other one even while the first still catches up.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Degraded { zone: lost }, Self::Recovering { zone, .. }) => lost == zone,
            (Self::Recovering { .. }, Self::Sync) => true,
            (Self::Degraded { zone: lost }, Self::Degraded { zone }) => lost != zone,
            (Self::Sync | Self::Recovering { .. }, Self::Degraded { .. }) => true,
            (Self::Sync, Self::Sync | Self::Recovering { .. })
            | (Self::Degraded { .. }, Self::Sync)
            | (Self::Recovering { .. }, Self::Recovering { .. }) => false,
        }
    }

    /// Returns the zone that is not counted on, if there is one.
    #[must_use]
    pub fn missing(&self) -> Option<&ZoneName> {
        match self {
            Self::Sync => None,
            Self::Degraded { zone } | Self::Recovering { zone, .. } => Some(zone),
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Degraded { zone } => write!(f, "degraded, {zone} is lost"),
            Self::Recovering { zone, .. } => write!(f, "recovering, {zone} catches up"),
        }
    }
}

/// Where the marker stands: the index of a log entry, u64 big-endian.
const MARKER_ROW: &[u8] = b"zone-durable";

/// Returns the index up to which created key versions may be used.
///
/// Everything may be in a cluster at a version that has no marker yet.
///
/// # Errors
/// [`Fault`] when the store fails or the marker is damaged.
pub fn usable_up_to(state: &(impl Read + ?Sized)) -> Result<u64, Fault> {
    let Some(cluster) = ClusterRecord::load(state, &())? else { return Ok(0) };
    if cluster.version < ClusterVersion::ZONE_GUARANTEES {
        return Ok(u64::MAX);
    }
    let Some(row) = state.get(Table::Cluster, MARKER_ROW)? else { return Ok(0) };
    let bytes =
        row.try_into().map_err(|_| Fault::new("the marker of durability is not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Moves the marker.
pub(crate) fn set_usable_up_to(state: &mut impl Write, index: u64) {
    state.put(Table::Cluster, MARKER_ROW, index.to_be_bytes().to_vec());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degraded(zone: &str) -> Mode {
        Mode::Degraded { zone: zone.parse().unwrap() }
    }

    fn recovering(zone: &str) -> Mode {
        Mode::Recovering { zone: zone.parse().unwrap(), target: 7 }
    }

    #[test]
    fn mode_matrix_has_exactly_these_legal_moves() {
        let modes = [
            Mode::Sync,
            degraded("zone-a"),
            degraded("zone-b"),
            recovering("zone-a"),
            recovering("zone-b"),
        ];
        let mut matrix = String::new();
        for from in &modes {
            for to in modes.iter().filter(|to| from.may_become(to)) {
                matrix += &format!("{from} -> {to}\n");
            }
        }
        assert_eq!(
            matrix,
            "sync -> degraded, zone-a is lost\n\
             sync -> degraded, zone-b is lost\n\
             degraded, zone-a is lost -> degraded, zone-b is lost\n\
             degraded, zone-a is lost -> recovering, zone-a catches up\n\
             degraded, zone-b is lost -> degraded, zone-a is lost\n\
             degraded, zone-b is lost -> recovering, zone-b catches up\n\
             recovering, zone-a catches up -> sync\n\
             recovering, zone-a catches up -> degraded, zone-a is lost\n\
             recovering, zone-a catches up -> degraded, zone-b is lost\n\
             recovering, zone-b catches up -> sync\n\
             recovering, zone-b catches up -> degraded, zone-a is lost\n\
             recovering, zone-b catches up -> degraded, zone-b is lost\n"
        );
    }
}
