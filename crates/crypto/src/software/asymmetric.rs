//! Key pairs of all kinds behind one type: which halves there are, and what each can do.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_envelope::SecretBytes;
use zeroize::Zeroizing;

use super::{ec, ed25519, rsa};
use crate::backend::{Error, Failure, InvalidInput, KeyTemplate, Message, PublicKey, Verdict};

/// A key pair, or the public half of one.
pub(super) struct Pair {
    private: Option<Private>,
    public: Public,
    public_der: PublicKey,
}

enum Private {
    RsaSigning(rsa::SigningKey),
    RsaDecrypting(rsa::DecryptingKey),
    Ec(ec::SigningKey),
    Ed25519(ed25519::SigningKey),
}

enum Public {
    RsaVerifying(rsa::VerifyingKey),
    RsaEncrypting(rsa::EncryptingKey),
    Ec(ec::VerifyingKey),
    Ed25519(ed25519::VerifyingKey),
}

/// How a spec and its usage are computed.
enum Kind {
    RsaSigning,
    RsaDecrypting,
    Ec,
    Ed25519,
}

fn kind(template: &KeyTemplate) -> Result<Kind, Error> {
    template.check_usage()?;
    match (template.spec, template.usage) {
        (KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096, KeyUsage::SignVerify) => {
            Ok(Kind::RsaSigning)
        }
        (KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096, _) => Ok(Kind::RsaDecrypting),
        (KeySpec::EcP256 | KeySpec::EcP384 | KeySpec::EcP521 | KeySpec::EcP256k1, _) => {
            Ok(Kind::Ec)
        }
        (KeySpec::Ed25519, _) => Ok(Kind::Ed25519),
        (KeySpec::Aes256 | KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512, _) => {
            Err(unsupported(template, "a key pair"))
        }
    }
}

fn unsupported(template: &KeyTemplate, wanted: &'static str) -> Error {
    Error::unsupported(template.spec, template.usage, wanted)
}

/// Makes PKCS#8 of a new pair, tested by use in the form in which it will be stored.
pub(super) fn generate(template: &KeyTemplate) -> Result<(SecretBytes, PublicKey), Error> {
    let pkcs8 = match kind(template)? {
        Kind::RsaSigning | Kind::RsaDecrypting => rsa::generate(template.spec)?,
        Kind::Ec => ec::generate(template.spec)?,
        Kind::Ed25519 => ed25519::generate()?,
    };
    let pair = Pair::open(template, pkcs8.danger_expose())?;
    pair.test_by_use(template)?;
    Ok((pkcs8, pair.public_der))
}

/// Checks PKCS#8 made elsewhere, tests it by use, and returns it in the form in which ours is stored.
pub(super) fn import(
    template: &KeyTemplate,
    pkcs8: &[u8],
) -> Result<(SecretBytes, PublicKey), Error> {
    if !is_one_der_sequence(pkcs8) {
        return Err(unfit("key material", "is not one DER sequence from first to last byte"));
    }
    let pair = Pair::open(template, pkcs8)?;
    pair.test_by_use(template)?;
    let canonical = match &pair.private {
        Some(Private::RsaSigning(key)) => key.encode()?,
        Some(Private::Ec(key)) => key.encode()?,
        Some(Private::Ed25519(key)) => key.encode()?,
        // The decrypting type of the library has no way back to PKCS#8; the signing type reads the same.
        Some(Private::RsaDecrypting(_)) => {
            rsa::SigningKey::open(template.spec, pkcs8)?.0.encode()?
        }
        None => return Err(unsupported(template, "a private key")),
    };
    Ok((canonical, pair.public_der))
}

