//! The cluster record: one row that says who the cluster is and whom it believes.

use std::time::Duration;

use crate::admission::AdmissionOrder;
use crate::clock::UnixMs;
use crate::freshness::LEASE_DEFAULT;
use crate::id::{ClusterId, Epoch, Incarnation, Revision};
use crate::name::{CallerName, ZoneName};
use crate::record::Record;
use crate::state::Table;
use crate::topology::NodeRole;

/// Gates every change of `apply` and of formats: a cluster behaves as the oldest of its members until
/// an operator raises it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(transparent)]
pub struct ClusterVersion(#[n(0)] pub u32);

impl ClusterVersion {
    /// The newest that this build can be raised to.
    pub const NEWEST: Self = Self::RECOVERY;
    /// From here on the cluster has a replication mode, and key versions wait for their marker
    /// ([`crate::replication`]).
    pub const ZONE_GUARANTEES: Self = Self(2);
    /// From here on nodes take part only after they have asked others what they may have forgotten, and believe
    /// only those that do so too.
    pub const BOOT_HANDSHAKE: Self = Self(3);
    /// From here on it is replicated state where the lead belongs ([`crate::leadership`]).
    pub const LEADERSHIP: Self = Self(3);
    /// From here on a lost quorum can be given up ([`crate::recovery`]), so that nodes that start look for company.
    pub const RECOVERY: Self = Self(4);
}

/// The public half of an epoch's command-signing key (Ed25519).
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct CommandKey {
    /// The epoch whose key derives it.
    #[n(0)]
    pub epoch: Epoch,
    /// The public key (RFC 8032).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub public: [u8; 32],
}

/// The roots that certificates are checked against, DER, one per kind: a caller's certificate can
/// never pass for a node's.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Roots {
    /// Signs node certificates, for the peer port.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub node: Vec<u8>,
    /// Signs caller certificates.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub caller: Vec<u8>,
    /// Signs the certificates that callers see.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub endpoint: Vec<u8>,
}

/// A person who holds a share of the recovery bundle and approves admissions.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Operator {
    /// For people.
    #[n(0)]
    pub name: CallerName,
    /// An age recipient, `age1…`, that the recovery share is encrypted to.
    #[n(1)]
    pub recipient: String,
    /// The public key that the operator's approvals are checked with (Ed25519, RFC 8032).
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signing_key: [u8; 32],
}

/// Who the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct ClusterRecord {
    /// The cluster's id, for ever.
    #[n(0)]
    pub id: ClusterId,
    /// Which life of the cluster this is.
    #[n(1)]
    pub incarnation: Incarnation,
    /// What all members understand.
    #[n(2)]
    pub version: ClusterVersion,
    /// The epoch whose keys seal and sign now.
    #[n(3)]
    pub epoch: Epoch,
    /// The command keys of all epochs that may still sign.
    #[n(4)]
    pub command_keys: Vec<CommandKey>,
    /// The certificate authorities' certificates.
    #[n(5)]
    pub roots: Roots,
    /// Who holds the recovery bundle and approves admissions.
    #[n(6)]
    pub operators: Vec<Operator>,
    /// Whether a passphrase may seal the keys, for trying things out.
    #[n(7)]
    pub dev: bool,
    /// The zone that is allowed to hold a majority of the voters, in a cluster without a third place.
    #[n(8)]
    pub preferred_zone: Option<ZoneName>,
    /// The domain that instances' endpoints lie in.
    #[n(9)]
    pub domain: String,
    /// Counts changes of this record.
    #[n(10)]
    pub revision: Revision,
    /// How many operators have to approve an admission; as many as open the recovery bundle.
    #[n(11)]
    pub approvals_min: u8,
    /// Length of the nodes' freshness leases in milliseconds; `None` for
    /// [`crate::freshness::LEASE_DEFAULT`].
    #[n(12)]
    pub freshness_lease_ms: Option<u32>,
}

impl ClusterRecord {
    /// Most operators of a cluster.
    pub const OPERATORS_MAX: usize = 16;

    /// Returns how long a node's state counts as fresh.
    #[must_use]
    pub fn freshness_lease(&self) -> Duration {
        self.freshness_lease_ms.map_or(LEASE_DEFAULT, |ms| Duration::from_millis(ms.into()))
    }

    /// Returns the operator of a name.
    #[must_use]
    pub fn operator(&self, name: &CallerName) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.name == *name)
    }

    /// Tells whether the operators are different people, by name and by key, and enough of them to approve.
    #[must_use]
    pub fn can_approve(&self) -> bool {
        let operators = &self.operators;
        let differ = operators.iter().enumerate().all(|(at, one)| {
            let same =
                |other: &Operator| other.name == one.name || other.signing_key == one.signing_key;
            !operators[..at].iter().any(same)
        });
        differ
            && operators.len() <= Self::OPERATORS_MAX
            && (1..=operators.len()).contains(&usize::from(self.approvals_min))
    }

    /// Returns the order that operators of this cluster, in its present life, have to have signed.
    #[must_use]
    pub fn admission_order(
        &self,
        spki_sha256: [u8; 32],
        role: NodeRole,
        zone: ZoneName,
        expires_ms: UnixMs,
    ) -> AdmissionOrder {
        let (cluster, incarnation) = (self.id, self.incarnation);
        AdmissionOrder { cluster, incarnation, spki_sha256, role, zone, expires_ms }
    }

    /// Returns the command key of an epoch.
    #[must_use]
    pub fn command_key(&self, epoch: Epoch) -> Option<&[u8; 32]> {
        self.command_keys.iter().find(|key| key.epoch == epoch).map(|key| &key.public)
    }
}

impl Record for ClusterRecord {
    const TABLE: Table = Table::Cluster;
    type Id = ();

    fn row((): &()) -> Vec<u8> {
        b"record".to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&())
    }
}
