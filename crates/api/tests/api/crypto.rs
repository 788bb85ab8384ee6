//! Use of keys: what goes in comes out, and what was altered on the way does not.

use tonic::Code;
use twinkeep_proto::v1;
use v1::{Algorithm, KeySpec, KeyUsage, MessageType};

use crate::node::{MAIN, TestNode};

fn pair(key: &str, value: &str) -> v1::ContextPair {
    v1::ContextPair { key: key.to_owned(), value: value.to_owned() }
}

#[tokio::test]
async fn ciphertext_opens_with_its_context_and_with_no_other() {
    let node = TestNode::start().await;
    let key = node.key(KeySpec::Aes256).await;
    let mut crypto = node.crypto("key-user");
    let request = v1::EncryptRequest {
        key_id: key.key_id.clone(),
        plaintext: b"hello"[..].into(),
        plaintext_crc32c: Some(crc32c::crc32c(b"hello")),
        encryption_context: vec![pair("tenant", "acme"), pair("app", "billing")],
        ..Default::default()
    };
    let sealed = crypto.encrypt(request).await.unwrap().into_inner();
    assert!(sealed.verified_plaintext_crc32c);
    assert_eq!(sealed.ciphertext_crc32c, crc32c::crc32c(&sealed.ciphertext));
    assert_eq!(sealed.key_id, key.key_id);
    assert_eq!(sealed.algorithm(), Algorithm::SymmetricDefault);
    assert!(sealed.state_index > 0);

    // Pairs in another order are the same context; the key id may be left out.
    let decrypt = v1::DecryptRequest {
        ciphertext: sealed.ciphertext.clone(),
        encryption_context: vec![pair("app", "billing"), pair("tenant", "acme")],
        ..Default::default()
    };
    let opened = crypto.decrypt(decrypt.clone()).await.unwrap().into_inner();
    assert_eq!(&opened.plaintext[..], b"hello");
    assert_eq!(opened.plaintext_crc32c, crc32c::crc32c(b"hello"));
    assert_eq!(opened.key_version_id, key.primary_version.unwrap().version_id);

    let mut flipped = sealed.ciphertext.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let other_key = node.key(KeySpec::Aes256).await.key_id;
    for wrong in [
        v1::DecryptRequest { encryption_context: vec![], ..decrypt.clone() },
        v1::DecryptRequest { encryption_context: vec![], aad: b"x"[..].into(), ..decrypt.clone() },
        v1::DecryptRequest { ciphertext: flipped.into(), ..decrypt.clone() },
        v1::DecryptRequest { key_id: other_key, ..decrypt.clone() },
    ] {
        let status = crypto.decrypt(wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let text = "the ciphertext does not open under this key and encryption context";
        assert_eq!(status.message(), text);
    }
}

#[tokio::test]
async fn damaged_payload_is_refused_before_anything_is_done_with_it() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let opened = || node.vault.opened.load(std::sync::atomic::Ordering::Relaxed);
    let before = opened();
    let request = v1::EncryptRequest {
        key_id: key_id.clone(),
        plaintext: b"hello"[..].into(),
        plaintext_crc32c: Some(crc32c::crc32c(b"hallo")),
        ..Default::default()
    };
    let status = node.crypto("key-user").encrypt(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert!(status.message().starts_with("plaintext does not match plaintext_crc32c"));
    let request = v1::DecryptRequest {
        key_id,
        ciphertext: b"sealed"[..].into(),
        ciphertext_crc32c: Some(0),
        ..Default::default()
    };
    let status = node.crypto("key-user").decrypt(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert_eq!(opened(), before);
}

#[tokio::test]
async fn data_keys_are_opened_again_by_decrypt() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut crypto = node.crypto("key-user");
    let request = v1::GenerateDataKeyRequest {
        key_id: key_id.clone(),
        aad: b"file 7"[..].into(),
        ..Default::default()
    };
    let made = crypto.generate_data_key(request).await.unwrap().into_inner();
    assert_eq!(made.plaintext.len(), 32);
    let request = v1::GenerateDataKeyWithoutPlaintextRequest {
        key_id,
        length_bytes: 64,
        aad: b"file 7"[..].into(),
        ..Default::default()
    };
    let hidden = crypto.generate_data_key_without_plaintext(request).await.unwrap().into_inner();
    for (ciphertext, len) in [(made.ciphertext, 32), (hidden.ciphertext, 64)] {
        let request =
            v1::DecryptRequest { ciphertext, aad: b"file 7"[..].into(), ..Default::default() };
        let opened = crypto.decrypt(request).await.unwrap().into_inner();
        assert_eq!(opened.plaintext.len(), len);
        assert!(len != 32 || opened.plaintext == made.plaintext);
    }
}

#[tokio::test]
async fn re_encrypted_ciphertext_opens_under_the_new_key_and_context() {
    let node = TestNode::start().await;
    let source = node.key(KeySpec::Aes256).await.key_id;
    let usage = KeyUsage::EncryptDecrypt;
    let destination = node.key_in(MAIN, KeySpec::Rsa2048, usage).await.key_id;
    let mut crypto = node.crypto("key-user");
    let request = v1::EncryptRequest {
        key_id: source.clone(),
        plaintext: b"hello"[..].into(),
        aad: b"old"[..].into(),
        ..Default::default()
    };
    let sealed = crypto.encrypt(request).await.unwrap().into_inner();
    let request = v1::ReEncryptRequest {
        ciphertext: sealed.ciphertext,
        source_aad: b"old"[..].into(),
        destination_key_id: destination.clone(),
        ..Default::default()
    };
    let moved = crypto.re_encrypt(request).await.unwrap().into_inner();
    assert_eq!((moved.source_key_id, &moved.destination_key_id), (source, &destination));
    let request = v1::DecryptRequest {
        key_id: destination,
        ciphertext: moved.ciphertext,
        ..Default::default()
    };
    let opened = crypto.decrypt(request).await.unwrap().into_inner();
    assert_eq!(&opened.plaintext[..], b"hello");
    assert_eq!(opened.algorithm(), Algorithm::RsaesOaepSha256);
}

#[tokio::test]
async fn signatures_verify_and_those_of_another_message_do_not() {
    let node = TestNode::start().await;
    let mut crypto = node.crypto("key-user");
    for spec in [KeySpec::EcP256, KeySpec::Ed25519, KeySpec::EcP384] {
        let key_id = node.key(spec).await.key_id;
        let request = v1::SignRequest {
            key_id: key_id.clone(),
            message: b"hello"[..].into(),
            ..Default::default()
        };
        let signed = crypto.sign(request).await.unwrap().into_inner();
        let verify = |message: &'static [u8]| v1::VerifyRequest {
            key_id: key_id.clone(),
            message: message.into(),
            signature: signed.signature.clone(),
            key_version_id: signed.key_version_id.clone(),
            ..Default::default()
        };
        assert!(crypto.verify(verify(b"hello")).await.unwrap().into_inner().valid, "{spec:?}");
        assert!(!crypto.verify(verify(b"hallo")).await.unwrap().into_inner().valid, "{spec:?}");

        let request = v1::GetPublicKeyRequest { key_id, ..Default::default() };
        let public = crypto.get_public_key(request).await.unwrap().into_inner();
        assert_eq!(public.spec(), spec);
        assert_eq!(public.public_key_der_crc32c, crc32c::crc32c(&public.public_key_der));
        assert!(public.public_key_der.starts_with(&[0x30]), "a DER sequence");
    }
}

