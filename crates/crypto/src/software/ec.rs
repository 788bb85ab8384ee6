//! ECDSA on P-256, P-384, P-521 and secp256k1 with DER signatures (FIPS 186-5, SEC 2), by aws-lc.
//!
//! Private keys are PKCS#8 v1 DER with an RFC 5915 `ECPrivateKey` inside. The nonce of a signature is
//! drawn by the library from its own generator, mixed with key and message. Signatures are not
//! normalised to low S.

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, KeyPair as _,
    ParsedPublicKey,
};
use twinkeep_core::key::{Algorithm, KeySpec};
use twinkeep_envelope::SecretBytes;

use super::asymmetric::{imported_digest, library, parse_canonical, unfit};
use crate::backend::{Error, Message, PublicKey, Verdict};

/// A key pair that signs.
pub(super) struct SigningKey {
    pair: EcdsaKeyPair,
    hash: &'static digest::Algorithm,
}

/// The public half.
pub(super) struct VerifyingKey {
    key: ParsedPublicKey,
    hash: &'static digest::Algorithm,
}

/// One curve with the one hash that its keys sign with.
struct Curve {
    signing: &'static EcdsaSigningAlgorithm,
    verifying: &'static EcdsaVerificationAlgorithm,
    hash: &'static digest::Algorithm,
}

fn curve(spec: KeySpec) -> Result<Curve, Error> {
    Ok(match spec {
        KeySpec::EcP256 => Curve {
            signing: &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            verifying: &signature::ECDSA_P256_SHA256_ASN1,
            hash: &digest::SHA256,
        },
        KeySpec::EcP384 => Curve {
            signing: &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            verifying: &signature::ECDSA_P384_SHA384_ASN1,
            hash: &digest::SHA384,
        },
        KeySpec::EcP521 => Curve {
            signing: &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
            verifying: &signature::ECDSA_P521_SHA512_ASN1,
            hash: &digest::SHA512,
        },
        KeySpec::EcP256k1 => Curve {
            signing: &signature::ECDSA_P256K1_SHA256_ASN1_SIGNING,
            verifying: &signature::ECDSA_P256K1_SHA256_ASN1,
            hash: &digest::SHA256,
        },
        _ => return Err(library("choice of a curve")),
    })
}

/// Makes a pair and returns it as PKCS#8.
pub(super) fn generate(spec: KeySpec) -> Result<SecretBytes, Error> {
    let pair =
        EcdsaKeyPair::generate(curve(spec)?.signing).map_err(|_| library("EC key generation"))?;
    encode(&pair)
}

fn encode(pair: &EcdsaKeyPair) -> Result<SecretBytes, Error> {
    let document = pair.to_pkcs8v1().map_err(|_| library("EC key encoding"))?;
    Ok(SecretBytes::copy_of(document.as_ref()))
}

impl SigningKey {
    /// Parses PKCS#8 and checks the curve, that the point is on it and that the halves belong together.
    pub(super) fn open(
        spec: KeySpec,
        pkcs8: &[u8],
    ) -> Result<(Self, VerifyingKey, PublicKey), Error> {
        let curve = curve(spec)?;
        let pair = EcdsaKeyPair::from_pkcs8(curve.signing, pkcs8)
            .map_err(|_| unfit("key material", "is not a sound key of this curve in PKCS#8 DER"))?;
        let der: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| library("EC public key encoding"))?;
        let public = PublicKey::from_der(der.as_ref());
        let verifying = VerifyingKey::open(spec, &public)?;
        Ok((Self { pair, hash: curve.hash }, verifying, public))
    }

    /// Returns the pair in the one form in which it is stored.
    pub(super) fn encode(&self) -> Result<SecretBytes, Error> {
        encode(&self.pair)
    }

    pub(super) fn sign(
        &self,
        algorithm: Algorithm,
        message: Message<'_>,
    ) -> Result<Vec<u8>, Error> {
        match message {
            Message::Raw(message) => self.pair.sign(&SystemRandom::new(), message),
            Message::Digest(bytes) => {
                self.pair.sign_digest(&imported_digest(bytes, self.hash, algorithm)?)
            }
        }
        .map(|signature| signature.as_ref().to_vec())
        .map_err(|_| library("ECDSA signing"))
    }
}

impl VerifyingKey {
    pub(super) fn open(spec: KeySpec, key: &PublicKey) -> Result<Self, Error> {
        let curve = curve(spec)?;
        Ok(Self { key: parse_canonical(curve.verifying, key)?, hash: curve.hash })
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<Verdict, Error> {
        let checked = match message {
            Message::Raw(message) => self.key.verify_sig(message, signature),
            Message::Digest(bytes) => {
                let digest = imported_digest(bytes, self.hash, algorithm)?;
                self.key.verify_digest_sig(&digest, signature)
            }
        };
        Ok(Verdict::of(checked.is_ok()))
    }
}
