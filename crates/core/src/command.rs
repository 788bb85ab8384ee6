//! Commands: every change of the replicated state, as it is signed, logged and applied.
//!
//! A data node that has authorised a call and sealed its secrets writes a [`Command`]; whatever has
//! gathered meanwhile goes into one [`Batch`], whose exact bytes are signed into a [`SignedBatch`].
//! Every node checks that signature in [`crate::apply`], so that a member without the epoch key (the
//! witness, or a stranger on the wire) can delay a change but not make one. A command that changes a
//! record names the revision it expects, so that a replay changes nothing.
//!
//! | signed bytes | size |
//! |---|---:|
//! | label, then 0x00 | n + 1 |
//! | cluster id | 16 |
//! | incarnation, u64 big-endian | 8 |
//! | epoch, u32 big-endian | 4 |
//! | signing node, u64 big-endian | 8 |
//! | the batch, exactly as proposed | m |

use crate::access::Grant;
use crate::admission::Approval;
use crate::clock::UnixMs;
use crate::freshness::WhenStale;
use crate::id::{ClusterId, Epoch, Incarnation, InstanceId, KeyId, KeyVersionId, NodeId, Revision};
use crate::key::{KeyEvent, KeySpec, KeyUsage};
use crate::leadership::Leadership;
use crate::name::{CallerName, Description, InstanceName, ZoneName};
use crate::record::{
    BackendKind, ClusterRecord, ClusterVersion, InstanceKind, NodeRecord, SealRecord, SealedRecord,
    Token, to_bytes,
};
use crate::replication::Mode;
use crate::topology::{NodeRole, Standing};

/// What a signature of ours is for. A signature over one kind never passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A batch of commands.
    Command,
    /// A snapshot's manifest.
    Snapshot,
    /// An order to recover a cluster that has lost its quorum.
    Recovery,
    /// An admission of a node.
    Admission,
    /// An operator's approval: the bytes of [`crate::admission`], without a [`Signer`], since the key is
    /// the operator's own.
    Approval,
}

impl Purpose {
    /// Returns the label that the signed bytes open with.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Command => "twinkeep-command-v1",
            Self::Snapshot => "twinkeep-snapshot-v1",
            Self::Recovery => "twinkeep-recovery-v1",
            Self::Admission => "twinkeep-admission-v1",
            Self::Approval => "twinkeep-approval-v1",
        }
    }
}

/// Who signs: the context that every signature of ours covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The epoch whose key derives the signing key.
    pub epoch: Epoch,
    /// The node that signs.
    pub node: NodeId,
}

impl Signer {
    /// Returns the exact bytes that are signed.
    #[must_use]
    pub fn message(&self, purpose: Purpose, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + payload.len());
        out.extend_from_slice(purpose.label().as_bytes());
        out.push(0);
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(&self.incarnation.get().to_be_bytes());
        out.extend_from_slice(&self.epoch.get().to_be_bytes());
        out.extend_from_slice(&self.node.get().to_be_bytes());
        out.extend_from_slice(payload);
        out
    }
}

/// Checks Ed25519 signatures (RFC 8032, strict: no small-order keys, no malleable encodings).
pub trait SignatureVerifier: Send + Sync {
    /// Tells whether the signature over the message is the key's.
    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool;
}

/// A batch with the signature of the data node that authorised and sealed it: the payload of a log
/// entry.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct SignedBatch {
    /// Which life of the cluster it was signed in.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The epoch whose key signed.
    #[n(1)]
    pub epoch: Epoch,
    /// The node that signed.
    #[n(2)]
    pub signer: NodeId,
    /// The encoded [`Batch`], exactly as signed.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub batch: Vec<u8>,
    /// Ed25519 over [`Signer::message`] with [`Purpose::Command`].
    #[cbor(n(4), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

impl SignedBatch {
    /// Returns the bytes that travel and are logged.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Reads the bytes that travelled.
    ///
    /// # Errors
    /// When they are no signed batch; says nothing of the signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        whole(bytes)
    }

    /// Tells whether the signature is the key's, for a cluster.
    #[must_use]
    pub fn is_signed_by(
        &self,
        public: &[u8; 32],
        cluster: ClusterId,
        verifier: &dyn SignatureVerifier,
    ) -> bool {
        let signer =
            Signer { cluster, incarnation: self.incarnation, epoch: self.epoch, node: self.signer };
        verifier.verify(public, &signer.message(Purpose::Command, &self.batch), &self.signature)
    }
}

/// Commands that are applied together, in order, each with an outcome of its own.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Batch {
    /// Refused as a whole once the replicated clock is past this, so that nobody can hold a batch back
    /// for later: the proposer's clock and [`Batch::LIFE_MS`].
    #[n(0)]
    pub not_after_ms: UnixMs,
    /// The commands.
    #[n(1)]
    pub commands: Vec<Proposal>,
}

