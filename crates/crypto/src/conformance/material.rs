//! Material: what is stored of a key, and how it is used again.

use twinkeep_core::key::{KeySpec, KeyUsage};
use twinkeep_envelope::{Context, SecretBytes};

use super::{Subject, soon, template};
use crate::backend::{Custody, Error, InvalidInput, Material, Message};

/// What a store gives back of what it was given.
fn stored(material: &Material) -> Material {
    match material {
        Material::Sealable(secret) => {
            Material::Sealable(SecretBytes::copy_of(secret.danger_expose()))
        }
        Material::Kept(name) => Material::Kept(name.clone()),
        Material::Public(key) => Material::Public(key.clone()),
    }
}

/// Two handles of one material are one key: what one makes, the other takes.
pub async fn material_serves_again_after_it_was_stored(subject: &Subject) {
    let backend = &subject.backend;
    let kinds = backend.capabilities().keys.clone();
    for kind in kinds.iter().filter(|kind| kind.spec != KeySpec::Rsa4096) {
        let template = template(kind.spec, kind.usage);
        let generated = backend.generate(soon(), &template).await.expect("a key it offers");
        match backend.capabilities().custody {
            Custody::Sealed => assert!(matches!(generated.material, Material::Sealable(_))),
            Custody::Kept => assert!(matches!(generated.material, Material::Kept(_))),
        }
        assert_eq!(generated.public_key.is_some(), kind.spec.is_asymmetric(), "{}", kind.spec);
        let again = stored(&generated.material);
        let one = backend.open(soon(), &template, generated.material).await.expect("its material");
        let two = backend.open(soon(), &template, again).await.expect("the same material again");
        let (algorithm, message) = (kind.algorithms[0], Message::Raw(b"m"));
        match kind.usage {
            KeyUsage::EncryptDecrypt => {
                let blob = backend.encrypt(soon(), &one, algorithm, b"m", &Context::NONE).await;
                let blob = blob.expect("a key that encrypts");
                let opened = backend.decrypt(soon(), &two, algorithm, &blob, &Context::NONE).await;
                assert_eq!(*opened.expect("the same key"), b"m");
            }
            KeyUsage::SignVerify => {
                let signature =
                    backend.sign(soon(), &one, algorithm, message).await.expect("signs");
                let verdict = backend.verify(soon(), &two, algorithm, message, &signature).await;
                assert!(verdict.expect("the same key").is_valid());
            }
            KeyUsage::GenerateVerifyMac => {
                let mac = backend.mac(soon(), &one, algorithm, b"m").await.expect("authenticates");
                let verdict = backend.verify_mac(soon(), &two, algorithm, b"m", &mac).await;
                assert!(verdict.expect("the same key").is_valid());
            }
        }
    }
}

/// The public key that came with a new key is the one that its handle shows.
pub async fn public_key_is_the_same_every_time_asked(subject: &Subject) {
    for key in &subject.keys {
        if let Some(expected) = &key.public {
            let shown = subject.backend.public_key(soon(), &key.handle).await;
            assert_eq!(shown.expect("a key with a public half"), *expected);
        }
    }
}

/// Keys without a public half say so.
pub async fn symmetric_key_has_no_public_key(subject: &Subject) {
    for key in subject.keys.iter().filter(|key| !key.template().spec.is_asymmetric()) {
        assert!(key.public.is_none());
        let shown = subject.backend.public_key(soon(), &key.handle).await;
        assert!(matches!(shown, Err(Error::Unsupported { .. })));
    }
}

/// Bytes that are no material of the spec make no key, and the error names what is wrong.
pub async fn material_of_wrong_kind_is_refused(subject: &Subject) {
    if !subject.backend.capabilities().imports {
        return;
    }
    for kind in &subject.backend.capabilities().keys {
        let template = template(kind.spec, kind.usage);
        for junk in [&[][..], &[0; 16], &[0x30; 31], &[0xff; 65], b"-----BEGIN PRIVATE KEY-----"] {
            let imported =
                subject.backend.import(soon(), &template, SecretBytes::copy_of(junk)).await;
            match imported {
                Err(Error::InvalidInput(
                    InvalidInput::WrongLength { field, .. } | InvalidInput::Unfit { field, .. },
                )) => assert_eq!(field, "key material", "{}", kind.spec),
                other => panic!("{}: {other:?}", kind.spec),
            }
        }
    }
}
