//! Changes of the replicated state on behalf of a caller: proposals, tokens, outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use twinkeep_core::clock::{Clock, UnixMs};
use twinkeep_core::command::{Command, Proposal};
use twinkeep_core::freshness::LEASE_MAX;
use twinkeep_core::outcome::{Applied, Outcome, Refusal};
use twinkeep_core::record::{ClusterRecord, Digest, NodeRecord, Record as _, Token, TokenRecord};
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_proto::v1::PendingZone;

use crate::authorize::Entered;
use crate::error::{CallError, Invalid};
use crate::limits::TOKEN_BYTES;
use crate::operation::Operation;
use crate::ports::{ControlError, ControlPlane, Laggard, Ports, Reached, Vault};

/// The way to change the replicated state.
#[derive(Clone)]
pub(crate) struct Changes {
    control: Arc<dyn ControlPlane>,
    vault: Arc<dyn Vault>,
    clock: Arc<dyn Clock>,
}

/// What came of a change.
#[derive(Debug)]
pub(crate) enum Done {
    /// It was made: the record as it is now, and what the change has reached.
    Applied(Applied, Reached),
    /// It was refused: why, and what the state has reached that it was refused by.
    Refused(Refusal, Reached),
}

impl Done {
    /// Takes the record, or leaves with the refusal.
    pub(crate) fn applied(self) -> Result<(Applied, Reached), CallError> {
        match self {
            Self::Applied(applied, reached) => Ok((applied, reached)),
            Self::Refused(refusal, _) => Err(refusal.into()),
        }
    }
}

/// Where something that was taken away may still be used.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) effective_everywhere: bool,
    pub(crate) pending_in: Vec<PendingZone>,
}

/// What says where something that was taken away may still be used.
struct Stragglers {
    nodes: Vec<NodeRecord>,
    now_ms: UnixMs,
    /// The longest that a lease may last which began now.
    lease_ms: u64,
    /// How long a node may go on after its lease.
    grace_ms: u64,
}

