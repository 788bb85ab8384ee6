//! An operator's key: one secret with two uses.
//!
//! The secret is an age identity (X25519), and the standard `age` tool opens the operator's share of the
//! recovery bundle with it. The key that signs approvals (Ed25519, RFC 8032) is derived from the same 32
//! bytes under a label of its own ([`crate::label`]), so that an operator keeps one file and neither use
//! tells anything of the other.
//!
//! What an operator gives away is text: `<age recipient>:<64 lower-case hex digits>`, the digits being
//! the Ed25519 public key.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use twinkeep_core::admission::{AdmissionOrder, Approval};
use twinkeep_core::name::CallerName;
use twinkeep_core::record::Operator;
use twinkeep_core::recovery::RecoveryOrder;
use twinkeep_envelope::kdf::derive;

use crate::label;
use crate::recovery::Identity;
use crate::signing::{has_small_order, pair_of};

/// The public half of an operator's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorKey {
    recipient: String,
    signing: [u8; 32],
}

/// The text is no operator's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an operator's public key is written `<age recipient>:<64 lower-case hex digits>`, as `twinkeepd operator-key` \
     prints it: {0}"
)]
pub struct InvalidOperatorKey(&'static str);

impl OperatorKey {
    /// Returns what the cluster records of an operator with this key.
    #[must_use]
    pub fn operator(self, name: CallerName) -> Operator {
        Operator { name, recipient: self.recipient, signing_key: self.signing }
    }
}

impl fmt::Display for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.recipient, hex::encode(self.signing))
    }
}

impl FromStr for OperatorKey {
    type Err = InvalidOperatorKey;

    fn from_str(text: &str) -> Result<Self, InvalidOperatorKey> {
        let (recipient, digits) =
            text.split_once(':').ok_or(InvalidOperatorKey("it has no colon"))?;
        let parsed = age::x25519::Recipient::from_str(recipient).map_err(InvalidOperatorKey)?;
        let mut signing = [0; 32];
        hex::decode_to_slice(digits, &mut signing)
            .map_err(|_| InvalidOperatorKey("no 64 hex digits follow the colon"))?;
        if has_small_order(&signing) {
            return Err(InvalidOperatorKey("its digits are no public key"));
        }
        let key = Self { recipient: parsed.to_string(), signing };
        // One key has one text: two operators with the same one are seen to be one.
        if key.to_string() == text { Ok(key) } else { Err(InvalidOperatorKey("it has capitals")) }
    }
}

impl Identity {
    /// Returns the public half, for the cluster.
    #[must_use]
    pub fn public_key(&self) -> OperatorKey {
        let signing = self.signing_pair().public_key().as_ref().try_into();
        let signing = signing.expect("Ed25519 public keys have 32 bytes");
        OperatorKey { recipient: self.recipient(), signing }
    }

    /// Approves an order in an operator's name.
    #[must_use]
    pub fn approve(&self, operator: CallerName, order: &AdmissionOrder) -> Approval {
        self.approve_message(operator, &order.message())
    }

    /// Approves an order to recover the cluster in an operator's name.
    #[must_use]
    pub fn approve_recovery(&self, operator: CallerName, order: &RecoveryOrder) -> Approval {
        self.approve_message(operator, &order.message())
    }

    fn approve_message(&self, operator: CallerName, message: &[u8]) -> Approval {
        let signature = self.signing_pair().sign(message);
        let signature = signature.as_ref().try_into().expect("Ed25519 signatures have 64 bytes");
        Approval { operator, signature }
    }

    /// Derives the signing key; for each use anew, since it is kept nowhere.
    fn signing_pair(&self) -> Ed25519KeyPair {
        pair_of(&derive(&self.secret(), label::OPERATOR, &[]))
    }
}

#[cfg(test)]
mod tests {
    use twinkeep_core::command::SignatureVerifier as _;
    use twinkeep_core::id::{ClusterId, Incarnation};
    use twinkeep_core::topology::NodeRole;

