//! Which zone shall lead, and which shall not.

use super::{Apply, Done, following, needs_version, now_ms, refuse};
use crate::id::Revision;
use crate::leadership::{Leadership, Without};
use crate::name::ZoneName;
use crate::outcome::{Applied, Refusal};
use crate::record::{
    ClusterRecord, ClusterVersion, LeadershipRecord, NodeRecord, Record, ReplicationRecord,
};
use crate::replication::Mode;
use crate::state::{Fault, Write};
use crate::topology::{NodeRole, Standing};

impl<S: Write> Apply<'_, S> {
    pub(super) fn set_leadership(
        &mut self,
        to: Leadership,
        expected: Option<Revision>,
        cluster: &ClusterRecord,
    ) -> Done {
        if let Err(refusal) = needs_version(cluster, ClusterVersion::LEADERSHIP) {
            return refuse(refusal);
        }
        let (from, found) = Leadership::read(self.state)?;
        if found != expected {
            return refuse(Refusal::RevisionMismatch { expected, found });
        }
        if let Some(zone) =
            to.preferred.as_ref().filter(|zone| from.preferred.as_ref() != Some(zone))
            && !self.has_voting_data(zone)?
        {
            return refuse(Refusal::NoDataZone(zone.clone()));
        }
        let is_drain = to.drained != from.drained;
        if let Some(zone) = to.drained.as_ref().filter(|_| is_drain)
            && let Some(refusal) = self.cannot_drain(zone, from.drained.as_ref())?
        {
            return refuse(refusal);
        }
        let drained_ms = match LeadershipRecord::load(self.state, &())? {
            Some(record) if !is_drain => record.drained_ms,
            _ => now_ms(self.state)?,
        };
        let revision = found.map_or(Ok(Revision::FIRST), following)?;
        LeadershipRecord { leadership: to, drained_ms, revision }.store(self.state);
        Ok(Ok(Applied::Cluster))
    }

    /// Says why a zone cannot be drained, if it cannot: the other one has to be able to carry everything.
    fn cannot_drain(
        &self,
        zone: &ZoneName,
        drained: Option<&ZoneName>,
    ) -> Result<Option<Refusal>, Fault> {
        if let Some(drained) = drained {
            let (drained, zone) = (drained.clone(), zone.clone());
            return Ok(Some(Refusal::OtherZoneDrained { drained, zone }));
        }
        if !self.has_voting_data(zone)? {
            return Ok(Some(Refusal::NoDataZone(zone.clone())));
        }
        let nodes = NodeRecord::all(self.state)?;
        if Without::zone(&nodes, zone).data_left == 0 {
            return Ok(Some(Refusal::LastDataZone(zone.clone())));
        }
        let mode = ReplicationRecord::load(self.state, &())?.map_or(Mode::Sync, |r| r.mode);
        // A zone that is lost itself may be kept from leading when it comes back.
        Ok(mode.missing().is_some_and(|missing| missing != zone).then(|| {
            let zone = zone.clone();
            Refusal::ZoneNeeded { zone, mode: Box::new(mode.clone()) }
        }))
    }

    fn has_voting_data(&self, zone: &ZoneName) -> Result<bool, Fault> {
        let votes = |node: &NodeRecord| {
            node.role == NodeRole::Data
                && node.standing == Standing::Voter
                && node.placement.zone == *zone
        };
        Ok(NodeRecord::all(self.state)?.iter().any(votes))
    }
}
