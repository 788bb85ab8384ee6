//! Admission of a node: the order, and the operators' approvals of it.
//!
//! An admitted data node receives the root key, so nobody admits one alone. Somebody with the
//! permission asks; operators sign the exact bytes of the order with keys that never come near a node;
//! every node counts their signatures when it applies the admission ([`AdmissionOrder::check`]). The data
//! node that is asked calls the same function first, so that a refusal is told before it is replicated.
//!
//! What an operator signs. Integers are big-endian.
//!
//! | offset | size | field                                                |
//! |-------:|-----:|------------------------------------------------------|
//! | 0      | 21   | label `twinkeep-approval-v1`, 0x00                   |
//! | 21     | 1    | what is approved: 0x01 admission of a node           |
//! | 22     | 16   | cluster id                                           |
//! | 38     | 8    | incarnation                                          |
//! | 46     | 32   | SHA-256 of the node's public key (SPKI DER)          |
//! | 78     | 1    | role: 0x01 data, 0x02 witness                        |
//! | 79     | 8    | until when the order holds, milliseconds since 1970  |
//! | 87     | 1    | n, length of the zone's name                         |
//! | 88     | n    | zone                                                 |
//!
//! Kinds of what is approved are signed: numbers are not reused. Golden bytes are in `tests/golden/`.

use std::fmt;
use std::str::FromStr;

use crate::clock::UnixMs;
use crate::command::{Purpose, SignatureVerifier};
use crate::id::{ClusterId, Incarnation, hex_into, unhex};
use crate::name::{CallerName, ZoneName};
use crate::outcome::Refusal;
use crate::record::ClusterRecord;
use crate::topology::NodeRole;

/// The kind of an order that admits a node.
const KIND_ADMISSION: u8 = 1;

/// What operators approve: that the node with this key may join as this, there, until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionOrder {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which life of it: an order of a former one is worth nothing.
    pub incarnation: Incarnation,
    /// SHA-256 of the joiner's public key (SPKI DER).
    pub spki_sha256: [u8; 32],
    /// What it will do.
    pub role: NodeRole,
    /// Where it has to stand.
    pub zone: ZoneName,
    /// When the order lapses, by the replicated clock.
    pub expires_ms: UnixMs,
}

impl AdmissionOrder {
    /// Longest life of an order, in milliseconds: a day, so that operators in several places have time to
    /// look at it. The admission that it leads to is short ([`crate::record::Admission::LIFE_MAX_MS`]).
    pub const LIFE_MAX_MS: u64 = 24 * 3600 * 1000;
    /// Most approvals of an order: one of each operator, and a cluster has at most as many.
    pub const APPROVALS_MAX: usize = ClusterRecord::OPERATORS_MAX;

    /// Returns the exact bytes that are signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let zone = self.zone.as_str().as_bytes();
        let zone_len = u8::try_from(zone.len()).expect("a zone's name has at most 32 bytes");
        let mut out = Vec::with_capacity(88 + zone.len());
        out.extend_from_slice(Purpose::Approval.label().as_bytes());
        out.push(0);
        out.push(KIND_ADMISSION);
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(&self.incarnation.get().to_be_bytes());
        out.extend_from_slice(&self.spki_sha256);
        out.push(self.role as u8);
        out.extend_from_slice(&self.expires_ms.to_be_bytes());
        out.push(zone_len);
        out.extend_from_slice(zone);
        out
    }

    /// Checks that the order holds now and that enough of the cluster's operators have signed exactly it.
    ///
    /// One approval that is wrong refuses the order, however many good ones stand beside it: somebody
    /// signed something else than what is asked for, and people should look at it.
    ///
    /// # Errors
    /// [`Refusal`] that names the operator, or how many approvals there are and have to be.
    pub fn check(
        &self,
        approvals: &[Approval],
        cluster: &ClusterRecord,
        now_ms: UnixMs,
        verifier: &dyn SignatureVerifier,
    ) -> Result<(), Refusal> {
        self.check_life(now_ms)?;
        check_approvals(&self.message(), approvals, cluster, verifier)
    }

    fn check_life(&self, now_ms: UnixMs) -> Result<(), Refusal> {
        let expires_ms = self.expires_ms;
        if expires_ms <= now_ms {
            return Err(Refusal::AdmissionLapsed { expires_ms, now_ms });
        }
        if expires_ms - now_ms > Self::LIFE_MAX_MS {
            return Err(Refusal::AdmissionTooLong { expires_ms, now_ms });
        }
        Ok(())
    }
}

