//! The replication mode and the marker that key versions wait for.

use super::{Apply, Done, following, needs_version, now_ms, refuse};
use crate::id::Revision;
use crate::outcome::{Applied, Refusal};
use crate::record::{ClusterRecord, ClusterVersion, NodeRecord, Record, ReplicationRecord};
use crate::replication::{Mode, set_usable_up_to, usable_up_to};
use crate::state::{Fault, Write};
use crate::topology::{NodeRole, Standing};

impl<S: Write> Apply<'_, S> {
    pub(super) fn mark_zone_durable(
        &mut self,
        upto: u64,
        judged_under: Option<Revision>,
        cluster: &ClusterRecord,
    ) -> Done {
        if let Err(refusal) = needs_version(cluster, ClusterVersion::ZONE_GUARANTEES) {
            return refuse(refusal);
        }
        // An entry cannot say of itself, or of one behind it, where it is on disk.
        if upto >= self.index {
            return refuse(Refusal::MarkerAhead { upto, index: self.index });
        }
        // Judged while a zone was not counted on, and applied when it is again: not every zone may hold it.
        let found = self.mode()?.map(|record| record.revision);
        if found != judged_under {
            return refuse(Refusal::RevisionMismatch { expected: judged_under, found });
        }
        let upto = upto.max(usable_up_to(self.state)?);
        set_usable_up_to(self.state, upto);
        Ok(Ok(Applied::Cluster))
    }

    pub(super) fn set_replication_mode(
        &mut self,
        to: Mode,
        expected: Option<Revision>,
        cluster: &ClusterRecord,
    ) -> Done {
        if let Err(refusal) = needs_version(cluster, ClusterVersion::ZONE_GUARANTEES) {
            return refuse(refusal);
        }
        let present = self.mode()?;
        let found = present.as_ref().map(|record| record.revision);
        if found != expected {
            return refuse(Refusal::RevisionMismatch { expected, found });
        }
        let from = present.map_or(Mode::Sync, |record| record.mode);
        let known = match &to {
            Mode::Degraded { zone } => self.can_lose(zone)?,
            Mode::Sync | Mode::Recovering { .. } => true,
        };
        if !known || !from.may_become(&to) {
            return refuse(Refusal::IllegalMode { from: Box::new(from), to: Box::new(to) });
        }
        let revision = found.map_or(Ok(Revision::FIRST), following)?;
        let (since_ms, index) = (now_ms(self.state)?, self.index);
        ReplicationRecord { mode: to, since_ms, revision, index }.store(self.state);
        Ok(Ok(Applied::Cluster))
    }

    fn mode(&self) -> Result<Option<ReplicationRecord>, Fault> {
        ReplicationRecord::load(self.state, &())
    }

    /// Tells whether the zone has voting data nodes, and another zone too: the last one cannot be done
    /// without.
    fn can_lose(&self, zone: &crate::name::ZoneName) -> Result<bool, Fault> {
        let nodes = NodeRecord::all(self.state)?;
        let voters =
            nodes.iter().filter(|n| n.role == NodeRole::Data && n.standing == Standing::Voter);
        let (inside, outside): (Vec<_>, Vec<_>) =
            voters.partition(|node| node.placement.zone == *zone);
        Ok(!inside.is_empty() && !outside.is_empty())
    }
}