impl Batch {
    /// How long a signed batch stays good, in milliseconds.
    pub const LIFE_MS: u64 = 30_000;
    /// Most commands of a batch.
    pub const COMMANDS_MAX: usize = 256;
    /// Most bytes of an encoded batch; a larger one is refused by every node.
    pub const BYTES_MAX: usize = 1 << 20;

    /// Returns the bytes to sign.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Reads signed bytes.
    ///
    /// # Errors
    /// When they are no batch, or one over the limits.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(minicbor::decode::Error::message("the batch is over its size limit"));
        }
        let batch: Self = whole(bytes)?;
        if batch.commands.len() > Self::COMMANDS_MAX {
            return Err(minicbor::decode::Error::message("the batch has too many commands"));
        }
        Ok(batch)
    }
}

/// Decodes a value that the bytes hold and nothing else.
fn whole<T: for<'b> minicbor::Decode<'b, ()>>(bytes: &[u8]) -> Result<T, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode()?;
    if decoder.position() != bytes.len() {
        return Err(minicbor::decode::Error::message("bytes follow the value"));
    }
    Ok(value)
}

/// A command with the caller who asked for it.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Proposal {
    /// The caller, or `None` where the cluster acts by itself.
    #[n(0)]
    pub actor: Option<CallerName>,
    /// Makes a repetition return the first outcome.
    #[n(1)]
    pub token: Option<Token>,
    /// What to change.
    #[n(2)]
    pub command: Command,
}

/// A change of the replicated state. Numbers are stored and signed; they are not reused.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Command {
    /// The first command of a cluster.
    #[n(1)]
    Genesis(#[n(0)] Box<Genesis>),
    /// The leader's wall clock: moves the replicated clock forward, never back.
    #[n(2)]
    Clock {
        /// The leader's clock.
        #[n(0)]
        unix_ms: UnixMs,
    },
    /// A new instance with its sealed key.
    #[n(3)]
    CreateInstance(#[n(0)] Box<CreateInstance>),
    /// A new key with the sealed material of its first version.
    #[n(4)]
    CreateKey(#[n(0)] Box<CreateKey>),
    /// A move in a key's life.
    #[n(5)]
    MoveKey {
        /// The key.
        #[n(0)]
        key: KeyId,
        /// What happens to it.
        #[n(1)]
        event: KeyEvent,
        /// The revision that the proposer saw.
        #[n(2)]
        expected: Revision,
    },
    /// A new description.
    #[n(6)]
    DescribeKey {
        /// The key.
        #[n(0)]
        key: KeyId,
        /// The text.
        #[n(1)]
        description: Description,
        /// The revision that the proposer saw.
        #[n(2)]
        expected: Revision,
    },
    /// All grants of a caller, as they shall be.
    #[n(7)]
    SetBinding {
        /// The caller.
        #[n(0)]
        caller: CallerName,
        /// The grants; none takes away all.
        #[n(1)]
        grants: Vec<Grant>,
        /// The revision that the proposer saw; `None` for a caller without a record.
        #[n(2)]
        expected: Option<Revision>,
    },
    /// Lets a node join that enough operators have approved; gives it its id.
    #[n(8)]
    AdmitNode {
        /// SHA-256 of its public key.
        #[cbor(n(0), with = "minicbor::bytes")]
        spki_sha256: [u8; 32],
        /// What it will do.
        #[n(1)]
        role: NodeRole,
        /// Where it has to stand.
        #[n(2)]
        zone: ZoneName,
        /// When the admission lapses.
        #[n(3)]
        expires_ms: UnixMs,
        /// The operators' signatures over exactly this.
        #[n(4)]
        approvals: Vec<Approval>,
    },
    /// Records a node that has come with an admission, and uses the admission up.
    #[n(9)]
    JoinNode {
        /// The node, a learner at revision 1.
        #[n(0)]
        node: Box<NodeRecord>,
    },
    /// Changes how nodes count, all in one: the voters that result are checked together.
    #[n(10)]
    SetStandings {
        /// The changes.
        #[n(0)]
        changes: Vec<StandingChange>,
    },
    /// Lets the cluster use what all its members understand.
    #[n(11)]
    RaiseVersion {
        /// The version.
        #[n(0)]
        to: ClusterVersion,
        /// The cluster record's revision that the proposer saw.
        #[n(1)]
        expected: Revision,
    },
    /// Says that all entries up to one are as durable as the replication mode asks for, so that the key
    /// versions they created may be used. The marker never goes back.
    #[n(12)]
    ZoneDurable {
        /// The last such entry; it lies before the one that says so.
        #[n(0)]
        upto: u64,
        /// The revision of the replication mode that this was judged under; `None` before the first change.
        #[n(1)]
        judged_under: Option<Revision>,
    },
    /// Changes what is promised of acknowledged changes.
    #[n(13)]
    SetReplicationMode {
        /// The mode.
        #[n(0)]
        to: Mode,
        /// The revision of the mode that the proposer saw; `None` before the first change.
        #[n(1)]
        expected: Option<Revision>,
    },
    /// Says which zone shall lead, and which shall not.
    #[n(14)]
    SetLeadership {
        /// The zones.
        #[n(0)]
        to: Leadership,
        /// The revision of the leadership that the proposer saw; `None` before the first change.
        #[n(1)]
        expected: Option<Revision>,
    },
}

impl Command {
    /// Says for a person what is changed, and of what: no more than ids and names.
    #[must_use]
    pub fn summary(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Genesis(_) => ("begin the cluster", None),
            Self::Clock { .. } => ("move the clock", None),
            Self::CreateInstance(new) => ("create an instance", Some(new.id.to_string())),
            Self::CreateKey(new) => ("create a key", Some(new.id.to_string())),
            Self::MoveKey { key, event, .. } => (event.as_str(), Some(key.to_string())),
            Self::DescribeKey { key, .. } => ("describe a key", Some(key.to_string())),
            Self::SetBinding { caller, .. } => ("set a caller's roles", Some(caller.to_string())),
            Self::AdmitNode { zone, .. } => ("admit a node", Some(zone.to_string())),
            Self::JoinNode { node } => ("record a node", Some(node.id.to_string())),
            Self::SetStandings { changes } => {
                let nodes: Vec<_> = changes.iter().map(|change| change.node.to_string()).collect();
                ("change how nodes count", Some(nodes.join(", ")))
            }
            Self::RaiseVersion { to, .. } => ("raise the version", Some(to.0.to_string())),
            Self::ZoneDurable { upto, .. } => ("mark as durable", Some(upto.to_string())),
            Self::SetReplicationMode { to, .. } => ("set the mode", Some(to.to_string())),
            Self::SetLeadership { .. } => ("say where the lead belongs", None),
        }
    }
}

/// How one node shall count.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct StandingChange {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// The new standing.
    #[n(1)]
    pub to: Standing,
    /// The revision that the proposer saw.
    #[n(2)]
    pub expected: Revision,
}