/// Checks that enough of the cluster's operators have signed exactly a message.
pub(crate) fn check_approvals(
    message: &[u8],
    approvals: &[Approval],
    cluster: &ClusterRecord,
    verifier: &dyn SignatureVerifier,
) -> Result<(), Refusal> {
    let max = AdmissionOrder::APPROVALS_MAX;
    if approvals.len() > max {
        return Err(Refusal::LimitReached { what: "approvals".to_owned(), max: max as u64 });
    }
    for (at, Approval { operator: name, signature }) in approvals.iter().enumerate() {
        let Some(operator) = cluster.operator(name) else {
            return Err(Refusal::NoOperator(name.clone()));
        };
        if approvals[..at].iter().any(|other| other.operator == *name) {
            return Err(Refusal::ApprovedTwice(name.clone()));
        }
        if !verifier.verify(&operator.signing_key, message, signature) {
            return Err(Refusal::WrongApproval(name.clone()));
        }
    }
    let (given, needed) = (approvals.len(), cluster.approvals_min);
    if given < usize::from(needed) {
        let given = u8::try_from(given).expect("at most APPROVALS_MAX");
        return Err(Refusal::TooFewApprovals { given, needed });
    }
    Ok(())
}

/// An operator's signature over an order. Written `<operator>:<128 lower-case hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Approval {
    /// Who signed.
    #[n(0)]
    pub operator: CallerName,
    /// Ed25519 (RFC 8032) over [`AdmissionOrder::message`] or [`crate::recovery::RecoveryOrder::message`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// The text is no approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an approval is written `<operator>:<128 lower-case hex digits>`, as `twinkeep operator approve` prints it"
)]
pub struct InvalidApproval;

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(CallerName::LEN_MAX + 1 + 128);
        text.push_str(self.operator.as_str());
        text.push(':');
        hex_into(&mut text, &self.signature);
        f.write_str(&text)
    }
}

impl FromStr for Approval {
    type Err = InvalidApproval;

    fn from_str(text: &str) -> Result<Self, InvalidApproval> {
        let (operator, digits) = text.split_once(':').ok_or(InvalidApproval)?;
        let operator = CallerName::parse(operator).map_err(|_| InvalidApproval)?;
        let signature = unhex(digits).ok_or(InvalidApproval)?;
        Ok(Self { operator, signature })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order() -> impl Strategy<Value = AdmissionOrder> {
        // Few values each, so that equal orders are drawn as well.
        let role = prop_oneof![Just(NodeRole::Data), Just(NodeRole::Witness)];
        let zone = prop_oneof![Just("a"), Just("ab"), Just("b")];
        (0u8..2, 1u64..3, 0u8..2, role, zone, 0u64..3).prop_map(
            |(cluster, incarnation, key, role, zone, expires_ms)| AdmissionOrder {
                cluster: ClusterId::from_bytes([cluster; 16]),
                incarnation: Incarnation::new(incarnation).unwrap(),
                spki_sha256: [key; 32],
                role,
                zone: zone.parse().unwrap(),
                expires_ms,
            },
        )
    }

    proptest! {
        #[test]
        fn orders_are_signed_alike_only_if_they_are_alike(one in order(), other in order()) {
            prop_assert_eq!(one == other, one.message() == other.message());
        }
    }

    #[test]
    fn approval_is_read_as_it_is_written() {
        let approval = Approval { operator: "ann".parse().unwrap(), signature: [0xa5; 64] };
        let text = approval.to_string();
        assert_eq!(text, format!("ann:{}", "a5".repeat(64)));
        assert_eq!(text.parse(), Ok(approval));
    }

    #[test]
    fn text_that_is_no_approval_is_refused() {
        let digits = "a5".repeat(64);
        for text in [
            String::new(),
            "ann".to_owned(),
            digits.clone(),
            format!("ann:{}", &digits[1..]),
            format!("ann:{digits}0"),
            format!("ann:{}", digits.to_uppercase()),
            format!(":{digits}"),
            format!("Ann:{digits}"),
            format!("ann: {digits}"),
            format!("ann:{digits}\n"),
        ] {
            assert_eq!(text.parse::<Approval>(), Err(InvalidApproval), "{text:?}");
        }
    }
}