impl Pair {
    /// Parses PKCS#8.
    pub(super) fn open(template: &KeyTemplate, pkcs8: &[u8]) -> Result<Self, Error> {
        let (private, public, public_der) = match kind(template)? {
            Kind::RsaSigning => {
                let (private, public) = rsa::SigningKey::open(template.spec, pkcs8)?;
                let der = public.public_key().clone();
                (Private::RsaSigning(private), Public::RsaVerifying(public), der)
            }
            Kind::RsaDecrypting => {
                let (private, public, der) = rsa::DecryptingKey::open(template.spec, pkcs8)?;
                (Private::RsaDecrypting(private), Public::RsaEncrypting(public), der)
            }
            Kind::Ec => {
                let (private, public, der) = ec::SigningKey::open(template.spec, pkcs8)?;
                (Private::Ec(private), Public::Ec(public), der)
            }
            Kind::Ed25519 => {
                let (private, public, der) = ed25519::SigningKey::open(pkcs8)?;
                (Private::Ed25519(private), Public::Ed25519(public), der)
            }
        };
        Ok(Self { private: Some(private), public, public_der })
    }

    /// Parses `SubjectPublicKeyInfo`. The result verifies, or encrypts with RSA, and nothing else.
    pub(super) fn open_public(
        template: &KeyTemplate,
        public_der: PublicKey,
    ) -> Result<Self, Error> {
        if public_der.as_der().len() > PublicKey::LEN_MAX {
            return Err(unfit("public key", "is longer than any key of a spec that is offered"));
        }
        let public = match kind(template)? {
            Kind::RsaSigning => {
                Public::RsaVerifying(rsa::VerifyingKey::open(template.spec, public_der.clone())?)
            }
            Kind::RsaDecrypting => {
                Public::RsaEncrypting(rsa::EncryptingKey::open(template.spec, &public_der)?)
            }
            Kind::Ec => Public::Ec(ec::VerifyingKey::open(template.spec, &public_der)?),
            Kind::Ed25519 => Public::Ed25519(ed25519::VerifyingKey::open(&public_der)?),
        };
        Ok(Self { private: None, public, public_der })
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.public_der
    }

    pub(super) fn sign(
        &self,
        template: &KeyTemplate,
        algorithm: Algorithm,
        message: Message<'_>,
    ) -> Result<Vec<u8>, Error> {
        match &self.private {
            Some(Private::RsaSigning(key)) => key.sign(algorithm, message),
            Some(Private::Ec(key)) => key.sign(algorithm, message),
            Some(Private::Ed25519(key)) => key.sign(message),
            Some(Private::RsaDecrypting(_)) | None => Err(unsupported(template, "signing")),
        }
    }

