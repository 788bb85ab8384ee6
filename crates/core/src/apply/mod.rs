//! Applies committed log entries, the same way on every node.
//!
//! Same state and same bytes give the same outcomes: no clock, no randomness, no iteration over
//! unordered maps. A refusal is an outcome, replicated like any other, and changes nothing. Nothing
//! that arrives in an entry can make this code panic: the witness may lead and propose what it wants.

mod access;
mod cluster;
mod instances;
mod keys;
mod leadership;
mod members;
mod replication;

use std::time::Duration;

pub(crate) use self::members::{NODE_ID_ROW, given_node_id};
use crate::clock::UnixMs;
use crate::command::{Batch, Command, Proposal, SignatureVerifier, SignedBatch};
use crate::freshness::WhenStale;
use crate::id::{ClusterId, InstanceId, Revision};
use crate::outcome::{Applied, Outcome, Refusal};
use crate::record::{
    ClusterRecord, ClusterVersion, NodeRecord, Record, RecordKind, SealedRecord, Token, TokenRecord,
};
use crate::state::{Fault, Read, Table, Write};
use crate::topology::{NodeRole, Standing};

/// What a node believes before it has any state: its identity file holds it, and the first command
/// is checked against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The cluster.
    pub cluster: ClusterId,
    /// The command key of the first epoch.
    pub genesis_key: [u8; 32],
}

/// Applies the payload of one log entry and returns an outcome for each of its commands, or a single
/// refusal for the whole of it.
///
/// # Errors
/// [`Fault`] when the store fails; the transaction must then be dropped and the node stopped.
pub fn apply_entry(
    state: &mut impl Write,
    index: u64,
    payload: &[u8],
    trust: &Trust,
    verifier: &dyn SignatureVerifier,
) -> Result<Vec<Outcome>, Fault> {
    let refused = |refusal| Ok(vec![Outcome::Refused(refusal)]);
    let Ok(signed) = SignedBatch::from_bytes(payload) else { return refused(Refusal::Malformed) };
    if !is_believed(state, &signed, trust, verifier)? {
        return refused(Refusal::Unsigned);
    }
    let Ok(batch) = Batch::from_bytes(&signed.batch) else { return refused(Refusal::Malformed) };
    let now_ms = now_ms(state)?;
    if batch.not_after_ms < now_ms {
        return refused(Refusal::Expired { not_after_ms: batch.not_after_ms, now_ms });
    }
    let mut outcomes = Vec::with_capacity(batch.commands.len());
    for proposal in batch.commands {
        outcomes.push(Apply { state, index, verifier }.proposal(proposal)?);
    }
    Ok(outcomes)
}

