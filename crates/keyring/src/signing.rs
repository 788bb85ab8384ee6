//! Signing what data nodes alone may say, and checking it anywhere.
//!
//! Ed25519 (RFC 8032) with the seed derived from the epoch key: any unsealed data node can sign, the
//! witness, which has no epoch key, cannot. The seed is derived for each signature and not kept.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use ring::hmac;
use twinkeep_core::command::{Batch, Purpose, SignatureVerifier, SignedBatch, Signer};
use twinkeep_core::id::{ClusterId, Epoch, Incarnation, NodeId};
use twinkeep_core::record::Digest;
use twinkeep_envelope::kdf::derive;
use twinkeep_envelope::{ExposeKey, OpenKey};

use crate::keyring::Keyring;
use crate::label;

/// Length of a signature in bytes.
const SIGNATURE_LEN: usize = 64;

impl Keyring {
    /// Signs the exact bytes of a payload for this cluster's current epoch.
    #[must_use]
    pub fn sign(
        &self,
        purpose: Purpose,
        incarnation: Incarnation,
        node: NodeId,
        payload: &[u8],
    ) -> (Epoch, [u8; SIGNATURE_LEN]) {
        let (cluster, epoch) = (self.cluster, self.current);
        let signer = Signer { cluster, incarnation, epoch, node };
        (epoch, sign(self.current_key(), &signer, purpose, payload))
    }

    /// Signs a batch of commands.
    #[must_use]
    pub fn sign_batch(&self, incarnation: Incarnation, node: NodeId, batch: &Batch) -> SignedBatch {
        let batch = batch.to_bytes();
        let (epoch, signature) = self.sign(Purpose::Command, incarnation, node, &batch);
        SignedBatch { incarnation, epoch, signer: node, batch, signature }
    }

    /// Digests a request, to tell a repeated call from another one with the same token. Keyed, since
    /// a request may hold guessable secrets and the digest is stored in the clear.
    #[must_use]
    pub fn request_digest(&self, request: &[u8]) -> Digest {
        let key = derive(self.current_key(), label::REQUEST, self.cluster.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.danger_expose());
        let tag = hmac::sign(&key, request);
        Digest(tag.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes"))
    }
}

/// Signs with the command key of the signer's epoch.
pub(crate) fn sign(
    epoch_key: &impl ExposeKey,
    signer: &Signer,
    purpose: Purpose,
    payload: &[u8],
) -> [u8; SIGNATURE_LEN] {
    let pair = key_pair(epoch_key, signer.cluster, signer.epoch);
    let signature = pair.sign(&signer.message(purpose, payload));
    signature.as_ref().try_into().expect("Ed25519 signatures have 64 bytes")
}

/// Returns the public half of an epoch's command key.
pub(crate) fn public_key(epoch_key: &impl ExposeKey, cluster: ClusterId, epoch: Epoch) -> [u8; 32] {
    let pair = key_pair(epoch_key, cluster, epoch);
    pair.public_key().as_ref().try_into().expect("Ed25519 public keys have 32 bytes")
}

fn key_pair(epoch_key: &impl ExposeKey, cluster: ClusterId, epoch: Epoch) -> Ed25519KeyPair {
    let context = [cluster.as_bytes().as_slice(), &epoch.get().to_be_bytes()].concat();
    pair_of(&derive(epoch_key, label::COMMAND, &context))
}

/// Returns the key pair of a seed.
pub(crate) fn pair_of(seed: &OpenKey) -> Ed25519KeyPair {
    // AWS-LC clears the key when it frees it.
    Ed25519KeyPair::from_seed_unchecked(seed.danger_expose()).expect("a seed is any 32 bytes")
}

/// Checks signatures; needs no secret, so the witness has one too.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommandVerifier;

impl SignatureVerifier for CommandVerifier {
    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        // AWS-LC refuses S >= L. A key of small order it takes, and such a key has signatures that
        // fit many messages.
        !has_small_order(public)
            && UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
    }
}