    use super::*;
    use crate::CommandVerifier;

    /// The secret 00, 01, … 1f. What follows from it was computed by Python's `cryptography`.
    const IDENTITY: &str =
        "AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SWRYDWG";
    const RECIPIENT: &str = "age13aqvttdk3ujkyjh9kg2w5an6dmy5mq5a84a4uxk3hfhnugfc9p0sy5p2wh";
    const SIGNING: &str = "5957986b5ad25a973bbd4027270d0537ebb9d554428b2bd4e54a54cc3fb69d8e";
    /// Over the order that `crates/core/tests/golden/admission-order.hex` holds.
    const SIGNATURE: &str = "c0f668d8aa54a55875f966718ba1389010f4b231a6b576b664a118e42e9a6caf\
                             a1cf87585459cadbcb2f49bb695e4c01546f5072ff0a15a7db406f952b61f805";

    fn identity() -> Identity {
        Identity::parse(IDENTITY).unwrap()
    }

    fn order() -> AdmissionOrder {
        AdmissionOrder {
            cluster: ClusterId::from_bytes([0x10; 16]),
            incarnation: Incarnation::new(2).unwrap(),
            spki_sha256: [0x30; 32],
            role: NodeRole::Witness,
            zone: "zone-w".parse().unwrap(),
            expires_ms: 1_800_000_540_000,
        }
    }

    #[test]
    fn public_key_of_an_identity_is_for_ever_the_same() {
        assert_eq!(identity().public_key().to_string(), format!("{RECIPIENT}:{SIGNING}"));
    }

    #[test]
    fn approval_is_the_published_one_and_verifies() {
        let approval = identity().approve("ann".parse().unwrap(), &order());
        assert_eq!(approval.to_string(), format!("ann:{SIGNATURE}"));
        let key = identity().public_key().signing;
        assert!(CommandVerifier.verify(&key, &order().message(), &approval.signature));
        let other = Identity::generate().public_key().signing;
        assert!(!CommandVerifier.verify(&other, &order().message(), &approval.signature));
    }

    #[test]
    fn signing_key_is_neither_the_age_key_nor_made_of_the_same_bytes() {
        let identity = identity();
        let signing = identity.public_key().signing;
        let raw = pair_of(&identity.secret());
        assert_ne!(signing, raw.public_key().as_ref());
        let (_, recipient) = bech32::decode(&identity.recipient()).unwrap();
        assert_ne!(signing.as_slice(), recipient);
    }

    #[test]
    fn age_opens_what_is_encrypted_to_the_first_half_of_the_text() {
        let text = identity().public_key().to_string();
        let (recipient, _) = text.split_once(':').unwrap();
        let recipient: age::x25519::Recipient = recipient.parse().unwrap();
        let sealed = age::encrypt(&recipient, b"share").unwrap();
        let plain: age::x25519::Identity = IDENTITY.parse().unwrap();
        assert_eq!(age::decrypt(&plain, &sealed).unwrap(), b"share");
    }

    #[test]
    fn text_is_read_as_it_is_written_and_in_no_other_way() {
        let key = identity().public_key();
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key));
        let neutral = format!("01{}", "00".repeat(31));
        for wrong in [
            String::new(),
            RECIPIENT.to_owned(),
            SIGNING.to_owned(),
            format!("{SIGNING}:{RECIPIENT}"),
            format!("{RECIPIENT}:{}", &SIGNING[2..]),
            format!("{RECIPIENT}:{SIGNING}00"),
            format!("{RECIPIENT}:{}", SIGNING.to_uppercase()),
            format!("{}:{SIGNING}", RECIPIENT.to_uppercase()),
            format!("{}:{SIGNING}", RECIPIENT.replace('q', "p")),
            format!("{RECIPIENT}:{neutral}"),
            format!(" {text}"),
            format!("{text}\n"),
            format!("{IDENTITY}:{SIGNING}"),
        ] {
            assert!(wrong.parse::<OperatorKey>().is_err(), "{wrong:?}");
        }
    }
}
