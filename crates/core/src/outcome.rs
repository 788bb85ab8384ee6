//! What came of a command. A refusal is an outcome, replicated and the same on every node.

use crate::admission::AdmissionOrder;
use crate::clock::UnixMs;
use crate::id::{InstanceId, KeyId, NodeId, Revision};
use crate::key::{IllegalTransition, KeySpec, KeyUsage};
use crate::name::{CallerName, InstanceName, ZoneName};
use crate::record::{
    Admission, Binding, ClusterRecord, ClusterVersion, InstanceRecord, KeyRecord, NodeRecord,
};
use crate::replication::Mode;
use crate::topology::Misplaced;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Outcome {
    /// It was done.
    #[n(1)]
    Applied(#[n(0)] Applied),
    /// It changed nothing.
    #[n(2)]
    Refused(#[n(0)] Refusal),
}

/// The record as a command left it.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Applied {
    /// The cluster began, its clock or its marker moved, or its mode or leadership changed.
    #[n(1)]
    Cluster,
    /// A key was created or changed.
    #[n(2)]
    Key(#[n(0)] Box<KeyRecord>),
    /// An instance was created.
    #[n(3)]
    Instance(#[n(0)] Box<InstanceRecord>),
    /// A caller's grants were set.
    #[n(4)]
    Binding(#[n(0)] Box<Binding>),
    /// A node may join.
    #[n(5)]
    Admission(#[n(0)] Box<Admission>),
    /// Nodes were recorded or changed.
    #[n(6)]
    Nodes(#[n(0)] Vec<NodeRecord>),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, minicbor::Encode, minicbor::Decode)]
pub enum Refusal {
    /// The bytes are no batch of commands.
    #[error("the batch does not decode")]
    #[n(1)]
    Malformed,
    /// Nobody whom the cluster believes has signed it.
    #[error("the batch is not signed by a data node of this cluster and incarnation")]
    #[n(2)]
    Unsigned,
    /// It was held back too long.
    #[error("the batch was good until {not_after_ms}, and it is {now_ms}")]
    #[n(3)]
    Expired {
        /// How long it was good.
        #[n(0)]
        not_after_ms: UnixMs,
        /// The replicated clock.
        #[n(1)]
        now_ms: UnixMs,
    },
    /// The cluster has begun already, or not yet.
    #[error("the cluster has begun already")]
    #[n(4)]
    AlreadyBegun,
    /// Another change came first.
    #[error("the record is at revision {}, not at {}", shown(.found), shown(.expected))]
    #[n(5)]
    RevisionMismatch {
        /// What the proposer saw.
        #[n(0)]
        expected: Option<Revision>,
        /// What stands there.
        #[n(1)]
        found: Option<Revision>,
    },
    /// No such key.
    #[error("key {0} does not exist")]
    #[n(6)]
    NoKey(#[n(0)] KeyId),
    /// The id is taken.
    #[error("key {0} exists")]
    #[n(7)]
    KeyExists(#[n(0)] KeyId),
    /// No such instance.
    #[error("instance {0} does not exist")]
    #[n(8)]
    NoInstance(#[n(0)] InstanceId),
    /// The id or the name is taken.
    #[error("an instance with the id {id} or the name {name} exists")]
    #[n(9)]
    InstanceExists {
        /// The id.
        #[n(0)]
        id: InstanceId,
        /// The name.
        #[n(1)]
        name: InstanceName,
    },
    /// The key's state does not allow it.
    #[error(transparent)]
    #[n(10)]
    IllegalTransition(#[n(0)] IllegalTransition),
    /// Spec and usage do not go together.
    #[error("a key of spec {spec} cannot be used for {usage}")]
    #[n(11)]
    UsageMismatch {
        /// The spec.
        #[n(0)]
        spec: KeySpec,
        /// The usage.
        #[n(1)]
        usage: KeyUsage,
    },
    /// The sealed record is not the one that the command is about.
    #[error("the sealed record does not belong to what the command creates")]
    #[n(12)]
    SealedElsewhere,
    /// The token was used for something else.
    #[error("the idempotency token was used for another request; draw a new one")]
    #[n(13)]
    TokenReused,
    /// The last administrator would be gone.
    #[error(
        "no caller would hold the role admin in the whole cluster any more; grant it to another one first"
    )]
    #[n(14)]
    LastAdmin,
    /// Too many of something.
    #[error("at most {max} {what}")]
    #[n(15)]
    LimitReached {
        /// Of what.
        #[n(0)]
        what: String,
        /// The limit.
        #[n(1)]
        max: u64,
    },
    /// No such node, or one that was removed.
    #[error("node {0} does not exist or was removed")]
    #[n(16)]
    NoNode(#[n(0)] NodeId),
    /// The id belongs to another node, or once did.
    #[error(
        "node id {0} was used before, and ids are never given again: give the node an empty data folder and admit \
         its new key"
    )]
    #[n(17)]
    NodeIdTaken(#[n(0)] NodeId),
    /// The node has no admission, or another one.
    #[error(
        "the node has no open admission for what it says; admit its key again with its role and zone"
    )]
    #[n(18)]
    NotAdmitted,
    /// The order would last too long.
    #[error(
        "the order would hold for {} s more, and an order lasts at most {} s: write one that ends sooner and have \
         it approved",
        seconds(*.expires_ms, *.now_ms),
        AdmissionOrder::LIFE_MAX_MS / 1000
    )]
    #[n(19)]
    AdmissionTooLong {
        /// When the order lapses.
        #[n(0)]
        expires_ms: UnixMs,
        /// The clock that it was held against.
        #[n(1)]
        now_ms: UnixMs,
    },
    /// The key joined already.
    #[error("a node with this public key is recorded already, or admitted for something else")]
    #[n(20)]
    KeyJoined,
    /// The placement is not sound.
    #[error(transparent)]
    #[n(21)]
    Misplaced(#[n(0)] Misplaced),
    /// The members do not understand it, or it is the present one.
    #[error("the cluster is at version {from:?} and cannot be raised to {to:?}")]
    #[n(22)]
    VersionNotRaised {
        /// The present one.
        #[n(0)]
        from: ClusterVersion,
        /// The asked one.
        #[n(1)]
        to: ClusterVersion,
    },
    /// The command names no caller where one is needed.
    #[error("the command names no caller")]
    #[n(23)]
    NoActor,
    /// Nobody would vote any more.
    #[error("the cluster would have no voter left; promote another node first")]
    #[n(24)]
    LastVoter,
    /// The order is over.
    #[error(
        "the order lapsed {} s ago: write a new one and have it approved again",
        seconds(*.now_ms, *.expires_ms)
    )]
    #[n(25)]
    AdmissionLapsed {
        /// When the order lapsed.
        #[n(0)]
        expires_ms: UnixMs,
        /// The clock that it was held against.
        #[n(1)]
        now_ms: UnixMs,
    },
    /// The name is none of the operators'.
    #[error("`{0}` is no operator of this cluster; its operators were named when it began")]
    #[n(26)]
    NoOperator(#[n(0)] CallerName),
    /// One person would count as two.
    #[error("operator {0} approved twice and counts once: give one approval of each operator")]
    #[n(27)]
    ApprovedTwice(#[n(0)] CallerName),
    /// The signature is over something else, or of another key.
    #[error(
        "the approval of operator {0} does not fit: it has to be made with the key of {0} over exactly this order, \
         of this cluster and incarnation"
    )]
    #[n(28)]
    WrongApproval(#[n(0)] CallerName),
    /// Not enough people have looked at it.
    #[error(
        "{given} of {needed} operators who have to approve it did: have others sign the order with \
         `twinkeep operator approve`"
    )]
    #[n(29)]
    TooFewApprovals {
        /// How many approved.
        #[n(0)]
        given: u8,
        /// How many have to.
        #[n(1)]
        needed: u8,
    },
    /// The cluster would begin with operators who cannot approve.
    #[error(
        "a cluster has 1 to {} operators, each with a name and a key of their own, and at least as many as have to \
         approve",
        ClusterRecord::OPERATORS_MAX
    )]
    #[n(30)]
    OperatorsUnfit,
    /// The mode does not follow from the present one, or names a zone that cannot be lost.
    #[error("the replication mode is `{from}` and cannot become `{to}`")]
    #[n(31)]
    IllegalMode {
        /// The present one.
        #[n(0)]
        from: Box<Mode>,
        /// The asked one.
        #[n(1)]
        to: Box<Mode>,
    },
    /// The marker covers itself or what comes after it.
    #[error("entry {index} cannot say that entry {upto} is durable")]
    #[n(32)]
    MarkerAhead {
        /// The entry that would be covered.
        #[n(0)]
        upto: u64,
        /// The entry that says so.
        #[n(1)]
        index: u64,
    },
    /// The members may not all understand it.
    #[error("the cluster is at version {present:?} and this needs {needed:?}: raise it first")]
    #[n(33)]
    VersionTooLow {
        /// The present one.
        #[n(0)]
        present: ClusterVersion,
        /// The least one.
        #[n(1)]
        needed: ClusterVersion,
    },
    /// Nobody in the zone could lead.
    #[error("zone {0} has no data node with a vote; `twinkeep zone list` shows the zones")]
    #[n(34)]
    NoDataZone(#[n(0)] ZoneName),
    /// Nobody outside the zone could lead.
    #[error("zone {0} is the only one with data nodes that vote: nobody could lead in its place")]
    #[n(35)]
    LastDataZone(#[n(0)] ZoneName),
    /// One zone has to be left to lead.
    #[error(
        "zone {drained} is drained already: take that back with `twinkeep zone undrain {drained}` before {zone} is \
         drained"
    )]
    #[n(36)]
    OtherZoneDrained {
        /// The one that is drained.
        #[n(0)]
        drained: ZoneName,
        /// The asked one.
        #[n(1)]
        zone: ZoneName,
    },
    /// The other zone does not hold everything yet.
    #[error(
        "zone {zone} is needed, since the replication mode is `{mode}`: drain it once both zones are in sync, as \
         `twinkeep zone list` shows"
    )]
    #[n(37)]
    ZoneNeeded {
        /// The asked one.
        #[n(0)]
        zone: ZoneName,
        /// The mode.
        #[n(1)]
        mode: Box<Mode>,
    },
}

/// Returns how much later the one is, in seconds rounded up.
fn seconds(later_ms: UnixMs, earlier_ms: UnixMs) -> u64 {
    later_ms.saturating_sub(earlier_ms).div_ceil(1000)
}

fn shown(revision: &Option<Revision>) -> String {
    revision.map_or_else(|| "none".to_owned(), |r| r.to_string())
}
