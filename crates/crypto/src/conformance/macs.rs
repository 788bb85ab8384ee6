//! Message authentication codes.

use twinkeep_core::key::{Algorithm, KeyUsage};

use super::{Subject, TestKey, soon};
use crate::backend::Verdict;

async fn mac(subject: &Subject, key: &TestKey, message: &[u8]) -> Vec<u8> {
    let mac = subject.backend.mac(soon(), &key.handle, key.algorithms()[0], message).await;
    mac.expect("a key that authenticates")
}

async fn verdict(subject: &Subject, key: &TestKey, message: &[u8], mac: &[u8]) -> Verdict {
    let algorithm = key.algorithms()[0];
    let verdict = subject.backend.verify_mac(soon(), &key.handle, algorithm, message, mac).await;
    verdict.expect("a bad MAC is no error")
}

/// A MAC is as long as the output of its hash, the same each time, and verifies.
pub async fn mac_holds_and_has_full_length(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::GenerateVerifyMac) {
        let len = match key.algorithms()[0] {
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha384 => 48,
            Algorithm::HmacSha512 => 64,
            other => panic!("{other} is no MAC"),
        };
        for message in [&b""[..], b"message"] {
            let one = mac(subject, key, message).await;
            assert_eq!(one.len(), len);
            assert_eq!(one, mac(subject, key, message).await);
            assert!(verdict(subject, key, message, &one).await.is_valid());
        }
    }
}

/// Another message or key, damage, truncation: invalid. A prefix of a MAC is not a MAC.
pub async fn mac_that_does_not_fit_is_invalid_and_no_error(subject: &Subject) {
    for (key, other) in subject.pairs(KeyUsage::GenerateVerifyMac) {
        let good = mac(subject, key, b"message").await;
        let len = good.len();
        let mut bad = vec![
            Vec::new(),
            good[..1].to_vec(),
            good[..len / 2].to_vec(),
            good[..len - 1].to_vec(),
            [&good[..], &[0]].concat(),
            vec![0; len],
        ];
        for at in [0, len - 1] {
            let mut damaged = good.clone();
            damaged[at] ^= 0x80;
            bad.push(damaged);
        }
        for mac in bad {
            assert_eq!(verdict(subject, key, b"message", &mac).await, Verdict::Invalid);
        }
        assert!(!verdict(subject, key, b"another message", &good).await.is_valid());
        assert!(!verdict(subject, other, b"message", &good).await.is_valid());
    }
}
