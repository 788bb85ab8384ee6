//! Known answers, one per primitive, computed before the process takes any key in.
//!
//! A library that was built wrong, a processor that miscomputes or a swapped binary shows here first. A
//! verification has to accept the published signature and to refuse it with one bit flipped: a verifier
//! that accepts everything would pass the first half.

mod vectors;

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_envelope::{Context, OpenKey, SecretBytes};

use self::vectors as v;
use super::asymmetric::Pair;
use super::symmetric;
use crate::backend::{Error, KeyTemplate, Message, PublicKey};

/// The primitive whose known answer did not come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("self-test of {primitive} failed: a published answer did not come out")]
pub struct SelfTestFailed {
    /// The primitive.
    pub primitive: Primitive,
}

/// What the self-test covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primitive {
    /// AES-256-GCM by ring.
    Aes256Gcm,
    /// Envelope format 1, suite 1.
    Envelope,
    /// HMAC with the hash of this algorithm, by ring.
    Hmac(Algorithm),
    /// Ed25519 signing, which is deterministic, by aws-lc.
    Ed25519Signing,
    /// Verification by aws-lc with keys of this spec and algorithm.
    Signature(KeySpec, Algorithm),
    /// RSA decryption by aws-lc.
    RsaOaep,
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aes256Gcm => f.write_str("AES-256-GCM"),
            Self::Envelope => f.write_str("envelope format 1, suite 1"),
            Self::Hmac(algorithm) => write!(f, "{algorithm}"),
            Self::Ed25519Signing => f.write_str("signing with ED25519"),
            Self::Signature(spec, algorithm) => write!(f, "{algorithm} with {spec}"),
            Self::RsaOaep => write!(f, "{}", Algorithm::RsaOaepSha256),
        }
    }
}

/// Computes every known answer; takes a few milliseconds.
///
/// # Errors
/// [`SelfTestFailed`] with the first primitive that gave another answer. The process must then not
/// unseal.
pub fn self_test() -> Result<(), SelfTestFailed> {
    check(Primitive::Aes256Gcm, aes_256_gcm())?;
    check(Primitive::Envelope, envelope())?;
    for (algorithm, mac) in v::MACS {
        check(Primitive::Hmac(algorithm), hmac(algorithm, mac))?;
    }
    check(Primitive::Ed25519Signing, ed25519_signing())?;
    for vector in v::SIGNATURES {
        check(Primitive::Signature(vector.spec, vector.algorithm), signature(&vector))?;
    }
    check(Primitive::RsaOaep, rsa_oaep())
}

/// An operation that fails is as bad as one that gives a wrong answer.
fn check(primitive: Primitive, came_out: Result<bool, Error>) -> Result<(), SelfTestFailed> {
    match came_out {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(SelfTestFailed { primitive }),
    }
}

fn template(spec: KeySpec, usage: KeyUsage) -> KeyTemplate {
    KeyTemplate {
        key_id: KeyId::from_bytes(
            *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf",
        ),
        version: KeyVersionNumber::FIRST,
        version_id: KeyVersionId::from_random([0; 16]),
        spec,
        usage,
    }
}

fn aes_256_gcm() -> Result<bool, Error> {
    let key = || UnboundKey::new(&AES_256_GCM, &v::GCM_KEY).map(LessSafeKey::new);
    let nonce = || Nonce::assume_unique_for_key(v::GCM_IV);
    let mut buffer = v::GCM_PLAINTEXT;
    let sealed = key().and_then(|key| {
        key.seal_in_place_separate_tag(nonce(), Aad::from(v::GCM_AAD), &mut buffer)
    });
    let seals = buffer == v::GCM_CIPHERTEXT && sealed.is_ok_and(|tag| tag.as_ref() == v::GCM_TAG);

    let mut forged = [&v::GCM_CIPHERTEXT[..], &v::GCM_TAG].concat();
    forged[0] ^= 1;
    let opened = key()
        .and_then(|key| key.open_in_place(nonce(), Aad::from(v::GCM_AAD), &mut forged).map(drop));
    Ok(seals && opened.is_err())
}

