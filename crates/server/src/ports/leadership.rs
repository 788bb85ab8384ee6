//! Which zone leads: changes of it, and waiting until the lead is there.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use twinkeep_api::ports::{
    ClusterError, Committed, ControlError, ControlPlane, Lead, LeadershipChange, Reached,
};
use twinkeep_core::command::{Command, Proposal};
use twinkeep_core::id::NodeId;
use twinkeep_core::leadership::Leadership;
use twinkeep_core::name::{CallerName, ZoneName};
use twinkeep_core::outcome::{Outcome, Refusal};
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::{NodeRole, Standing};

use super::cluster::Cluster;

/// How often it is tried again when others change the same.
const ATTEMPTS_MAX: usize = 5;
/// How often it is looked where the lead is.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The longest that a drain waits for the lead to go; it goes later by itself.
const MOVE_MAX: Duration = Duration::from_secs(5);

impl Cluster {
    /// Makes a change, and waits after a drain until the lead is elsewhere.
    pub(super) async fn make_leadership_change(
        &self,
        actor: &CallerName,
        change: &LeadershipChange,
        deadline: Instant,
    ) -> Result<Lead, ClusterError> {
        // What this node happens to have applied may be old, and refuse what is right.
        let index = self.node().read_index(deadline.into()).await;
        let index = index.map_err(|_| ControlError::NoLeader)?;
        self.control.wait_applied(index, deadline).await?;
        if let LeadershipChange::Drain(zone) = change
            && self.has_voters(zone)
            && self.node().fit_to_lead(zone).is_empty()
        {
            return Err(ClusterError::NoSuccessor(zone.clone()));
        }
        if let LeadershipChange::Undrain(zone) = change
            && !self.has_data(zone)
            && !self.is_drained(zone)?
        {
            return Err(Refusal::NoDataZone(zone.clone()).into());
        }
        let reached = self.set_leadership(actor, change, deadline).await?;
        let moved = match change {
            LeadershipChange::Drain(zone) => self.lead_leaves(zone, deadline).await,
            LeadershipChange::Undrain(_) | LeadershipChange::Prefer(_) => true,
        };
        let leader = self.node().leader().and_then(|leader| NodeId::new(leader).ok());
        Ok(Lead { leader, moved, reached })
    }

    /// Proposes the change, also one of what is so already: the leader's state says whether it is.
    async fn set_leadership(
        &self,
        actor: &CallerName,
        change: &LeadershipChange,
        deadline: Instant,
    ) -> Result<Reached, ClusterError> {
        let mut attempts = 0;
        loop {
            let (from, expected) =
                Leadership::read(&self.state.latest()).map_err(ControlError::Fault)?;
            let command = Command::SetLeadership { to: changed(from, change)?, expected };
            let proposal = Proposal { actor: Some(actor.clone()), token: None, command };
            let Committed { outcome, reached } = self.control.propose(proposal, deadline).await?;
            attempts += 1;
            match outcome {
                Outcome::Applied(_) => return Ok(reached),
                Outcome::Refused(Refusal::RevisionMismatch { .. }) if attempts < ATTEMPTS_MAX => {
                    self.control.wait_applied(reached.index, deadline).await?;
                }
                Outcome::Refused(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// Waits until a node outside the zone leads, as this node sees it, and tells whether it does.
    async fn lead_leaves(&self, zone: &ZoneName, deadline: Instant) -> bool {
        let deadline = deadline.min(Instant::now() + MOVE_MAX);
        loop {
            let leader = self.node().leader().and_then(|node| self.node().roster().living(node));
            if leader.is_some_and(|leader| leader.placement.zone != *zone) {
                return true;
            }
            if Instant::now() + LOOK_INTERVAL >= deadline {
                return false;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Tells whether a data node stands in the zone: others can't have been drained.
    fn has_data(&self, zone: &ZoneName) -> bool {
        let records = self.node().roster().records();
        let is_there =
            |record: &NodeRecord| record.role == NodeRole::Data && record.placement.zone == *zone;
        records.values().any(|record| record.standing != Standing::Removed && is_there(record))
    }

    /// Tells whether the zone is drained; its nodes may have been removed since.
    fn is_drained(&self, zone: &ZoneName) -> Result<bool, ControlError> {
        let (leadership, _) =
            Leadership::read(&self.state.latest()).map_err(ControlError::Fault)?;
        Ok(leadership.is_drained(zone))
    }

    /// Tells whether the zone is one that could be drained: what is wrong with others is the state's to say.
    fn has_voters(&self, zone: &ZoneName) -> bool {
        let records = self.node().roster().records();
        records.values().any(|record| record.placement.zone == *zone)
    }
}

fn changed(
    mut leadership: Leadership,
    change: &LeadershipChange,
) -> Result<Leadership, ClusterError> {
    match change {
        LeadershipChange::Drain(zone) => leadership.drained = Some(zone.clone()),
        LeadershipChange::Undrain(zone) => {
            if let Some(drained) = leadership.drained.take_if(|drained| drained != zone) {
                return Err(ClusterError::NotDrained { zone: zone.clone(), drained });
            }
            leadership.drained = None;
        }
        LeadershipChange::Prefer(zone) => leadership.preferred.clone_from(zone),
    }
    Ok(leadership)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> ZoneName {
        name.parse().unwrap()
    }

    #[test]
    fn drained_zone_alone_is_taken_back() {
        let drained = Leadership { preferred: Some(zone("a")), drained: Some(zone("b")) };
        let back = changed(drained.clone(), &LeadershipChange::Undrain(zone("b"))).unwrap();
        assert_eq!(back, Leadership { drained: None, ..drained.clone() });
        // Asked again because the answer was lost.
        assert_eq!(changed(back.clone(), &LeadershipChange::Undrain(zone("b"))).unwrap(), back);
        let other = changed(drained, &LeadershipChange::Undrain(zone("a"))).unwrap_err();
        assert!(other.to_string().contains("zone a is not drained: b is"), "{other}");
    }

    #[test]
    fn preference_and_drain_do_not_touch_each_other() {
        let none = Leadership::default();
        let preferred = changed(none, &LeadershipChange::Prefer(Some(zone("a")))).unwrap();
        let both = changed(preferred, &LeadershipChange::Drain(zone("a"))).unwrap();
        assert_eq!(
            (both.preferred.clone(), both.drained.clone()),
            (Some(zone("a")), Some(zone("a")))
        );
        let drained = changed(both, &LeadershipChange::Prefer(None)).unwrap();
        assert_eq!(drained, Leadership { preferred: None, drained: Some(zone("a")) });
    }
}