    pub(super) fn verify(
        &self,
        template: &KeyTemplate,
        algorithm: Algorithm,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<Verdict, Error> {
        match &self.public {
            Public::RsaVerifying(key) => key.verify(algorithm, message, signature),
            Public::Ec(key) => key.verify(algorithm, message, signature),
            Public::Ed25519(key) => key.verify(message, signature),
            Public::RsaEncrypting(_) => Err(unsupported(template, "verifying")),
        }
    }

    pub(super) fn encrypt(
        &self,
        template: &KeyTemplate,
        algorithm: Algorithm,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Error> {
        match &self.public {
            Public::RsaEncrypting(key) => key.encrypt(algorithm, plaintext),
            _ => Err(unsupported(template, "encryption")),
        }
    }

    pub(super) fn decrypt(
        &self,
        template: &KeyTemplate,
        algorithm: Algorithm,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        match &self.private {
            Some(Private::RsaDecrypting(key)) => key.decrypt(algorithm, ciphertext),
            _ => Err(unsupported(template, "decryption")),
        }
    }

    /// The pairwise consistency test: what one half does, the other half undoes.
    fn test_by_use(&self, template: &KeyTemplate) -> Result<(), Error> {
        const MESSAGE: &[u8] = b"pairwise consistency test";
        let algorithm = template.spec.algorithms(template.usage)[0];
        let holds = match template.usage {
            KeyUsage::EncryptDecrypt => {
                let ciphertext = self.encrypt(template, algorithm, MESSAGE)?;
                *self.decrypt(template, algorithm, &ciphertext)? == MESSAGE
            }
            KeyUsage::SignVerify | KeyUsage::GenerateVerifyMac => {
                let message = Message::Raw(MESSAGE);
                let signature = self.sign(template, algorithm, message)?;
                self.verify(template, algorithm, message, &signature)?.is_valid()
            }
        };
        if holds { Ok(()) } else { Err(Failure::PairwiseTest.into()) }
    }
}

/// Takes a digest that the caller computed.
pub(super) fn imported_digest(
    bytes: &[u8],
    hash: &'static digest::Algorithm,
    algorithm: Algorithm,
) -> Result<Digest, Error> {
    Digest::import_less_safe(bytes, hash).map_err(|_| {
        let (len, expected) = (bytes.len(), hash.output_len());
        InvalidInput::WrongLength { field: "digest", len, algorithm: algorithm.as_str(), expected }
            .into()
    })
}

/// Parses a public key that has to be in its one canonical form, nothing behind it.
pub(super) fn parse_canonical(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &PublicKey,
) -> Result<ParsedPublicKey, Error> {
    let refuse =
        || unfit("public key", "is not a key of this spec in canonical SubjectPublicKeyInfo DER");
    let parsed = ParsedPublicKey::new(algorithm, key.as_der()).map_err(|_| refuse())?;
    let canonical: PublicKeyX509Der<'_> =
        parsed.as_der().map_err(|_| library("public key encoding"))?;
    if canonical.as_ref() != key.as_der() { Err(refuse()) } else { Ok(parsed) }
}

/// A refusal by the library of something that it has to be able to do.
pub(super) fn library(operation: &'static str) -> Error {
    Failure::Library { operation }.into()
}

/// A refusal of what the caller sent.
pub(super) fn unfit(field: &'static str, problem: &'static str) -> Error {
    InvalidInput::Unfit { field, problem }.into()
}

/// Tells whether the bytes are exactly one DER `SEQUENCE`. The library's parser stops at its end and
/// would let anything follow.
fn is_one_der_sequence(bytes: &[u8]) -> bool {
    let (header, content) = match *bytes {
        [0x30, len, ..] if len < 0x80 => (2, usize::from(len)),
        [0x30, 0x81, len, ..] if len >= 0x80 => (3, usize::from(len)),
        [0x30, 0x82, high, low, ..] if high > 0 => {
            (4, usize::from(u16::from_be_bytes([high, low])))
        }
        _ => return false,
    };
    bytes.len() == header + content
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};

    use super::*;

    fn template(spec: KeySpec, usage: KeyUsage) -> KeyTemplate {
        KeyTemplate {
            key_id: KeyId::from_bytes([1; 16]),
            version: KeyVersionNumber::FIRST,
            version_id: KeyVersionId::from_random([2; 16]),
            spec,
            usage,
        }
    }

    #[test]
    fn halves_of_two_pairs_fail_the_pairwise_test() {
        for (spec, usage) in [
            (KeySpec::EcP256, KeyUsage::SignVerify),
            (KeySpec::Ed25519, KeyUsage::SignVerify),
            (KeySpec::Rsa2048, KeyUsage::SignVerify),
            (KeySpec::Rsa2048, KeyUsage::EncryptDecrypt),
        ] {
            let template = template(spec, usage);
            let pair = || {
                let (pkcs8, _) = generate(&template).unwrap();
                Pair::open(&template, pkcs8.danger_expose()).unwrap()
            };
            let (one, other) = (pair(), pair());
            one.test_by_use(&template).unwrap();
            let mixed = Pair { public: other.public, ..one };
            assert!(mixed.test_by_use(&template).is_err(), "{spec} for {usage}");
        }
    }

    #[test]
    fn only_a_whole_minimal_sequence_counts() {
        assert!(is_one_der_sequence(&[0x30, 1, 5]));
        assert!(is_one_der_sequence(&[&[0x30, 0x81, 0x80][..], &[0; 0x80]].concat()));
        assert!(is_one_der_sequence(&[&[0x30, 0x82, 1, 0][..], &[0; 0x100]].concat()));
        assert!(!is_one_der_sequence(&[0x30, 1, 5, 0]), "something follows");
        assert!(!is_one_der_sequence(&[0x30, 2, 5]), "truncated");
        assert!(!is_one_der_sequence(&[0x30, 0x81, 1, 5]), "length not minimal");
        assert!(!is_one_der_sequence(&[0x31, 1, 5]), "not a sequence");
        assert!(!is_one_der_sequence(&[]) && !is_one_der_sequence(&[0x30]));
    }
}
