//! Signatures: RSA, ECDSA, Ed25519.

use ring::digest;
use twinkeep_core::key::{Algorithm, KeyUsage};

use super::{Subject, TestKey, soon};
use crate::backend::{Error, InvalidInput, Message, Verdict};

/// The hash of the message that the algorithm signs; `None` for Ed25519, which takes no digest.
fn digest_of(algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
    use Algorithm as A;
    let hash = match algorithm {
        A::RsaPssSha256 | A::RsaPkcs1Sha256 | A::EcdsaSha256 => &digest::SHA256,
        A::RsaPssSha384 | A::RsaPkcs1Sha384 | A::EcdsaSha384 => &digest::SHA384,
        A::RsaPssSha512 | A::RsaPkcs1Sha512 | A::EcdsaSha512 => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(hash, message).as_ref().to_vec())
}

async fn signed(
    subject: &Subject,
    key: &TestKey,
    algorithm: Algorithm,
    message: Message<'_>,
) -> Vec<u8> {
    let signature = subject.backend.sign(soon(), &key.handle, algorithm, message).await;
    signature.expect("a key that signs")
}

async fn verdict(
    subject: &Subject,
    key: &TestKey,
    algorithm: Algorithm,
    message: Message<'_>,
    signature: &[u8],
) -> Verdict {
    let verdict = subject.backend.verify(soon(), &key.handle, algorithm, message, signature).await;
    verdict.unwrap_or_else(|error| panic!("{algorithm}: a bad signature is no error: {error}"))
}

/// A message signed raw verifies as digest, and the other way round.
pub async fn signature_holds_raw_and_as_digest(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::SignVerify) {
        for algorithm in key.algorithms().iter().copied() {
            for text in [&b""[..], b"message"] {
                let raw = Message::Raw(text);
                let signature = signed(subject, key, algorithm, raw).await;
                assert!(verdict(subject, key, algorithm, raw, &signature).await.is_valid());
                let Some(digest) = digest_of(algorithm, text) else { continue };
                let digest = Message::Digest(&digest);
                assert!(verdict(subject, key, algorithm, digest, &signature).await.is_valid());
                let signature = signed(subject, key, algorithm, digest).await;
                assert!(verdict(subject, key, algorithm, raw, &signature).await.is_valid());
            }
        }
    }
}

/// Another message, key or algorithm, damage and any length: invalid, and never an error that tells why.
pub async fn signature_that_does_not_fit_is_invalid_and_no_error(subject: &Subject) {
    for (key, other) in subject.pairs(KeyUsage::SignVerify) {
        for algorithm in key.algorithms().iter().copied() {
            let message = Message::Raw(b"message");
            let good = signed(subject, key, algorithm, message).await;
            let len = good.len();
            let mut bad: Vec<Vec<u8>> = vec![
                Vec::new(),
                vec![0; len],
                vec![0xff; len],
                good[..len - 1].to_vec(),
                [&good[..], &[0]].concat(),
                vec![0x30; 100_000],
            ];
            for at in [0, 1, len / 2, len - 1] {
                let mut damaged = good.clone();
                damaged[at] ^= 1;
                bad.push(damaged);
            }
            for signature in bad {
                let found = verdict(subject, key, algorithm, message, &signature).await;
                assert_eq!(found, Verdict::Invalid, "{algorithm}");
            }
            let elsewhere = Message::Raw(b"another message");
            assert!(!verdict(subject, key, algorithm, elsewhere, &good).await.is_valid());
            assert!(!verdict(subject, other, algorithm, message, &good).await.is_valid());
            for wrong in key.algorithms().iter().copied().filter(|wrong| *wrong != algorithm) {
                assert!(!verdict(subject, key, wrong, message, &good).await.is_valid(), "{wrong}");
            }
        }
    }
}

/// The limit is the one that is published, and who is over it is told what to do.
pub async fn message_at_the_limit_passes_and_one_byte_more_names_the_way_out(subject: &Subject) {
    let limit = subject.backend.capabilities().message_bytes_max;
    let message = vec![7; limit + 1];
    let named = |error: Option<Error>| match error {
        Some(Error::InvalidInput(InvalidInput::TooLong { field, len, max, way_out })) => {
            assert_eq!((field, len, max), ("message", limit + 1, limit));
            assert!(way_out.contains("hash"), "{way_out}");
        }
        other => panic!("{other:?}"),
    };
    for key in &subject.keys {
        let algorithm = key.algorithms()[0];
        let (backend, handle) = (&subject.backend, &key.handle);
        let (raw, over) = (Message::Raw(&message[..limit]), Message::Raw(&message));
        match key.template().usage {
            KeyUsage::SignVerify => {
                let signature = signed(subject, key, algorithm, raw).await;
                assert!(verdict(subject, key, algorithm, raw, &signature).await.is_valid());
                named(backend.sign(soon(), handle, algorithm, over).await.err());
                named(backend.verify(soon(), handle, algorithm, over, &signature).await.err());
            }
            KeyUsage::GenerateVerifyMac => {
                let mac = backend.mac(soon(), handle, algorithm, &message[..limit]).await;
                mac.expect("a message at the limit");
                named(backend.mac(soon(), handle, algorithm, &message).await.err());
                named(
                    backend.verify_mac(soon(), handle, algorithm, &message, &[0; 32]).await.err(),
                );
            }
            KeyUsage::EncryptDecrypt => {}
        }
    }
}

/// A digest has one right length, which the error tells.
pub async fn digest_of_wrong_length_is_refused_by_name(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::SignVerify) {
        for algorithm in key.algorithms().iter().copied() {
            let Some(right) = digest_of(algorithm, b"message") else { continue };
            for wrong in [&right[1..], &[&right[..], &[0]].concat(), &[]] {
                let digest = Message::Digest(wrong);
                let error =
                    subject.backend.sign(soon(), &key.handle, algorithm, digest).await.err();
                let expected = InvalidInput::WrongLength {
                    field: "digest",
                    len: wrong.len(),
                    algorithm: algorithm.as_str(),
                    expected: right.len(),
                };
                match error {
                    Some(Error::InvalidInput(found)) => assert_eq!(found, expected),
                    other => panic!("{algorithm}: {other:?}"),
                }
                let verdict = subject
                    .backend
                    .verify(soon(), &key.handle, algorithm, digest, b"signature")
                    .await;
                assert!(matches!(verdict, Err(Error::InvalidInput(_))), "{algorithm}");
            }
        }
    }
}

/// Ed25519 of a digest would be Ed25519 of 64 bytes that look like a digest: refused, both ways.
pub async fn ed25519_takes_no_digest(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::SignVerify) {
        let algorithm = key.algorithms()[0];
        if algorithm != Algorithm::Ed25519 {
            continue;
        }
        let digest = Message::Digest(&[0; 64]);
        let signed = subject.backend.sign(soon(), &key.handle, algorithm, digest).await;
        assert!(matches!(signed, Err(Error::InvalidInput(InvalidInput::Unfit { .. }))));
        let verified =
            subject.backend.verify(soon(), &key.handle, algorithm, digest, &[0; 64]).await;
        assert!(matches!(verified, Err(Error::InvalidInput(InvalidInput::Unfit { .. }))));
    }
}
