//! What holds for every call: deadlines, algorithms, handles, concurrency.

use std::time::Duration;

use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_envelope::Context;

use super::{Subject, soon, template};
use crate::backend::{Call, Error, Failure, KeyHandle, Material, Message, Reply, Verdict};

/// A probe answers, and says how long it took.
pub async fn probe_does_an_operation(subject: &Subject) {
    let health = subject.backend.probe(soon()).await.expect("a healthy backend");
    assert!(health.latency > Duration::ZERO);
}

async fn is_refused_as_late<T: Unpin>(reply: Reply<'_, T>) {
    assert!(matches!(reply.await, Err(Error::DeadlineExceeded)));
}

/// A call whose deadline is over is not begun.
pub async fn spent_deadline_is_refused_before_any_work(subject: &Subject) {
    let (backend, late) = (&subject.backend, Call::within(Duration::ZERO));
    is_refused_as_late(backend.probe(late)).await;
    for key in &subject.keys {
        let (handle, algorithm) = (&key.handle, key.algorithms()[0]);
        is_refused_as_late(backend.generate(late, key.template())).await;
        is_refused_as_late(backend.destroy(late, key.template())).await;
        let message = Message::Raw(b"m");
        match key.template().usage {
            KeyUsage::EncryptDecrypt => {
                is_refused_as_late(backend.encrypt(late, handle, algorithm, b"m", &Context::NONE))
                    .await;
                is_refused_as_late(backend.decrypt(late, handle, algorithm, b"c", &Context::NONE))
                    .await;
            }
            KeyUsage::SignVerify => {
                is_refused_as_late(backend.sign(late, handle, algorithm, message)).await;
                is_refused_as_late(backend.verify(late, handle, algorithm, message, b"s")).await;
                is_refused_as_late(backend.public_key(late, handle)).await;
            }
            KeyUsage::GenerateVerifyMac => {
                is_refused_as_late(backend.mac(late, handle, algorithm, b"m")).await;
                is_refused_as_late(backend.verify_mac(late, handle, algorithm, b"m", b"s")).await;
            }
        }
    }
}

fn is_unsupported<T>(answer: Result<T, Error>, algorithm: Algorithm) {
    match answer {
        Err(Error::Unsupported { .. }) => {}
        Err(other) => panic!("{algorithm}: {other}"),
        Ok(_) => panic!("{algorithm} was done by a key that is not for it"),
    }
}

/// One key, one usage: every algorithm that is not of the key is refused by every operation.
pub async fn algorithm_of_another_key_is_unsupported(subject: &Subject) {
    let backend = &subject.backend;
    for key in &subject.keys {
        let message = Message::Raw(b"m");
        for algorithm in Algorithm::ALL.iter().copied() {
            if key.algorithms().contains(&algorithm) {
                continue;
            }
            let handle = &key.handle;
            let sealed = backend.encrypt(soon(), handle, algorithm, b"m", &Context::NONE).await;
            is_unsupported(sealed, algorithm);
            let opened = backend.decrypt(soon(), handle, algorithm, b"c", &Context::NONE).await;
            is_unsupported(opened, algorithm);
            is_unsupported(backend.sign(soon(), handle, algorithm, message).await, algorithm);
            let verdict = backend.verify(soon(), handle, algorithm, message, b"s").await;
            is_unsupported(verdict, algorithm);
            is_unsupported(backend.mac(soon(), handle, algorithm, b"m").await, algorithm);
            let verdict = backend.verify_mac(soon(), handle, algorithm, b"m", b"s").await;
            is_unsupported(verdict, algorithm);
        }
        // The right algorithm asked of the wrong operation.
        for algorithm in key.algorithms().iter().copied() {
            let (handle, usage) = (&key.handle, key.template().usage);
            if usage != KeyUsage::EncryptDecrypt {
                let sealed = backend.encrypt(soon(), handle, algorithm, b"m", &Context::NONE).await;
                is_unsupported(sealed, algorithm);
            }
            if usage != KeyUsage::SignVerify {
                is_unsupported(backend.sign(soon(), handle, algorithm, message).await, algorithm);
            }
            if usage != KeyUsage::GenerateVerifyMac {
                is_unsupported(backend.mac(soon(), handle, algorithm, b"m").await, algorithm);
            }
        }
    }
}

/// A template whose spec and usage do not go together makes no key.
pub async fn usage_that_a_spec_does_not_have_is_unsupported(subject: &Subject) {
    for spec in KeySpec::ALL {
        for usage in KeyUsage::ALL {
            if !spec.usages().contains(usage) {
                let made = subject.backend.generate(soon(), &template(*spec, *usage)).await;
                assert!(matches!(made, Err(Error::Unsupported { .. })), "{spec} for {usage}");
            }
        }
    }
}

/// A handle that another backend made is our bug, and is found before anything is computed with it.
pub async fn handle_of_another_backend_is_refused(subject: &Subject) {
    struct Foreign;
    for key in &subject.keys {
        let foreign = KeyHandle::new(*key.template(), Foreign);
        let algorithm = key.algorithms()[0];
        let error = match key.template().usage {
            KeyUsage::EncryptDecrypt => {
                let sealed =
                    subject.backend.encrypt(soon(), &foreign, algorithm, b"m", &Context::NONE);
                sealed.await.err()
            }
            KeyUsage::SignVerify => {
                subject.backend.sign(soon(), &foreign, algorithm, Message::Raw(b"m")).await.err()
            }
            KeyUsage::GenerateVerifyMac => {
                subject.backend.mac(soon(), &foreign, algorithm, b"m").await.err()
            }
        };
        assert!(matches!(error, Some(Error::Internal(Failure::ForeignHandle))), "{error:?}");
    }
}

/// Calls on one handle are independent.
pub async fn one_handle_serves_many_calls_at_once(subject: &Subject) {
    const CALLS: usize = 16;
    for (key, _) in subject.pairs(KeyUsage::SignVerify) {
        let algorithm = key.algorithms()[0];
        let messages: Vec<_> = (0..CALLS).map(|i| format!("message {i}")).collect();
        let mut signing = Vec::new();
        for message in &messages {
            let message = Message::Raw(message.as_bytes());
            signing.push(subject.backend.sign(soon(), &key.handle, algorithm, message));
        }
        let mut signatures = Vec::new();
        // All were begun before the first is awaited; the last is awaited first.
        while let Some(reply) = signing.pop() {
            signatures.push(reply.await.expect("a key that signs"));
        }
        for (message, signature) in messages.iter().zip(signatures.iter().rev()) {
            let message = Message::Raw(message.as_bytes());
            let verdict =
                subject.backend.verify(soon(), &key.handle, algorithm, message, signature).await;
            assert_eq!(verdict.expect("a key that verifies"), Verdict::Valid);
        }
    }
}

/// Deletion is repeated after a crash; the second time there is nothing to do.
pub async fn destroying_twice_is_no_error(subject: &Subject) {
    let kinds = subject.backend.capabilities().keys.clone();
    let kind = kinds.iter().find(|kind| !matches!(kind.spec, KeySpec::Rsa3072 | KeySpec::Rsa4096));
    let Some(kind) = kind else { return };
    let template = template(kind.spec, kind.usage);
    let generated = subject.backend.generate(soon(), &template).await.expect("a key it offers");
    for _ in 0..2 {
        subject.backend.destroy(soon(), &template).await.expect("destruction can be repeated");
    }
    if let Material::Kept(_) = generated.material {
        let opened = subject.backend.open(soon(), &template, generated.material).await;
        assert!(opened.is_err(), "destroyed material was found again");
    }
}
