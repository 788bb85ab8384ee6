//! Material from elsewhere: what is taken in, and what is refused by name.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, in helper functions too"
)]

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{self as lc, EcdsaKeyPair, Ed25519KeyPair};
use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_crypto::{
    Call, Error, Generated, InvalidInput, KeyBackend as _, KeyTemplate, Material, Message,
    PublicKey, SoftwareBackend,
};
use twinkeep_envelope::{Context, SecretBytes};

fn call() -> Call {
    Call::within(Duration::from_secs(60))
}

fn template(spec: KeySpec, usage: KeyUsage) -> KeyTemplate {
    KeyTemplate {
        key_id: KeyId::from_bytes([1; 16]),
        version: KeyVersionNumber::FIRST,
        version_id: KeyVersionId::from_random([2; 16]),
        spec,
        usage,
    }
}

async fn import(spec: KeySpec, usage: KeyUsage, material: &[u8]) -> Result<Generated, Error> {
    let backend = SoftwareBackend::new()?;
    backend.import(call(), &template(spec, usage), SecretBytes::copy_of(material)).await
}

fn bytes(generated: &Generated) -> &[u8] {
    match &generated.material {
        Material::Sealable(secret) => secret.danger_expose(),
        other => panic!("{other:?}"),
    }
}

fn problem(result: Result<Generated, Error>) -> &'static str {
    match result {
        Err(Error::InvalidInput(InvalidInput::Unfit { problem, .. })) => problem,
        other => panic!("{other:?}"),
    }
}

fn ec_pkcs8(algorithm: &'static lc::EcdsaSigningAlgorithm) -> Vec<u8> {
    EcdsaKeyPair::generate(algorithm).unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
}

fn rsa_pkcs8(size: KeySize) -> Vec<u8> {
    let der: Pkcs8V1Der<'_> = PrivateDecryptingKey::generate(size).unwrap().as_der().unwrap();
    der.as_ref().to_vec()
}

