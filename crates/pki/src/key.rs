//! Key pairs of certificates, and the requests that carry a public key to an authority.
//!
//! Our own keys are ECDSA P-256: every TLS stack that calls a gRPC service verifies it. A request
//! of somebody else may also carry P-384 or Ed25519.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use zeroize::Zeroizing;

use crate::certificate::{SpkiSha256, sha256};

/// Why a key pair could not be made, read or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness, or the library refused to work.
    #[error("the cryptographic library failed")]
    Library,
    /// The bytes are no PKCS#8 document with a P-256 key.
    #[error("not a PKCS#8 document with an ECDSA P-256 key")]
    Encoding,
}

/// A private key of a node, a caller, an endpoint or an authority: ECDSA P-256.
///
/// The PKCS#8 bytes are wiped on drop, and so is the library's copy of the number. No `Clone`; `Debug` shows
/// the public half.
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
}

impl PrivateKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`KeyError::Library`] when there is no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Library)?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Library)?;
        Ok(Self { pkcs8: Zeroizing::new(document.as_ref().to_vec()), pair })
    }

    /// Reads a PKCS#8 document.
    ///
    /// # Errors
    /// [`KeyError::Encoding`] when it holds anything but a P-256 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
            .map_err(|_| KeyError::Encoding)?;
        Ok(Self { pkcs8: Zeroizing::new(pkcs8.to_vec()), pair })
    }

    /// Returns the private key as a PKCS#8 document. Whoever copies it, wipes the copy.
    #[must_use]
    pub fn danger_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Returns the public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of(self.subject_public_key_info()).expect("P-256 is among the accepted keys")
    }

    /// Writes a certificate request (PKCS#10, DER) that carries the public key and no name at all:
    /// the authority decides on names.
    ///
    /// # Errors
    /// [`KeyError::Library`] when signing fails.
    pub fn certificate_request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(self).map_err(|_| KeyError::Library)?;
        Ok(request.der().to_vec())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("public", &self.pair.public_key())
            .finish_non_exhaustive()
    }
}

// rcgen's own key pair keeps the private key in a buffer that is not wiped; this is all it needs of ours.
impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
    }
}

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request is longer than [`PublicKey::REQUEST_BYTES_MAX`].
    #[error("a certificate request has at most {} bytes", PublicKey::REQUEST_BYTES_MAX)]
    TooLong,
    /// The bytes are not one PKCS#10 request.
    #[error("not a DER-encoded certificate request (PKCS#10)")]
    Encoding,
    /// The signature does not prove that the sender holds the key.
    #[error("the signature of the certificate request does not verify")]
    Signature,
    /// The key is of a kind that we issue no certificates for.
    #[error("the key is not ECDSA P-256, ECDSA P-384 or Ed25519")]
    KeyKind,
}

/// A public key that an authority may certify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(SubjectPublicKeyInfo);

impl PublicKey {
    /// Longest certificate request that is read, in bytes.
    pub const REQUEST_BYTES_MAX: usize = 8 << 10;

    /// Takes the key of a certificate request (PKCS#10, DER) whose signature verifies.
    ///
    /// Names and extensions that the request asks for are ignored: the authority decides on them.
    ///
    /// # Errors
    /// [`RequestError`] with the first thing that is wrong.
    pub fn of_request(request: &[u8]) -> Result<Self, RequestError> {
        if request.len() > Self::REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong);
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(request) else {
            return Err(RequestError::Encoding);
        };
        let key = Self::of(request.certification_request_info.subject_pki.raw)?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        Ok(key)
    }

    /// Reads a DER-encoded `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`RequestError::KeyKind`] when it is none, or of a kind that we issue no certificates for.
    pub fn from_spki(der: &[u8]) -> Result<Self, RequestError> {
        let key = Self::of(der)?;
        // One key has one form: what is hashed is what was read.
        if key.spki() == der { Ok(key) } else { Err(RequestError::KeyKind) }
    }

    /// Returns the DER-encoded `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// Names the key: SHA-256 over its `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn sha256(&self) -> SpkiSha256 {
        sha256(&self.0.subject_public_key_info())
    }

    fn of(spki: impl AsRef<[u8]>) -> Result<Self, RequestError> {
        let key =
            SubjectPublicKeyInfo::from_der(spki.as_ref()).map_err(|_| RequestError::KeyKind)?;
        let accepted =
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if accepted.contains(&PublicKeyData::algorithm(&key)) {
            Ok(Self(key))
        } else {
            Err(RequestError::KeyKind)
        }
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_carries_the_key_of_its_signer() {
        let key = PrivateKey::generate().unwrap();
        let request = key.certificate_request().unwrap();
        assert_eq!(PublicKey::of_request(&request).unwrap(), key.public_key());
    }

    #[test]
    fn key_is_read_as_it_is_written_and_nothing_else_is() {
        let key = PrivateKey::generate().unwrap().public_key();
        let der = key.spki();
        assert_eq!(PublicKey::from_spki(&der).unwrap(), key);
        for len in 0..der.len() {
            PublicKey::from_spki(&der[..len]).unwrap_err();
        }
        PublicKey::from_spki(&[&der[..], &[0]].concat()).unwrap_err();
    }

    #[test]
    fn request_with_a_flipped_bit_never_gives_another_key() {
        let key = PrivateKey::generate().unwrap();
        let request = key.certificate_request().unwrap();
        let mut refused = 0;
        for at in 0..request.len() {
            let mut bad = request.clone();
            bad[at] ^= 1;
            match PublicKey::of_request(&bad) {
                // The parser overlooks the tag inside the outer algorithm name, which nothing depends on.
                Ok(same) => assert_eq!(same, key.public_key(), "byte {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= request.len() - 2, "{refused} of {}", request.len());
    }

    #[test]
    fn truncated_extended_and_oversized_requests_are_refused() {
        let request = PrivateKey::generate().unwrap().certificate_request().unwrap();
        for len in 0..request.len() {
            assert!(PublicKey::of_request(&request[..len]).is_err(), "{len} bytes");
        }
        let mut longer = request.clone();
        longer.push(0);
        assert_eq!(PublicKey::of_request(&longer), Err(RequestError::Encoding));
        longer.resize(PublicKey::REQUEST_BYTES_MAX + 1, 0);
        assert_eq!(PublicKey::of_request(&longer), Err(RequestError::TooLong));
    }

    #[test]
    fn request_with_a_key_of_another_kind_is_refused() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        assert_eq!(PublicKey::of_request(request.der()), Err(RequestError::KeyKind));
    }

    #[test]
    fn private_key_survives_its_pkcs8_form_and_never_prints() {
        let key = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pkcs8(key.danger_pkcs8()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert!(format!("{key:?}").len() < 300);
        assert_eq!(PrivateKey::from_pkcs8(b"junk").unwrap_err(), KeyError::Encoding);
    }
}
