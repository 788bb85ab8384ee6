//! Ed25519: PureEdDSA on edwards25519 (RFC 8032, section 5.1), by aws-lc.
//!
//! Private keys are PKCS#8 v1 DER (RFC 8410), as OpenSSL writes them. A digest cannot be signed: the
//! scheme hashes the message twice, and Ed25519ph, which takes a digest, is another algorithm.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use twinkeep_envelope::SecretBytes;

use super::asymmetric::{library, parse_canonical, unfit};
use crate::backend::{Error, Message, PublicKey, Verdict};

/// A key pair that signs.
pub(super) struct SigningKey(Ed25519KeyPair);

/// The public half.
pub(super) struct VerifyingKey(ParsedPublicKey);

fn raw(message: Message<'_>) -> Result<&[u8], Error> {
    match message {
        Message::Raw(message) => Ok(message),
        Message::Digest(_) => Err(unfit(
            "message type",
            "DIGEST does not go with ED25519_SHA_512; send the message itself as RAW",
        )),
    }
}

/// Makes a pair and returns it as PKCS#8.
pub(super) fn generate() -> Result<SecretBytes, Error> {
    let pair = Ed25519KeyPair::generate().map_err(|_| library("Ed25519 key generation"))?;
    encode(&pair)
}

fn encode(pair: &Ed25519KeyPair) -> Result<SecretBytes, Error> {
    let document = pair.to_pkcs8v1().map_err(|_| library("Ed25519 key encoding"))?;
    Ok(SecretBytes::copy_of(document.as_ref()))
}

impl SigningKey {
    /// Parses PKCS#8 v1 or v2. The public half is computed from the seed; one that is given along has
    /// to be the same, since whoever trusts a caller's gives the key away (RUSTSEC-2022-0093).
    pub(super) fn open(pkcs8: &[u8]) -> Result<(Self, VerifyingKey, PublicKey), Error> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|_| unfit("key material", "is not a sound Ed25519 key in PKCS#8 DER"))?;
        let der: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| library("Ed25519 public key encoding"))?;
        let public = PublicKey::from_der(der.as_ref());
        let verifying = VerifyingKey::open(&public)?;
        Ok((Self(pair), verifying, public))
    }

    /// Returns the pair in the one form in which it is stored.
    pub(super) fn encode(&self) -> Result<SecretBytes, Error> {
        encode(&self.0)
    }

    pub(super) fn sign(&self, message: Message<'_>) -> Result<Vec<u8>, Error> {
        let signature = self.0.try_sign(raw(message)?).map_err(|_| library("Ed25519 signing"))?;
        Ok(signature.as_ref().to_vec())
    }
}

impl VerifyingKey {
    pub(super) fn open(key: &PublicKey) -> Result<Self, Error> {
        parse_canonical(&ED25519, key).map(Self)
    }

    pub(super) fn verify(&self, message: Message<'_>, signature: &[u8]) -> Result<Verdict, Error> {
        Ok(Verdict::of(self.0.verify_sig(raw(message)?, signature).is_ok()))
    }
}