#[tokio::test]
async fn raw_keys_are_taken_at_their_one_length() {
    for (spec, usage, len) in [
        (KeySpec::Aes256, KeyUsage::EncryptDecrypt, 32),
        (KeySpec::Hmac256, KeyUsage::GenerateVerifyMac, 32),
        (KeySpec::Hmac384, KeyUsage::GenerateVerifyMac, 48),
        (KeySpec::Hmac512, KeyUsage::GenerateVerifyMac, 64),
    ] {
        let key = vec![7; len + 1];
        assert_eq!(bytes(&import(spec, usage, &key[..len]).await.unwrap()), &key[..len]);
        for wrong in [&key[..], &key[..len - 1], &[]] {
            let expected = len;
            match import(spec, usage, wrong).await {
                Err(Error::InvalidInput(InvalidInput::WrongLength {
                    len, expected: e, ..
                })) => {
                    assert_eq!((len, e), (wrong.len(), expected));
                }
                other => panic!("{spec}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn pairs_come_back_in_the_form_that_ours_have() {
    let ed25519_v2 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    let ed25519_v1 = Ed25519KeyPair::from_pkcs8(ed25519_v2.as_ref()).unwrap().to_pkcs8v1().unwrap();
    let ec = ec_pkcs8(&lc::ECDSA_P521_SHA512_ASN1_SIGNING);
    let rsa = rsa_pkcs8(KeySize::Rsa2048);
    for (spec, usage, given, stored) in [
        (KeySpec::Ed25519, KeyUsage::SignVerify, ed25519_v2.as_ref(), ed25519_v1.as_ref()),
        (KeySpec::Ed25519, KeyUsage::SignVerify, ed25519_v1.as_ref(), ed25519_v1.as_ref()),
        (KeySpec::EcP521, KeyUsage::SignVerify, &ec, &ec),
        (KeySpec::Rsa2048, KeyUsage::SignVerify, &rsa, &rsa),
        (KeySpec::Rsa2048, KeyUsage::EncryptDecrypt, &rsa, &rsa),
    ] {
        let imported = import(spec, usage, given).await.unwrap();
        assert!(bytes(&imported) == stored, "{spec}");
        assert!(imported.public_key.is_some());
    }
}

#[tokio::test]
async fn key_of_another_curve_or_size_is_refused() {
    let p384 = ec_pkcs8(&lc::ECDSA_P384_SHA384_ASN1_SIGNING);
    let rsa = rsa_pkcs8(KeySize::Rsa2048);
    assert!(problem(import(KeySpec::EcP256, KeyUsage::SignVerify, &p384).await).contains("curve"));
    assert!(problem(import(KeySpec::EcP384, KeyUsage::SignVerify, &rsa).await).contains("curve"));
    assert!(
        problem(import(KeySpec::Ed25519, KeyUsage::SignVerify, &p384).await).contains("Ed25519")
    );
    for usage in [KeyUsage::SignVerify, KeyUsage::EncryptDecrypt] {
        assert!(problem(import(KeySpec::Rsa3072, usage, &rsa).await).contains("modulus"));
        assert!(problem(import(KeySpec::Rsa3072, usage, &p384).await).contains("RSA"));
    }
}

#[tokio::test]
async fn bytes_behind_the_key_are_refused() {
    let mut p256 = ec_pkcs8(&lc::ECDSA_P256_SHA256_ASN1_SIGNING);
    p256.push(0);
    let refused = import(KeySpec::EcP256, KeyUsage::SignVerify, &p256).await;
    assert!(problem(refused).contains("last byte"));
}

#[tokio::test]
async fn public_half_of_another_key_is_refused() {
    // The public point is the last thing in the DER of an EC key.
    let mut mixed = ec_pkcs8(&lc::ECDSA_P256_SHA256_ASN1_SIGNING);
    let other = ec_pkcs8(&lc::ECDSA_P256_SHA256_ASN1_SIGNING);
    let point_at = mixed.len() - 64;
    mixed[point_at..].copy_from_slice(&other[point_at..]);
    assert!(problem(import(KeySpec::EcP256, KeyUsage::SignVerify, &mixed).await).contains("sound"));

    let one = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    let other = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    let mut mixed = one.as_ref().to_vec();
    let point_at = mixed.len() - 32;
    mixed[point_at..].copy_from_slice(&other.as_ref()[point_at..]);
    assert!(
        problem(import(KeySpec::Ed25519, KeyUsage::SignVerify, &mixed).await).contains("sound")
    );
}

#[tokio::test]
async fn rsa_numbers_that_do_not_fit_each_other_are_refused() {
    let sound = rsa_pkcs8(KeySize::Rsa2048);
    // Somewhere in the private exponent, in a prime, in the last coefficient.
    for at in [400, 700, sound.len() - 10] {
        let mut damaged = sound.clone();
        damaged[at] ^= 4;
        let refused = import(KeySpec::Rsa2048, KeyUsage::SignVerify, &damaged).await;
        assert!(problem(refused).contains("sound"), "byte {at}");
    }
}

#[tokio::test]
async fn material_over_the_limit_is_not_looked_at() {
    match import(KeySpec::Rsa4096, KeyUsage::SignVerify, &vec![0x30; 8193]).await {
        Err(Error::InvalidInput(InvalidInput::TooLong {
            field: "key material",
            max: 8192,
            ..
        })) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn public_key_alone_verifies_and_encrypts_and_does_nothing_secret() {
    let backend = SoftwareBackend::new().unwrap();
    for spec in [KeySpec::EcP256, KeySpec::EcP521, KeySpec::Ed25519, KeySpec::Rsa2048] {
        let template = template(spec, KeyUsage::SignVerify);
        let algorithm = spec.algorithms(KeyUsage::SignVerify)[0];
        let generated = backend.generate(call(), &template).await.unwrap();
        let public = generated.public_key.unwrap();
        let whole = backend.open(call(), &template, generated.material).await.unwrap();
        let half = backend.open(call(), &template, Material::Public(public.clone())).await.unwrap();
        let message = Message::Raw(b"message");
        let signature = backend.sign(call(), &whole, algorithm, message).await.unwrap();
        let verdict = backend.verify(call(), &half, algorithm, message, &signature).await.unwrap();
        assert!(verdict.is_valid(), "{spec}");
        assert_eq!(backend.public_key(call(), &half).await.unwrap(), public);
        let signed = backend.sign(call(), &half, algorithm, message).await;
        assert!(matches!(signed, Err(Error::Unsupported { .. })), "{spec}");
    }

    let template = template(KeySpec::Rsa2048, KeyUsage::EncryptDecrypt);
    let algorithm = Algorithm::RsaOaepSha256;
    let generated = backend.generate(call(), &template).await.unwrap();
    let public = Material::Public(generated.public_key.unwrap());
    let whole = backend.open(call(), &template, generated.material).await.unwrap();
    let half = backend.open(call(), &template, public).await.unwrap();
    let blob = backend.encrypt(call(), &half, algorithm, b"m", &Context::NONE).await.unwrap();
    let opened = backend.decrypt(call(), &whole, algorithm, &blob, &Context::NONE).await.unwrap();
    assert_eq!(*opened, b"m");
    let opened = backend.decrypt(call(), &half, algorithm, &blob, &Context::NONE).await;
    assert!(matches!(opened, Err(Error::Unsupported { .. })));
}

#[tokio::test]
async fn public_key_that_is_not_canonical_is_refused() {
    let backend = SoftwareBackend::new().unwrap();
    for spec in [KeySpec::EcP256, KeySpec::Ed25519, KeySpec::Rsa2048] {
        let template = template(spec, KeyUsage::SignVerify);
        let generated = backend.generate(call(), &template).await.unwrap();
        let der = generated.public_key.unwrap().as_der().to_vec();
        // Of an Ed25519 key the bare 32 bytes, of an EC key the bare point, of RSA the inner structure.
        let bare = match spec {
            KeySpec::EcP256 => der[der.len() - 65..].to_vec(),
            KeySpec::Ed25519 => der[der.len() - 32..].to_vec(),
            _ => der[24..].to_vec(),
        };
        let longer = [&der[..], &[0]].concat();
        for wrong in [bare, longer, vec![0x30; 4096], Vec::new()] {
            let material = Material::Public(PublicKey::from_der(wrong));
            let refused = backend.open(call(), &template, material).await;
            assert!(
                matches!(
                    refused,
                    Err(Error::InvalidInput(InvalidInput::Unfit { field: "public key", .. }))
                ),
                "{spec}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn same_material_under_two_keys_does_not_open_the_others_ciphertext() {
    let backend = SoftwareBackend::new().unwrap();
    let one = template(KeySpec::Aes256, KeyUsage::EncryptDecrypt);
    let two = KeyTemplate { key_id: KeyId::from_bytes([9; 16]), ..one };
    let next = KeyTemplate { version: KeyVersionNumber::new(2).unwrap(), ..one };
    let algorithm = Algorithm::SymmetricDefault;
    let open = async |template| {
        let material = Material::Sealable(SecretBytes::copy_of(&[7; 32]));
        backend.open(call(), template, material).await.unwrap()
    };
    let (key, other, later) = (open(&one).await, open(&two).await, open(&next).await);
    let blob = backend.encrypt(call(), &key, algorithm, b"m", &Context::NONE).await.unwrap();
    for handle in [&other, &later] {
        let opened = backend.decrypt(call(), handle, algorithm, &blob, &Context::NONE).await;
        assert!(matches!(opened, Err(Error::InvalidCiphertext)));
    }
    assert!(backend.decrypt(call(), &key, algorithm, &blob, &Context::NONE).await.is_ok());
}