/// Returns the replicated clock: zero until the cluster has begun.
///
/// # Errors
/// [`Fault`] when the store fails.
pub fn now_ms(state: &(impl Read + ?Sized)) -> Result<UnixMs, Fault> {
    let Some(row) = state.get(Table::Cluster, CLOCK_ROW)? else { return Ok(0) };
    let bytes = row.try_into().map_err(|_| Fault::new("the replicated clock is not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

const CLOCK_ROW: &[u8] = b"clock";

/// Tells whether a data node that the cluster knows has signed the batch. Before there is a cluster,
/// only the key that this node was told of at its own start counts.
fn is_believed(
    state: &impl Read,
    signed: &SignedBatch,
    trust: &Trust,
    verifier: &dyn SignatureVerifier,
) -> Result<bool, Fault> {
    let Some(cluster) = ClusterRecord::load(state, &())? else {
        return Ok(signed.is_signed_by(&trust.genesis_key, trust.cluster, verifier));
    };
    let Some(key) = cluster.command_key(signed.epoch) else { return Ok(false) };
    let signer = NodeRecord::load(state, &signed.signer)?;
    let is_data_node = signer
        .is_some_and(|node| node.role == NodeRole::Data && node.standing != Standing::Removed);
    Ok(is_data_node
        && cluster.id == trust.cluster
        && cluster.incarnation == signed.incarnation
        && signed.is_signed_by(key, cluster.id, verifier))
}

/// What a command's work comes to: nothing is written before the last check has passed.
type Done = Result<Result<Applied, Refusal>, Fault>;

/// Leaves the command with a refusal.
fn refuse(refusal: Refusal) -> Done {
    Ok(Err(refusal))
}

struct Apply<'a, S> {
    state: &'a mut S,
    index: u64,
    verifier: &'a dyn SignatureVerifier,
}

impl<S: Write> Apply<'_, S> {
    fn proposal(&mut self, proposal: Proposal) -> Result<Outcome, Fault> {
        let Some((token, principal)) = proposal.token.clone().zip(proposal.actor.clone()) else {
            return self.outcome(proposal);
        };
        let id = (token.token, principal);
        if let Some(record) = TokenRecord::load(self.state, &id)? {
            return Ok(repeated(record, &token));
        }
        let outcome = self.outcome(proposal)?;
        if let Outcome::Applied(_) = outcome {
            self.keep_outcome(token, id.1, &outcome)?;
        }
        Ok(outcome)
    }

    fn outcome(&mut self, proposal: Proposal) -> Result<Outcome, Fault> {
        Ok(match self.command(proposal)? {
            Ok(applied) => Outcome::Applied(applied),
            Err(refusal) => Outcome::Refused(refusal),
        })
    }

    fn command(&mut self, Proposal { actor, command, .. }: Proposal) -> Done {
        // Without a cluster record there is nothing to change and nobody to ask.
        let begun = ClusterRecord::load(self.state, &())?;
        match (command, begun) {
            (Command::Genesis(genesis), None) => self.genesis(*genesis),
            (Command::Genesis(_), Some(_)) => refuse(Refusal::AlreadyBegun),
            (_, None) => refuse(Refusal::Unsigned),
            (Command::Clock { unix_ms }, Some(_)) => self.clock(unix_ms),
            (Command::CreateInstance(new), Some(cluster)) => {
                self.create_instance(*new, actor, &cluster)
            }
            (Command::CreateKey(new), Some(cluster)) => self.create_key(*new, actor, &cluster),
            (Command::MoveKey { key, event, expected }, Some(_)) => {
                self.move_key(&key, event, expected)
            }
            (Command::DescribeKey { key, description, expected }, Some(_)) => {
                self.describe_key(&key, description, expected)
            }
            (Command::SetBinding { caller, grants, expected }, Some(_)) => {
                self.set_binding(caller, grants, expected)
            }
            (
                Command::AdmitNode { spki_sha256, role, zone, expires_ms, approvals },
                Some(cluster),
            ) => {
                let order = cluster.admission_order(spki_sha256, role, zone, expires_ms);
                self.admit_node(order, &approvals, &cluster)
            }
            (Command::JoinNode { node }, Some(cluster)) => self.join_node(*node, &cluster),
            (Command::SetStandings { changes }, Some(cluster)) => {
                self.set_standings(&changes, &cluster)
            }
            (Command::RaiseVersion { to, expected }, Some(cluster)) => {
                self.raise_version(to, expected, cluster)
            }
            (Command::ZoneDurable { upto, judged_under }, Some(cluster)) => {
                self.mark_zone_durable(upto, judged_under, &cluster)
            }
            (Command::SetReplicationMode { to, expected }, Some(cluster)) => {
                self.set_replication_mode(to, expected, &cluster)
            }
            (Command::SetLeadership { to, expected }, Some(cluster)) => {
                self.set_leadership(to, expected, &cluster)
            }
        }
    }

    fn keep_outcome(
        &mut self,
        token: Token,
        principal: crate::name::CallerName,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        let expires_ms = now_ms(self.state)?.saturating_add(TokenRecord::LIFE_MS);
        let record = TokenRecord { token, principal, outcome: outcome.clone(), expires_ms };
        self.state.put(Table::TokenExpiry, &record.expiry_row(), Vec::new());
        record.store(self.state);
        Ok(())
    }
}

/// Answers a repetition: the first outcome for the same request, a refusal for another one.
fn repeated(record: TokenRecord, token: &Token) -> Outcome {
    if record.token == *token { record.outcome } else { Outcome::Refused(Refusal::TokenReused) }
}

/// Tells whether a sealed record is the first of the logical key that a command creates.
fn is_fresh(sealed: &SealedRecord, kind: RecordKind, instance: &InstanceId, key: &[u8]) -> bool {
    sealed.kind == kind
        && sealed.instance == *instance
        && sealed.record_key == key
        && sealed.revision == Revision::FIRST
}

/// Refuses what members at an older version would not understand.
fn needs_version(cluster: &ClusterRecord, needed: ClusterVersion) -> Result<(), Refusal> {
    let present = cluster.version;
    if present < needed { Err(Refusal::VersionTooLow { present, needed }) } else { Ok(()) }
}

/// Refuses a choice for stale nodes that is too long, or that older members would forget.
fn check_when_stale(chosen: Option<WhenStale>, cluster: &ClusterRecord) -> Result<(), Refusal> {
    let Some(chosen) = chosen else { return Ok(()) };
    needs_version(cluster, ClusterVersion::ZONE_GUARANTEES)?;
    let max = Duration::from_secs(WhenStale::GRACE_SECONDS_MAX.into());
    if chosen.grace() > max {
        return Err(Refusal::LimitReached { what: "seconds of grace".into(), max: max.as_secs() });
    }
    Ok(())
}

/// Returns the revision after this one.
pub(crate) fn following(revision: Revision) -> Result<Revision, Fault> {
    revision.next().ok_or_else(|| Fault::new("a record has been changed 2^64 times"))
}