fn envelope() -> Result<bool, Error> {
    let key = OpenKey::build(|bytes| bytes.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i));
    let pairs: [(&[u8], &[u8]); 2] = [(b"tenant", b"acme"), (b"app", b"billing")];
    let Ok(context) = Context::from_pairs(pairs) else { return Ok(false) };
    let template = template(KeySpec::Aes256, KeyUsage::EncryptDecrypt);
    let opened = symmetric::decrypt(&template, &key, &v::ENVELOPE_BLOB, &context)?;
    let elsewhere = symmetric::decrypt(&template, &key, &v::ENVELOPE_BLOB, &Context::NONE);
    Ok(*opened == b"key management" && elsewhere.is_err())
}

fn hmac(algorithm: Algorithm, expected: &[u8]) -> Result<bool, Error> {
    let key = SecretBytes::copy_of(&v::HMAC_KEY);
    let mac = symmetric::mac(&key, algorithm, &v::HMAC_MESSAGE)?;
    let altered = symmetric::verify_mac(&key, algorithm, b"another message", expected)?;
    Ok(mac == expected && !altered.is_valid())
}

fn ed25519_signing() -> Result<bool, Error> {
    let template = template(KeySpec::Ed25519, KeyUsage::SignVerify);
    let pair = Pair::open(&template, &v::ED25519_PRIVATE)?;
    let message = Message::Raw(&v::ED25519_MESSAGE);
    Ok(pair.sign(&template, Algorithm::Ed25519, message)? == v::ED25519_SIGNATURE)
}

fn signature(vector: &v::Signature) -> Result<bool, Error> {
    let template = template(vector.spec, KeyUsage::SignVerify);
    let key = Pair::open_public(&template, PublicKey::from_der(vector.public))?;
    let message = Message::Raw(vector.message);
    let verify = |signature: &[u8]| key.verify(&template, vector.algorithm, message, signature);
    let mut flipped = vector.signature.to_vec();
    *flipped.last_mut().expect("no vector is empty") ^= 1;
    Ok(verify(vector.signature)?.is_valid() && !verify(&flipped)?.is_valid())
}

fn rsa_oaep() -> Result<bool, Error> {
    let template = template(KeySpec::Rsa2048, KeyUsage::EncryptDecrypt);
    let key = Pair::open(&template, &v::RSA_OAEP_PRIVATE)?;
    let decrypt = |blob: &[u8]| key.decrypt(&template, Algorithm::RsaOaepSha256, blob);
    let mut flipped = v::RSA_OAEP_CIPHERTEXT;
    flipped[255] ^= 1;
    let opened = decrypt(&v::RSA_OAEP_CIPHERTEXT)?;
    Ok(*opened == v::RSA_OAEP_PLAINTEXT
        && matches!(decrypt(&flipped), Err(Error::InvalidCiphertext)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_answer_comes_out() {
        self_test().unwrap();
    }

    #[test]
    fn wrong_answer_names_its_primitive() {
        let primitive = Primitive::Signature(KeySpec::EcP384, Algorithm::EcdsaSha384);
        let failed = check(primitive, Ok(false)).unwrap_err();
        assert_eq!(
            failed.to_string(),
            "self-test of ECDSA_SHA_384 with EC_P384 failed: a published answer did not come out"
        );
        assert_eq!(check(primitive, Err(Error::InvalidCiphertext)), Err(failed));
    }

    #[test]
    fn changed_vectors_do_not_come_out() {
        for vector in v::SIGNATURES {
            let changed = v::Signature { message: b"changed", ..vector };
            assert!(!signature(&changed).unwrap(), "{} {}", changed.spec, changed.algorithm);
        }
        assert!(!hmac(Algorithm::HmacSha256, &[0; 32]).unwrap());
    }
}
