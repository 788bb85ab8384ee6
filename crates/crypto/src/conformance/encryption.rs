//! Encryption: symmetric keys with a context, RSA without.

use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_envelope::Context;

use super::{Subject, TestKey, soon};
use crate::backend::{Error, InvalidInput};
use crate::{data_key, limits};

fn tenant(name: &'static [u8]) -> Context<'static> {
    Context::from_pairs([(b"tenant".as_slice(), name)]).expect("a small context")
}

fn own_context(key: &TestKey) -> Context<'static> {
    if key.template().spec.is_asymmetric() { Context::NONE } else { tenant(b"acme") }
}

async fn sealed(
    subject: &Subject,
    key: &TestKey,
    algorithm: Algorithm,
    plaintext: &[u8],
) -> Vec<u8> {
    let context = own_context(key);
    let sealed = subject.backend.encrypt(soon(), &key.handle, algorithm, plaintext, &context).await;
    sealed.expect("a key that encrypts")
}

/// What goes in comes out, for every algorithm and the lengths at which formats break.
pub async fn ciphertext_opens_to_its_plaintext(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::EncryptDecrypt) {
        for algorithm in key.algorithms().iter().copied() {
            for plaintext in [&b""[..], b"x", b"exactly sixteen.", &[0; 62]] {
                let blob = sealed(subject, key, algorithm, plaintext).await;
                let context = own_context(key);
                let opened =
                    subject.backend.decrypt(soon(), &key.handle, algorithm, &blob, &context);
                assert_eq!(**opened.await.as_ref().expect("its own ciphertext"), *plaintext);
            }
        }
    }
}

/// No nonce repeats and no padding is fixed.
pub async fn equal_plaintexts_have_different_ciphertexts(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::EncryptDecrypt) {
        for algorithm in key.algorithms().iter().copied() {
            let one = sealed(subject, key, algorithm, b"the same").await;
            let other = sealed(subject, key, algorithm, b"the same").await;
            assert_ne!(one, other, "{algorithm}");
        }
    }
}

/// Wrong key, wrong context, wrong algorithm, damage anywhere, any length: one error, one text.
pub async fn ciphertext_that_does_not_fit_gives_one_error(subject: &Subject) {
    for (key, other) in subject.pairs(KeyUsage::EncryptDecrypt) {
        for algorithm in key.algorithms().iter().copied() {
            let blob = sealed(subject, key, algorithm, b"plaintext").await;
            let context = own_context(key);
            let mut attempts: Vec<(&str, &TestKey, Algorithm, Vec<u8>, Context<'_>)> = vec![
                ("another key", other, algorithm, blob.clone(), context.clone()),
                ("nothing", key, algorithm, Vec::new(), context.clone()),
                ("one byte less", key, algorithm, blob[..blob.len() - 1].to_vec(), context.clone()),
                ("one byte more", key, algorithm, [&blob[..], &[0]].concat(), context.clone()),
                ("zeros", key, algorithm, vec![0; blob.len()], context.clone()),
                ("ones", key, algorithm, vec![0xff; blob.len()], context.clone()),
                ("far too short", key, algorithm, vec![0xcb], context.clone()),
            ];
            if !key.template().spec.is_asymmetric() {
                attempts.push(("another context", key, algorithm, blob.clone(), tenant(b"evil")));
                attempts.push(("no context", key, algorithm, blob.clone(), Context::NONE));
            }
            for wrong in key.algorithms().iter().copied().filter(|wrong| *wrong != algorithm) {
                attempts.push(("another algorithm", key, wrong, blob.clone(), context.clone()));
            }
            for at in [0, 1, 2, 3, 4, 20, 24, 40, 72, 84, blob.len() - 1] {
                let mut damaged = blob.clone();
                damaged[at] ^= 1;
                attempts.push(("a flipped bit", key, algorithm, damaged, context.clone()));
            }
            for (what, key, algorithm, blob, context) in attempts {
                let answer =
                    subject.backend.decrypt(soon(), &key.handle, algorithm, &blob, &context).await;
                assert!(matches!(answer, Err(Error::InvalidCiphertext)), "{what}: {algorithm}");
            }
        }
    }
}

fn plaintext_max(subject: &Subject, spec: KeySpec, algorithm: Algorithm) -> usize {
    let symmetric = subject.backend.capabilities().plaintext_bytes_max;
    limits::oaep_plaintext_bytes_max(spec, algorithm).unwrap_or(symmetric)
}

/// The limit is the one that is published, and who is over it is told what to do.
pub async fn plaintext_at_the_limit_passes_and_one_byte_more_names_the_way_out(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::EncryptDecrypt) {
        for algorithm in key.algorithms().iter().copied() {
            let limit = plaintext_max(subject, key.template().spec, algorithm);
            let plaintext = vec![7; limit + 1];
            let blob = sealed(subject, key, algorithm, &plaintext[..limit]).await;
            let context = own_context(key);
            let opened =
                subject.backend.decrypt(soon(), &key.handle, algorithm, &blob, &context).await;
            assert_eq!(opened.expect("a plaintext at the limit").len(), limit);

            let refused =
                subject.backend.encrypt(soon(), &key.handle, algorithm, &plaintext, &context);
            match refused.await {
                Err(Error::InvalidInput(InvalidInput::TooLong { field, len, max, way_out })) => {
                    assert_eq!((field, len, max), ("plaintext", limit + 1, limit));
                    assert!(way_out.contains("GenerateDataKey"), "{way_out}");
                }
                other => panic!("{algorithm}: {other:?}"),
            }
        }
    }
}

/// A context that would not be bound to the ciphertext is refused, not ignored.
pub async fn asymmetric_keys_take_no_context(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::EncryptDecrypt) {
        if !key.template().spec.is_asymmetric() {
            continue;
        }
        let algorithm = key.algorithms()[0];
        let context = tenant(b"acme");
        let sealed = subject.backend.encrypt(soon(), &key.handle, algorithm, b"m", &context).await;
        assert!(matches!(sealed, Err(Error::InvalidInput(InvalidInput::Unfit { .. }))));
        let opened =
            subject.backend.decrypt(soon(), &key.handle, algorithm, &[0; 256], &context).await;
        assert!(matches!(opened, Err(Error::InvalidInput(InvalidInput::Unfit { .. }))));
    }
}

/// A data key comes with a ciphertext that opens to it, and only asked-for lengths are given.
pub async fn data_key_opens_to_itself(subject: &Subject) {
    for (key, _) in subject.pairs(KeyUsage::EncryptDecrypt) {
        if key.template().spec != KeySpec::Aes256 {
            continue;
        }
        let context = tenant(b"acme");
        let make = |len| {
            data_key::generate_data_key(&*subject.backend, soon(), &key.handle, len, &context)
        };
        for len in [1, 32, data_key::LEN_MAX] {
            let made = make(len).await.expect("a key that wraps");
            assert_eq!(made.plaintext.len(), len);
            let algorithm = Algorithm::SymmetricDefault;
            let opened =
                subject.backend.decrypt(soon(), &key.handle, algorithm, &made.ciphertext, &context);
            assert_eq!(*opened.await.expect("its own ciphertext"), *made.plaintext);
        }
        assert_ne!(
            *make(32).await.expect("a key").plaintext,
            *make(32).await.expect("a key").plaintext
        );
        for len in [0, data_key::LEN_MAX + 1] {
            assert!(matches!(make(len).await, Err(Error::InvalidInput(_))), "{len} bytes");
        }
    }
}
