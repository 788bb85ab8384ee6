//! Sizes: one over the limit is refused with the field, the limit and the way out, before any work.

use tonic::{Code, Request, Status};
use twinkeep_proto::{metadata, v1};
use v1::KeySpec;

use crate::node::{TestNode, WAITS};

fn assert_over(status: &Status, text: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{}", status.message());
    assert_eq!(status.message(), text);
}

#[tokio::test]
async fn longest_plaintext_is_taken_and_one_byte_more_is_not() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut crypto = node.crypto("key-user");
    let request = |len| v1::EncryptRequest {
        key_id: key_id.clone(),
        plaintext: vec![7; len].into(),
        ..Default::default()
    };
    let sealed = crypto.encrypt(request(65_536)).await.unwrap().into_inner();
    let decrypt = v1::DecryptRequest { ciphertext: sealed.ciphertext, ..Default::default() };
    assert_eq!(crypto.decrypt(decrypt).await.unwrap().into_inner().plaintext.len(), 65_536);
    let status = crypto.encrypt(request(65_537)).await.unwrap_err();
    assert_over(
        &status,
        "plaintext of 65537 is over the limit of 65536; encrypt the data with a data key \
         (GenerateDataKey) and keep that beside it",
    );
}

#[tokio::test]
async fn every_payload_has_its_limit() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut crypto = node.crypto("key-user");
    let long = |len: usize| bytes::Bytes::from(vec![7; len]);
    let refused = [
        crypto.encrypt(v1::EncryptRequest { aad: long(8192), ..Default::default() }).await.err(),
        crypto
            .decrypt(v1::DecryptRequest { ciphertext: long(65_637), ..Default::default() })
            .await
            .err(),
        crypto.sign(v1::SignRequest { message: long(65_537), ..Default::default() }).await.err(),
        crypto
            .verify(v1::VerifyRequest { signature: long(1025), ..Default::default() })
            .await
            .err(),
        crypto
            .generate_mac(v1::GenerateMacRequest { message: long(65_537), ..Default::default() })
            .await
            .err(),
        crypto.verify_mac(v1::VerifyMacRequest { mac: long(65), ..Default::default() }).await.err(),
        crypto
            .generate_random(v1::GenerateRandomRequest {
                length_bytes: 65_537,
                ..Default::default()
            })
            .await
            .err(),
        crypto
            .generate_data_key(v1::GenerateDataKeyRequest {
                key_id,
                length_bytes: 1025,
                ..Default::default()
            })
            .await
            .err(),
    ];
    let fields = [
        "aad of 8197 is over the limit of 8192",
        "ciphertext of 65637 is over the limit of 65636",
        "message of 65537 is over the limit of 65536",
        "signature of 1025 is over the limit of 1024",
        "message of 65537 is over the limit of 65536",
        "mac of 65 is over the limit of 64",
        "length_bytes of 65537 is over the limit of 65536",
        "length_bytes of 1025 is over the limit of 1024",
    ];
    for (status, field) in refused.into_iter().zip(fields) {
        let status = status.unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted, "{}", status.message());
        assert!(status.message().starts_with(field), "{}", status.message());
    }
}

#[tokio::test]
async fn message_over_the_decoding_limit_is_refused_by_its_length_prefix() {
    let node = TestNode::start().await;
    let request = v1::EncryptRequest { plaintext: vec![0; 3 << 20].into(), ..Default::default() };
    let status = node.crypto("key-user").encrypt(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
}

#[tokio::test]
async fn no_call_takes_an_iv_from_its_caller() {
    // CVE-2023-4680: a nonce given by the caller led to its reuse. There is no field to give one in.
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(twinkeep_proto::FILE_DESCRIPTOR_SET).unwrap();
    let fields =
        set.file.iter().flat_map(|file| &file.message_type).flat_map(|message| {
            message.field.iter().map(move |field| (message.name(), field.name()))
        });
    for (message, field) in fields.filter(|(message, _)| message.ends_with("Request")) {
        let suspicious = ["iv", "nonce", "salt"];
        assert!(!suspicious.contains(&field), "{message}.{field}");
    }
}

/// What an overloaded node answers: soon, without the work, with a time to come back, and on record.
#[tokio::test]
async fn call_that_waited_too_long_is_refused_and_control_is_not() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let late = |key_id: &str| {
        let message = v1::EncryptRequest { key_id: key_id.to_owned(), ..Default::default() };
        let mut request = Request::new(message);
        request.metadata_mut().insert(WAITS, "260".parse().unwrap());
        request
    };
    let status = node.crypto("key-user").encrypt(late(&key_id)).await.unwrap_err();
    assert_over(
        &status,
        "this node is overloaded: the call was not begun within 250 ms; send it again later, or call \
         another node",
    );
    assert_eq!(status.metadata().get(metadata::PUSHBACK_MS).unwrap(), "250");
    let records = node.recorded();
    let last = records.last().unwrap();
    assert_eq!(last.outcome.as_str(), "RESOURCE_EXHAUSTED");
    assert!(last.latency_us >= 250_000, "the wait counts: {} us", last.latency_us);

    let mut disable = Request::new(v1::DisableKeyRequest { key_id, ..Default::default() });
    disable.metadata_mut().insert(WAITS, "260".parse().unwrap());
    node.keys("key-admin").disable_key(disable).await.unwrap();
}

/// A caller's deadline runs while its call waits for a turn.
#[tokio::test]
async fn call_whose_deadline_passed_in_the_queue_is_not_worked_on() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut request = Request::new(v1::EncryptRequest { key_id, ..Default::default() });
    request.metadata_mut().insert(WAITS, "120".parse().unwrap());
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    node.crypto("key-user").encrypt(request).await.unwrap_err();
    let records = node.recorded();
    assert_eq!(records.last().unwrap().outcome.as_str(), "DEADLINE_EXCEEDED");
}
