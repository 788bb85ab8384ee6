//! The audit record of a call: written before the answer, whatever becomes of the call.

use std::time::Duration;

use tonic::Code;
use twinkeep_audit::call::{Context, Resource};
use twinkeep_proto::v1;
use v1::KeySpec;

use crate::node::TestNode;

#[tokio::test]
async fn record_of_a_crypto_call_has_key_version_context_and_sizes() {
    let node = TestNode::start().await;
    let key = node.key(KeySpec::Aes256).await;
    let before = node.recorded().len();
    let request = v1::EncryptRequest {
        key_id: key.key_id.clone(),
        plaintext: b"canary plaintext"[..].into(),
        encryption_context: vec![v1::ContextPair { key: "app".into(), value: "billing".into() }],
        ..Default::default()
    };
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("traceparent", "00-trace-span-01".parse().unwrap());
    let sealed = node.crypto("key-user").encrypt(request).await.unwrap().into_inner();
    let record = node.recorded().split_off(before).remove(0);
    let key_id = key.key_id.parse().unwrap();
    let Resource::Key { id, version } = &record.resources.listed()[0] else { panic!() };
    assert_eq!((*id, version.unwrap().get()), (key_id, 1));
    assert_eq!(record.instance.to_string(), key.instance_id);
    assert_eq!(record.algorithm.as_ref().unwrap().as_str(), "SYMMETRIC_DEFAULT");
    assert_eq!(record.context, Some(Context::from_pairs([("app", "billing")])));
    assert_eq!((record.input_bytes, record.output_bytes), (16, sealed.ciphertext.len() as u64));
    assert_eq!(record.client_trace.as_ref().unwrap().as_str(), "00-trace-span-01");
    assert!(!format!("{record:?}").contains("canary"));
}

#[tokio::test]
async fn field_that_is_no_id_does_not_reach_the_record() {
    let node = TestNode::start().await;
    let before = node.recorded().len();
    let request = v1::EncryptRequest {
        key_id: "canary pasted into the wrong field".to_owned(),
        ..Default::default()
    };
    node.crypto("key-user").encrypt(request).await.unwrap_err();
    let record = node.recorded().split_off(before).remove(0);
    assert_eq!(record.outcome.as_str(), "INVALID_ARGUMENT");
    assert!(!format!("{record:?}").contains("canary"));
}

#[tokio::test]
async fn no_key_is_used_when_its_use_cannot_be_recorded() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    node.audit.close().unwrap();
    let request = v1::EncryptRequest { key_id, ..Default::default() };
    let status = node.crypto("key-user").encrypt(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("audit log"), "{}", status.message());
    let batch = v1::EncryptBatchRequest { items: vec![request], min_state_index: 0 };
    let status = node.crypto("key-user").encrypt_batch(batch).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    // What a person needs to repair the node goes on.
    node.clusters("operator").get_status(v1::GetStatusRequest::default()).await.unwrap();
    node.clusters("operator").seal(v1::SealRequest::default()).await.unwrap();
}

#[tokio::test]
async fn call_whose_client_went_away_leaves_a_record() {
    let node = TestNode::start().await;
    let before = node.recorded().len();
    let key_id = "key-00000000000000000000000000000000".to_owned();
    let request = v1::DescribeKeyRequest { key_id, min_state_index: 1 << 40 };
    let mut keys = node.keys("auditor");
    let gone = tokio::time::timeout(Duration::from_millis(100), keys.describe_key(request)).await;
    assert!(gone.is_err());
    for _ in 0..100 {
        if let Some(record) = node.recorded().get(before) {
            assert_eq!(record.outcome.as_str(), "CANCELLED");
            assert_eq!(record.principal.name.as_str(), "auditor");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no record");
}

#[tokio::test]
async fn tail_shows_the_records_in_order_and_follows_new_ones() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut audits = node.audits("auditor");
    let request = v1::TailAuditRequest { record_count_max: 100, ..Default::default() };
    let mut tail = audits.tail_audit(request).await.unwrap().into_inner();
    let mut records = Vec::new();
    while let Some(answer) = tail.message().await.unwrap() {
        records.push(answer.record.unwrap());
    }
    let sequences: Vec<_> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, (1..=records.len() as u64).collect::<Vec<_>>());
    let create = records.iter().find(|record| record.operation == "CreateKey").unwrap();
    assert_eq!((create.caller.as_str(), create.code), ("key-admin", 0));
    assert!(create.resources.iter().any(|resource| resource.starts_with(&key_id)));
    assert!(create.json.starts_with('{') && create.request_id.starts_with("req-"));

    let request = v1::TailAuditRequest {
        after_sequence: *sequences.last().unwrap(),
        follow: true,
        ..Default::default()
    };
    let mut tail = audits.tail_audit(request).await.unwrap().into_inner();
    let mut operations = Vec::new();
    while operations.last().map(String::as_str) != Some("GenerateRandom") {
        if operations.is_empty() {
            let draw = v1::GenerateRandomRequest { length_bytes: 8, ..Default::default() };
            node.crypto("key-user").generate_random(draw).await.unwrap();
        }
        operations.push(tail.message().await.unwrap().unwrap().record.unwrap().operation);
    }
    assert!(operations.contains(&"TailAudit".to_owned()), "{operations:?}");
}