/// What a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Genesis {
    /// Who the cluster is.
    #[n(0)]
    pub cluster: ClusterRecord,
    /// The first node, the only voter.
    #[n(1)]
    pub node: NodeRecord,
    /// The ways to the root key.
    #[n(2)]
    pub seals: Vec<SealRecord>,
    /// Root key per seal, first epoch key, authority keys.
    #[n(3)]
    pub sealed: Vec<SealedRecord>,
    /// The first administrator's roles.
    #[n(4)]
    pub admin: crate::record::Binding,
    /// The first node's wall clock.
    #[n(5)]
    pub unix_ms: UnixMs,
}

/// A new instance.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct CreateInstance {
    /// Its id, drawn by the proposer.
    #[n(0)]
    pub id: InstanceId,
    /// Its name.
    #[n(1)]
    pub name: InstanceName,
    /// Where its keys live.
    #[n(2)]
    pub kind: InstanceKind,
    /// Its first key, sealed under the epoch key.
    #[n(3)]
    pub sealed: SealedRecord,
    /// Whether its keys are used on a node whose state may be old, unless they say otherwise.
    #[n(4)]
    pub when_stale: Option<WhenStale>,
}

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct CreateKey {
    /// Its id, drawn by the proposer.
    #[n(0)]
    pub id: KeyId,
    /// The instance that it belongs to.
    #[n(1)]
    pub instance: InstanceId,
    /// Kind and size of its material.
    #[n(2)]
    pub spec: KeySpec,
    /// What it is for.
    #[n(3)]
    pub usage: KeyUsage,
    /// For people.
    #[n(4)]
    pub description: Description,
    /// The first version's id on the wire.
    #[n(5)]
    pub version: KeyVersionId,
    /// Where the material lives.
    #[n(6)]
    pub backend: BackendKind,
    /// The public half as SPKI DER, for asymmetric keys.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub public_key: Option<Vec<u8>>,
    /// The first version's material, sealed under the instance key.
    #[n(8)]
    pub sealed: SealedRecord,
    /// Whether it is used on a node whose state may be old; `None` takes the instance's default.
    #[n(9)]
    pub when_stale: Option<WhenStale>,
}
