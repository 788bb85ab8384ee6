//! RSA: PSS and PKCS#1 v1.5 signatures, OAEP encryption (RFC 8017), by aws-lc.
//!
//! Private keys are PKCS#8 v1 DER; the parsed objects live inside a handle only. aws-lc wipes whatever
//! it frees (`OPENSSL_free` in its `crypto/mem.c`), so that a dropped handle leaves no key behind.
//! Keys of ours have the public exponent 65537 and a modulus of exactly the bits of their spec.
//! Decryption by PKCS#1 v1.5 is not offered: it cannot be made safe.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    self, KeyPair as _, RsaKeyPair, RsaParameters, RsaPublicKeyComponents, RsaSignatureEncoding,
    RsaSubjectPublicKey, UnparsedPublicKey,
};
use twinkeep_core::key::{Algorithm, KeySpec};
use twinkeep_envelope::SecretBytes;
use zeroize::Zeroizing;

use super::asymmetric::{imported_digest, library, unfit};
use crate::backend::{Error, Message, PublicKey, Verdict};

/// The public exponent of every key: 65537, big-endian.
const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];

/// A key pair that signs.
pub(super) struct SigningKey(RsaKeyPair);

/// The public half of a pair that signs. Parsed per call, since the library ties a parsed key to one
/// padding and hash, and a key of ours serves six.
pub(super) struct VerifyingKey(PublicKey);

/// A key pair that decrypts.
pub(super) struct DecryptingKey(OaepPrivateDecryptingKey);

/// The public half of a pair that decrypts.
pub(super) struct EncryptingKey(OaepPublicEncryptingKey);

/// The three faces of one signature scheme in the library.
struct Scheme {
    signing: &'static RsaSignatureEncoding,
    verifying: &'static RsaParameters,
    hash: &'static digest::Algorithm,
}

fn scheme(algorithm: Algorithm) -> Option<Scheme> {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512};
    Some(match algorithm {
        Algorithm::RsaPssSha256 => Scheme {
            signing: &signature::RSA_PSS_SHA256,
            verifying: &signature::RSA_PSS_2048_8192_SHA256,
            hash: &SHA256,
        },
        Algorithm::RsaPssSha384 => Scheme {
            signing: &signature::RSA_PSS_SHA384,
            verifying: &signature::RSA_PSS_2048_8192_SHA384,
            hash: &SHA384,
        },
        Algorithm::RsaPssSha512 => Scheme {
            signing: &signature::RSA_PSS_SHA512,
            verifying: &signature::RSA_PSS_2048_8192_SHA512,
            hash: &SHA512,
        },
        Algorithm::RsaPkcs1Sha256 => Scheme {
            signing: &signature::RSA_PKCS1_SHA256,
            verifying: &signature::RSA_PKCS1_2048_8192_SHA256,
            hash: &SHA256,
        },
        Algorithm::RsaPkcs1Sha384 => Scheme {
            signing: &signature::RSA_PKCS1_SHA384,
            verifying: &signature::RSA_PKCS1_2048_8192_SHA384,
            hash: &SHA384,
        },
        Algorithm::RsaPkcs1Sha512 => Scheme {
            signing: &signature::RSA_PKCS1_SHA512,
            verifying: &signature::RSA_PKCS1_2048_8192_SHA512,
            hash: &SHA512,
        },
        _ => return None,
    })
}

fn oaep(algorithm: Algorithm) -> Option<&'static OaepAlgorithm> {
    match algorithm {
        Algorithm::RsaOaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
        Algorithm::RsaOaepSha384 => Some(&OAEP_SHA384_MGF1SHA384),
        Algorithm::RsaOaepSha512 => Some(&OAEP_SHA512_MGF1SHA512),
        _ => None,
    }
}

fn key_size(spec: KeySpec) -> Option<KeySize> {
    match spec {
        KeySpec::Rsa2048 => Some(KeySize::Rsa2048),
        KeySpec::Rsa3072 => Some(KeySize::Rsa3072),
        KeySpec::Rsa4096 => Some(KeySize::Rsa4096),
        _ => None,
    }
}

/// Makes a pair and returns it as PKCS#8. Takes 50 ms to seconds.
pub(super) fn generate(spec: KeySpec) -> Result<SecretBytes, Error> {
    let size = key_size(spec).ok_or_else(|| library("choice of an RSA key size"))?;
    let pair = RsaKeyPair::generate(size).map_err(|_| library("RSA key generation"))?;
    encode(&pair)
}

fn encode(pair: &RsaKeyPair) -> Result<SecretBytes, Error> {
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| library("RSA key encoding"))?;
    Ok(SecretBytes::copy_of(der.as_ref()))
}

/// Checks size and exponent of a public key and returns its one canonical `SubjectPublicKeyInfo`.
fn canonical(spec: KeySpec, public: &RsaSubjectPublicKey) -> Result<PublicKey, Error> {
    let size = key_size(spec).ok_or_else(|| library("choice of an RSA key size"))?;
    let modulus = public.modulus().big_endian_without_leading_zero();
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if bits != size.len() * 8 {
        return Err(unfit("key", "has a modulus of another length than its key spec says"));
    }
    if public.exponent().big_endian_without_leading_zero() != PUBLIC_EXPONENT {
        return Err(unfit("key", "has a public exponent other than 65537"));
    }
    let components = RsaPublicKeyComponents { n: modulus, e: PUBLIC_EXPONENT.as_slice() };
    let der: PublicKeyX509Der<'_> =
        components.as_der().map_err(|_| library("RSA public key encoding"))?;
    Ok(PublicKey::from_der(der.as_ref()))
}

