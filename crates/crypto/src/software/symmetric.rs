//! AES-256 (envelope format 1, suite 1) and HMAC, on ring. Plain functions, two microseconds each.
//!
//! ring's key objects are made per call from the caller's bytes and are not wiped by ring: what they
//! leave on the stack is a stated limit. What lives longer is the [`OpenKey`] or [`SecretBytes`] alone.

use ring::hmac;
use twinkeep_core::key::Algorithm;
use twinkeep_envelope::ciphertext::{self, Header};
use twinkeep_envelope::{Context, OVERHEAD_BYTES, OpenKey, SealError, SecretBytes};
use zeroize::Zeroizing;

use crate::backend::{Error, Failure, KeyTemplate, Verdict};
use crate::limits::{self, PLAINTEXT_BYTES_MAX};

/// Seals a plaintext under a key version.
///
/// # Errors
/// [`Error::InvalidInput`] over [`PLAINTEXT_BYTES_MAX`]; [`Failure::Randomness`].
pub fn encrypt(
    template: &KeyTemplate,
    key: &OpenKey,
    plaintext: &[u8],
    context: &Context<'_>,
) -> Result<Vec<u8>, Error> {
    limits::check_plaintext(plaintext.len(), PLAINTEXT_BYTES_MAX)?;
    let header = Header::new(template.key_id, template.version);
    ciphertext::seal(key, &header, context, plaintext).map_err(|error| match error {
        SealError::Randomness => Failure::Randomness.into(),
        SealError::TooLong { .. } => Failure::Library { operation: "sealing" }.into(),
    })
}

/// Opens a ciphertext of this very key version.
///
/// # Errors
/// [`Error::InvalidCiphertext`], whatever does not fit; [`Error::InvalidInput`] for a blob that is longer
/// than any that [`encrypt`] makes.
pub fn decrypt(
    template: &KeyTemplate,
    key: &OpenKey,
    blob: &[u8],
    context: &Context<'_>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let way_out = "a ciphertext of this service is never so long";
    limits::check("ciphertext", blob.len(), PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES, way_out)?;
    // The envelope derives from the header that the blob brings along. Imported material may serve two
    // keys, and then the blob of one would open under the name of the other.
    let named = Header::parse(blob).map_err(|_| Error::InvalidCiphertext)?;
    if named != Header::new(template.key_id, template.version) {
        return Err(Error::InvalidCiphertext);
    }
    ciphertext::open(key, context, blob).map_err(|_| Error::InvalidCiphertext)
}

/// Computes a MAC of full length.
///
/// # Errors
/// [`Error::InvalidInput`] for a message over the limit; [`Failure::Library`] for an algorithm that is
/// no HMAC.
pub fn mac(key: &SecretBytes, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, Error> {
    limits::check_message(algorithm, message.len())?;
    Ok(hmac::sign(&hmac_key(key, algorithm)?, message).as_ref().to_vec())
}

/// Verifies a MAC of full length in constant time. A shorter one is never valid.
///
/// # Errors
/// As [`mac`].
pub fn verify_mac(
    key: &SecretBytes,
    algorithm: Algorithm,
    message: &[u8],
    mac: &[u8],
) -> Result<Verdict, Error> {
    limits::check_message(algorithm, message.len())?;
    let key = hmac_key(key, algorithm)?;
    Ok(Verdict::of(hmac::verify(&key, message, mac).is_ok()))
}

fn hmac_key(key: &SecretBytes, algorithm: Algorithm) -> Result<hmac::Key, Error> {
    let hash = match algorithm {
        Algorithm::HmacSha256 => hmac::HMAC_SHA256,
        Algorithm::HmacSha384 => hmac::HMAC_SHA384,
        Algorithm::HmacSha512 => hmac::HMAC_SHA512,
        _ => return Err(Failure::Library { operation: "choice of an HMAC hash" }.into()),
    };
    Ok(hmac::Key::new(hash, key.danger_expose()))
}