#[tokio::test]
async fn digest_is_signed_where_the_algorithm_takes_one() {
    let node = TestNode::start().await;
    let mut crypto = node.crypto("key-user");
    let request = |key_id: &str, len| v1::SignRequest {
        key_id: key_id.to_owned(),
        message: vec![7; len].into(),
        message_type: MessageType::Digest.into(),
        ..Default::default()
    };
    let curve = node.key(KeySpec::EcP256).await.key_id;
    assert!(crypto.sign(request(&curve, 32)).await.is_ok());
    let status = crypto.sign(request(&curve, 31)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let edwards = node.key(KeySpec::Ed25519).await.key_id;
    let status = crypto.sign(request(&edwards, 32)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn codes_verify_and_those_of_another_message_do_not() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Hmac384).await.key_id;
    let mut crypto = node.crypto("key-user");
    let request = v1::GenerateMacRequest {
        key_id: key_id.clone(),
        message: b"hello"[..].into(),
        ..Default::default()
    };
    let made = crypto.generate_mac(request).await.unwrap().into_inner();
    assert_eq!((made.mac.len(), made.algorithm()), (48, Algorithm::HmacSha384));
    for (message, valid) in [(&b"hello"[..], true), (b"hallo", false)] {
        let request = v1::VerifyMacRequest {
            key_id: key_id.clone(),
            message: message.into(),
            mac: made.mac.clone(),
            ..Default::default()
        };
        let verdict = crypto.verify_mac(request).await.unwrap().into_inner();
        assert_eq!(verdict.valid, valid);
    }
}

#[tokio::test]
async fn random_bytes_have_the_length_asked_for_and_differ() {
    let node = TestNode::start().await;
    let mut crypto = node.crypto("key-user");
    let mut draw = async |length_bytes| {
        let request = v1::GenerateRandomRequest { length_bytes, ..Default::default() };
        crypto.generate_random(request).await.unwrap().into_inner()
    };
    let (one, other) = (draw(32).await, draw(32).await);
    assert_eq!((one.data.len(), other.data.len()), (32, 32));
    assert_ne!(one.data, other.data);
    assert_eq!(one.data_crc32c, crc32c::crc32c(&one.data));
    assert_eq!(draw(65_536).await.data.len(), 65_536);
}

#[tokio::test]
async fn key_does_one_thing_and_says_which() {
    let node = TestNode::start().await;
    let mac = node.key(KeySpec::Hmac256).await.key_id;
    let request = v1::EncryptRequest { key_id: mac.clone(), ..Default::default() };
    let status = node.crypto("key-user").encrypt(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let text =
        format!("key {mac} is for GENERATE_VERIFY_MAC; this call takes a key for ENCRYPT_DECRYPT");
    assert_eq!(status.message(), text);

    let request = v1::GetPublicKeyRequest { key_id: mac, ..Default::default() };
    let status = node.crypto("key-user").get_public_key(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("no public half"), "{}", status.message());
}

#[tokio::test]
async fn new_key_is_used_for_nothing_before_it_is_durable_in_every_zone() {
    let node = TestNode::start().await;
    node.control.mark_durable(node.control.applied());
    let key_id = node.key(KeySpec::EcP256).await.key_id;
    let mut crypto = node.crypto("key-user");
    let sign = v1::SignRequest {
        key_id: key_id.clone(),
        message: b"hello"[..].into(),
        ..Default::default()
    };
    let public_key = v1::GetPublicKeyRequest { key_id: key_id.clone(), ..Default::default() };
    let refused = [
        crypto.sign(sign.clone()).await.unwrap_err(),
        crypto.get_public_key(public_key.clone()).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::Unavailable);
        let text = format!(
            "version 1 of key {key_id} is not durable in every zone yet and may not be used before; send the \
             call again"
        );
        assert_eq!(status.message(), text);
    }
    node.control.mark_durable(node.control.applied());
    crypto.sign(sign).await.unwrap();
    crypto.get_public_key(public_key).await.unwrap();
}

#[tokio::test]
async fn disabled_key_refuses_every_use_until_it_is_enabled() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut crypto = node.crypto("key-user");
    let encrypt = v1::EncryptRequest {
        key_id: key_id.clone(),
        plaintext: b"hello"[..].into(),
        ..Default::default()
    };
    let sealed = crypto.encrypt(encrypt.clone()).await.unwrap().into_inner();
    let decrypt = v1::DecryptRequest { ciphertext: sealed.ciphertext, ..Default::default() };
    node.disable(&key_id).await;
    let refused = [
        crypto.encrypt(encrypt).await.unwrap_err(),
        crypto.decrypt(decrypt.clone()).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::FailedPrecondition);
        let text = format!("key {key_id} is DISABLED; a key admin can enable it again");
        assert_eq!(status.message(), text);
    }
    let enable = v1::EnableKeyRequest { key_id, ..Default::default() };
    node.keys("key-admin").enable_key(enable).await.unwrap();
    assert!(crypto.decrypt(decrypt).await.is_ok());
}

#[tokio::test]
async fn base64_text_given_for_a_ciphertext_is_answered_with_what_to_send() {
    let node = TestNode::start().await;
    let ciphertext = "ywEBAKChoqOkpaanqKmqq6ytrq8AAAAB".repeat(5).into();
    let request = v1::DecryptRequest { ciphertext, ..Default::default() };
    let status = node.crypto("key-user").decrypt(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("ciphertext: "), "{}", status.message());
    assert!(status.message().contains("send the bytes that Encrypt returned"));
}