/// Encodings of the points whose order divides 8, without the sign bit; the last two are not reduced.
const SMALL_ORDER: [[u8; 32]; 7] = [
    with_ends(0x00, 0x00, 0x00),
    with_ends(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
];

const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// The key is public: no need for constant time.
pub(crate) fn has_small_order(public: &[u8; 32]) -> bool {
    let mut without_sign = *public;
    without_sign[31] &= 0x7f;
    SMALL_ORDER.contains(&without_sign)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::edwards::CompressedEdwardsY;
    use curve25519_dalek::traits::IsIdentity as _;

    use super::*;

    const VECTOR: &str = "f272b834fb90f07b9081ed6eac3f970f8b299372966063d271d4040ff399545b\
                          8f2fdc6c0ffd4f967ca2d0d1f21b7ad62f84a96a382695824e41d0378e4d1b0e";

    fn epoch_key() -> OpenKey {
        OpenKey::build(|bytes| bytes.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i))
    }

    fn cluster() -> ClusterId {
        ClusterId::from_bytes(std::array::from_fn(|i| 0x10 + u8::try_from(i).unwrap()))
    }

    fn signer() -> Signer {
        let node = NodeId::new(2).unwrap();
        Signer { cluster: cluster(), incarnation: Incarnation::FIRST, epoch: Epoch::FIRST, node }
    }

    fn vector() -> [u8; 64] {
        hex::decode(VECTOR).unwrap().try_into().unwrap()
    }

    #[test]
    fn command_key_and_signature_are_the_published_ones() {
        let public = public_key(&epoch_key(), cluster(), Epoch::FIRST);
        assert_eq!(
            hex::encode(public),
            "9fb2a1696c65e5ab4cd680988c663436d8557f126a45a4ddddd6edf939c661cb"
        );
        let message = signer().message(Purpose::Command, b"batch");
        let signature = sign(&epoch_key(), &signer(), Purpose::Command, b"batch");
        assert_eq!(hex::encode(signature), VECTOR);
        assert!(CommandVerifier.verify(&public, &message, &vector()));
    }

    #[test]
    fn ring_signs_and_verifies_the_same() {
        use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
        let message = signer().message(Purpose::Command, b"batch");
        let context = [cluster().as_bytes().as_slice(), &[0, 0, 0, 1]].concat();
        let seed = derive(&epoch_key(), label::COMMAND, &context);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.danger_expose()).unwrap();
        assert_eq!(pair.sign(&message).as_ref(), vector());
        let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
        assert!(public.verify(&message, &vector()).is_ok());
    }

    #[test]
    fn signature_holds_for_its_own_purpose_and_place_alone() {
        let public = public_key(&epoch_key(), cluster(), Epoch::FIRST);
        let holds = |signer: Signer, purpose, payload: &[u8]| {
            CommandVerifier.verify(&public, &signer.message(purpose, payload), &vector())
        };
        assert!(holds(signer(), Purpose::Command, b"batch"));
        assert!(!holds(signer(), Purpose::Snapshot, b"batch"));
        assert!(!holds(signer(), Purpose::Command, b"batch2"));
        let two = NodeId::new(3).unwrap();
        assert!(!holds(Signer { node: two, ..signer() }, Purpose::Command, b"batch"));
        let next = Incarnation::new(2).unwrap();
        assert!(!holds(Signer { incarnation: next, ..signer() }, Purpose::Command, b"batch"));
        let epoch = Epoch::new(2).unwrap();
        assert!(!holds(Signer { epoch, ..signer() }, Purpose::Command, b"batch"));
        let other = ClusterId::from_bytes([0; 16]);
        assert!(!holds(Signer { cluster: other, ..signer() }, Purpose::Command, b"batch"));
    }

    #[test]
    fn each_bit_flip_of_a_signature_is_refused() {
        let public = public_key(&epoch_key(), cluster(), Epoch::FIRST);
        let message = signer().message(Purpose::Command, b"batch");
        for bit in 0..512 {
            let mut flipped = vector();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!CommandVerifier.verify(&public, &message, &flipped), "bit {bit}");
        }
    }

    #[test]
    fn second_encoding_of_a_signature_is_refused() {
        // S + L, with L the order of the base point.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut malleable = vector();
        let mut carry = 0;
        for (byte, l) in malleable[32..].iter_mut().zip(order.unwrap()) {
            let sum = u16::from(*byte) + u16::from(l) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        let public = public_key(&epoch_key(), cluster(), Epoch::FIRST);
        let message = signer().message(Purpose::Command, b"batch");
        assert!(!CommandVerifier.verify(&public, &message, &malleable));
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        for point in EIGHT_TORSION {
            assert!(has_small_order(&point.compress().to_bytes()));
        }
        for sign in [0x00, 0x80] {
            for mut encoding in SMALL_ORDER {
                encoding[31] |= sign;
                assert!(has_small_order(&encoding));
                // Where the encoding is one of a point, the point is one of the eight.
                if let Some(point) = CompressedEdwardsY(encoding).decompress() {
                    assert!(point.mul_by_cofactor().is_identity());
                }
            }
        }
        assert!(!has_small_order(&ED25519_BASEPOINT_POINT.compress().to_bytes()));
    }

    /// Under the neutral point as key, R = S·B fits every message: with S = 0, R is neutral as well.
    #[test]
    fn signature_under_the_neutral_key_is_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let unguarded = UnparsedPublicKey::new(&ED25519, neutral);
        assert!(unguarded.verify(b"anything", &signature).is_ok(), "why the check is there");
        assert!(!CommandVerifier.verify(&neutral, b"anything", &signature));
    }
}