impl Stragglers {
    /// Returns the zones of those who may not know of the change, with the latest end in each, by name. Without
    /// a leader that knows, nobody is known to know.
    fn zones(&self, laggards: Option<Vec<Laggard>>) -> Vec<PendingZone> {
        let mut until: BTreeMap<String, UnixMs> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.role == NodeRole::Data) {
            let Some(until_ms) = self.until(node, laggards.as_deref()) else { continue };
            if until_ms > self.now_ms {
                let latest = until.entry(node.placement.zone.to_string()).or_default();
                *latest = until_ms.max(*latest);
            }
        }
        let zone = |(zone, until_unix_ms)| PendingZone { zone, until_unix_ms };
        until.into_iter().map(zone).collect()
    }

    /// Returns until when a node may go on by what it knew; `None` for one that knows of the change.
    fn until(&self, node: &NodeRecord, laggards: Option<&[Laggard]>) -> Option<UnixMs> {
        let lease_over = match laggards {
            None => Some(self.now_ms.saturating_add(self.lease_ms)),
            Some(laggards) => laggards
                .iter()
                .find(|laggard| laggard.node == node.id)
                .map(|laggard| self.now_ms.saturating_add_signed(laggard.lease_left_ms)),
        };
        if node.standing != Standing::Removed {
            return Some(lease_over?.saturating_add(self.grace_ms));
        }
        // Nobody hears from it any more whether it has learned of that. Its last lease began before.
        let grace_over =
            node.removed_ms?.saturating_add(self.lease_ms).saturating_add(self.grace_ms);
        Some(lease_over.unwrap_or(0).max(grace_over))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Changes {
    pub(crate) fn new(ports: &Ports) -> Self {
        Self {
            control: Arc::clone(&ports.control),
            vault: Arc::clone(&ports.vault),
            clock: Arc::clone(&ports.clock),
        }
    }

    pub(crate) fn control(&self) -> &dyn ControlPlane {
        &*self.control
    }

    pub(crate) fn vault(&self) -> &dyn Vault {
        &*self.vault
    }

    /// Proposes a change in the caller's name and waits for what comes of it.
    pub(crate) async fn propose<O: Operation>(
        &self,
        call: &Entered<O>,
        token: Option<Token>,
        command: Command,
    ) -> Result<Done, CallError> {
        let proposal = Proposal { actor: Some(call.caller().clone()), token, command };
        let committed = self.control.propose(proposal, call.deadline()).await?;
        Ok(match committed.outcome {
            Outcome::Applied(applied) => Done::Applied(applied, committed.reached),
            Outcome::Refused(refusal) => Done::Refused(refusal, committed.reached),
        })
    }

    /// Waits until this node has applied what was just committed elsewhere.
    pub(crate) async fn caught_up<O: Operation>(
        &self,
        call: &Entered<O>,
        reached: Reached,
    ) -> Result<(), CallError> {
        Ok(self.control.wait_applied(reached.index, call.deadline()).await?)
    }

    /// Waits until what a change took away is used nowhere any more, or says where and until when it may be.
    /// `grace` is how long a node may go on after its freshness lease.
    pub(crate) async fn everywhere<O: Operation>(
        &self,
        call: &Entered<O>,
        reached: Reached,
        grace: Duration,
    ) -> Result<Effect, CallError> {
        // Knows all nodes then that could use what the change took away.
        self.caught_up(call, reached).await?;
        let laggards = match self.control.everywhere(reached.index, call.deadline()).await {
            Ok(laggards) => Some(laggards),
            // The change is made; nobody can say who knows of it.
            Err(ControlError::Unknown) => None,
            Err(error) => return Err(error.into()),
        };
        let view = self.control.view();
        let cluster = ClusterRecord::load(&*view, &())?;
        let lease = cluster.map_or(LEASE_MAX, |cluster| cluster.freshness_lease());
        let stragglers = Stragglers {
            nodes: NodeRecord::all(&*view)?,
            now_ms: self.clock.unix_ms(),
            lease_ms: millis(lease + lease / 100),
            grace_ms: millis(grace),
        };
        let pending_in = stragglers.zones(laggards);
        Ok(Effect { effective_everywhere: pending_in.is_empty(), pending_in })
    }

    /// Makes the token of a request. `bare` is the request without its token and without
    /// `min_state_index`, which do not make it another request.
    pub(crate) fn token<O: Operation>(
        &self,
        token: &[u8],
        bare: &impl Message,
    ) -> Result<Option<Token>, CallError> {
        if token.is_empty() {
            return Ok(None);
        }
        let exact = <[u8; TOKEN_BYTES]>::try_from(token).map_err(|_| Invalid::OutOfRange {
            field: "length of idempotency_token",
            number: token.len() as u64,
            range: "send 16 random bytes, or none",
        })?;
        let digest: Digest =
            self.vault.request_digest(&*self.control.view(), &bare.encode_to_vec())?;
        Ok(Some(Token { token: exact, operation: O::PERMISSION, digest }))
    }

    /// Returns what an earlier request with the same token led to, if this node has applied it: saves
    /// making key material that would be thrown away. The earlier request may still wait for its
    /// acknowledgement, or have given it up, so this one waits for it too.
    pub(crate) async fn earlier<O: Operation>(
        &self,
        call: &Entered<O>,
        token: Option<&Token>,
    ) -> Result<Option<Done>, CallError> {
        let Some(token) = token else { return Ok(None) };
        let id = (token.token, call.caller().clone());
        let record = TokenRecord::load(&*self.control.view(), &id)?;
        let Some(record) = record else { return Ok(None) };
        if record.token != *token {
            return Err(Refusal::TokenReused.into());
        }
        let reached = self.control.acknowledged(call.deadline()).await?;
        Ok(Some(match record.outcome {
            Outcome::Applied(applied) => Done::Applied(applied, reached),
            Outcome::Refused(refusal) => Done::Refused(refusal, reached),
        }))
    }
}

/// A change came back as another kind of change: a bug of ours.
pub(crate) fn strange(applied: Applied) -> CallError {
    CallError::StrangeOutcome(Box::new(applied))
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::NodeId;
    use twinkeep_testkit::records::node_record;

    use super::*;

    const NOW_MS: UnixMs = 1_800_000_000_000;

    fn node(id: u64, zone: &str, removed_ms: Option<UnixMs>) -> NodeRecord {
        let mut node = NodeRecord { removed_ms, ..node_record(id) };
        node.placement.zone = zone.parse().unwrap();
        if removed_ms.is_some() {
            node.standing = Standing::Removed;
        }
        node
    }

    fn stragglers(nodes: Vec<NodeRecord>, grace_ms: u64) -> Stragglers {
        Stragglers { nodes, now_ms: NOW_MS, lease_ms: 5_050, grace_ms }
    }

    fn laggard(id: u64, lease_left_ms: i64) -> Laggard {
        Laggard { node: NodeId::new(id).unwrap(), lease_left_ms }
    }

    fn pending(zone: &str, after_ms: u64) -> PendingZone {
        PendingZone { zone: zone.to_owned(), until_unix_ms: NOW_MS + after_ms }
    }

    #[test]
    fn zone_is_pending_until_the_last_of_its_nodes_stops() {
        let nodes = vec![node(1, "a", None), node(2, "b", None), node(3, "b", None)];
        let stragglers = stragglers(nodes, 60_000);
        assert_eq!(stragglers.zones(Some(Vec::new())), []);
        let late = Some(vec![laggard(2, 3_000), laggard(3, -10)]);
        assert_eq!(stragglers.zones(late), [pending("b", 63_000)]);
        let gone = Some(vec![laggard(2, -60_000)]);
        assert_eq!(stragglers.zones(gone), []);
    }

    #[test]
    fn nobody_is_known_to_know_where_no_leader_says_so() {
        let nodes = vec![node(1, "a", None), node(2, "b", None)];
        let zones = stragglers(nodes, 1_000).zones(None);
        assert_eq!(zones, [pending("a", 6_050), pending("b", 6_050)]);
    }

    #[test]
    fn node_that_was_taken_out_may_not_have_heard_of_it() {
        let nodes = vec![node(1, "a", None), node(2, "b", Some(NOW_MS - 10_000))];
        let known = Some(Vec::new());
        assert_eq!(stragglers(nodes.clone(), 60_000).zones(known.clone()), [pending("b", 55_050)]);
        assert_eq!(stragglers(nodes.clone(), 4_950).zones(known), []);
        // Without a grace its lease alone counts.
        let late = Some(vec![laggard(2, 20)]);
        assert_eq!(stragglers(nodes, 0).zones(late), [pending("b", 20)]);
    }
}