/// Parses a public key, which has to be in its canonical form: no other algorithm identifier, nothing
/// behind it.
fn parse_public(spec: KeySpec, key: &PublicKey) -> Result<(), Error> {
    let parsed = RsaSubjectPublicKey::from_der(key.as_der())
        .map_err(|_| unfit("public key", "is not an RSA key in SubjectPublicKeyInfo DER"))?;
    if canonical(spec, &parsed)? != *key {
        return Err(unfit("public key", "is not in canonical SubjectPublicKeyInfo DER"));
    }
    Ok(())
}

impl SigningKey {
    /// Parses PKCS#8 and checks size, exponent and the consistency of all numbers.
    pub(super) fn open(spec: KeySpec, pkcs8: &[u8]) -> Result<(Self, VerifyingKey), Error> {
        let pair = RsaKeyPair::from_pkcs8(pkcs8)
            .map_err(|_| unfit("key material", "is not a sound RSA key in PKCS#8 DER"))?;
        let public = canonical(spec, pair.public_key())?;
        Ok((Self(pair), VerifyingKey(public)))
    }

    /// Returns the pair in the one form in which it is stored.
    pub(super) fn encode(&self) -> Result<SecretBytes, Error> {
        encode(&self.0)
    }

    pub(super) fn sign(
        &self,
        algorithm: Algorithm,
        message: Message<'_>,
    ) -> Result<Vec<u8>, Error> {
        let scheme = scheme(algorithm).ok_or_else(|| library("choice of an RSA scheme"))?;
        let mut signature = vec![0; self.0.public_modulus_len()];
        match message {
            Message::Raw(message) => {
                self.0.sign(scheme.signing, &SystemRandom::new(), message, &mut signature)
            }
            Message::Digest(bytes) => {
                let digest = imported_digest(bytes, scheme.hash, algorithm)?;
                self.0.sign_digest(scheme.signing, &digest, &mut signature)
            }
        }
        .map_err(|_| library("RSA signing"))?;
        Ok(signature)
    }
}

impl VerifyingKey {
    pub(super) fn open(spec: KeySpec, key: PublicKey) -> Result<Self, Error> {
        parse_public(spec, &key)?;
        Ok(Self(key))
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.0
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<Verdict, Error> {
        let scheme = scheme(algorithm).ok_or_else(|| library("choice of an RSA scheme"))?;
        let key = UnparsedPublicKey::new(scheme.verifying, self.0.as_der());
        let checked = match message {
            Message::Raw(message) => key.verify(message, signature),
            Message::Digest(bytes) => {
                let digest: Digest = imported_digest(bytes, scheme.hash, algorithm)?;
                key.verify_digest(&digest, signature)
            }
        };
        Ok(Verdict::of(checked.is_ok()))
    }
}

impl DecryptingKey {
    /// Parses PKCS#8 with the checks of [`SigningKey::open`].
    pub(super) fn open(
        spec: KeySpec,
        pkcs8: &[u8],
    ) -> Result<(Self, EncryptingKey, PublicKey), Error> {
        let (_, VerifyingKey(public)) = SigningKey::open(spec, pkcs8)?;
        let private = PrivateDecryptingKey::from_pkcs8(pkcs8)
            .and_then(|key| Ok(OaepPrivateDecryptingKey::new(key)?))
            .map_err(|_| unfit("key material", "is not a sound RSA key in PKCS#8 DER"))?;
        let encrypting = EncryptingKey::open(spec, &public)?;
        Ok((Self(private), encrypting, public))
    }

    /// Every failure is the same error: a difference would be Manger's oracle.
    pub(super) fn decrypt(
        &self,
        algorithm: Algorithm,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let oaep = oaep(algorithm).ok_or_else(|| library("choice of an OAEP hash"))?;
        let mut buffer = Zeroizing::new(vec![0; self.0.min_output_size()]);
        let plaintext = self
            .0
            .decrypt(oaep, ciphertext, &mut buffer, None)
            .map_err(|_| Error::InvalidCiphertext)?;
        Ok(Zeroizing::new(plaintext.to_vec()))
    }
}

impl EncryptingKey {
    pub(super) fn open(spec: KeySpec, key: &PublicKey) -> Result<Self, Error> {
        parse_public(spec, key)?;
        PublicEncryptingKey::from_der(key.as_der())
            .and_then(|key| Ok(OaepPublicEncryptingKey::new(key)?))
            .map(Self)
            .map_err(|_| unfit("public key", "is not an RSA key in SubjectPublicKeyInfo DER"))
    }

    /// The caller has checked the length against [`crate::limits::oaep_plaintext_bytes_max`].
    pub(super) fn encrypt(&self, algorithm: Algorithm, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let oaep = oaep(algorithm).ok_or_else(|| library("choice of an OAEP hash"))?;
        let mut ciphertext = vec![0; self.0.ciphertext_size()];
        let written = self
            .0
            .encrypt(oaep, plaintext, &mut ciphertext, None)
            .map_err(|_| library("RSA encryption"))?
            .len();
        ciphertext.truncate(written);
        Ok(ciphertext)
    }
}
