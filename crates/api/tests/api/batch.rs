//! Batches: each item is authorised, done, recorded and answered on its own.

use tonic::Code;
use twinkeep_core::access::Role;
use twinkeep_proto::v1;
use v1::KeySpec;
use v1::encrypt_result::Result as Outcome;

use crate::node::{MAIN, OTHER, TestNode, on_instance};

fn item(key_id: &str, plaintext: &'static [u8]) -> v1::EncryptRequest {
    v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: plaintext.into(),
        ..Default::default()
    }
}

fn code(result: &v1::EncryptResult) -> Code {
    match result.result.as_ref().unwrap() {
        Outcome::Ok(_) => Code::Ok,
        Outcome::Error(error) => Code::from_i32(error.code),
    }
}

#[tokio::test]
async fn bad_item_fails_alone_and_with_the_code_it_would_have_had_alone() {
    let node = TestNode::start().await;
    let good = node.key(KeySpec::Aes256).await.key_id;
    let disabled = node.key(KeySpec::Aes256).await.key_id;
    node.disable(&disabled).await;
    node.bind("app", &[on_instance(Role::KeyUser, MAIN)]);
    let foreign = node.key_in(OTHER, KeySpec::Aes256, v1::KeyUsage::Unspecified).await.key_id;
    let missing = "key-00000000000000000000000000000000";
    let damaged = v1::EncryptRequest { plaintext_crc32c: Some(1), ..item(&good, b"x") };
    let items = vec![
        item(&good, b"one"),
        item("not a key", b"two"),
        item(missing, b"three"),
        item(&foreign, b"four"),
        item(&disabled, b"five"),
        damaged,
        item(&good, b"seven"),
    ];
    let batch = v1::EncryptBatchRequest { items: items.clone(), min_state_index: 0 };
    let mut crypto = node.crypto("app");
    let results = crypto.encrypt_batch(batch).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(code).collect();
    let expected = [
        Code::Ok,
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::DataLoss,
        Code::Ok,
    ];
    assert_eq!(codes, expected);
    for (item, result) in items.into_iter().zip(results) {
        let alone = crypto.encrypt(item).await;
        match (alone, result.result.unwrap()) {
            (Ok(_), Outcome::Ok(_)) => {}
            (Err(status), Outcome::Error(error)) => assert_eq!(status.message(), error.message),
            (alone, batched) => panic!("{alone:?} alone, {batched:?} in the batch"),
        }
    }
}

#[tokio::test]
async fn missing_and_forbidden_key_are_answered_alike_in_a_batch() {
    let node = TestNode::start().await;
    node.bind("app", &[on_instance(Role::KeyUser, MAIN)]);
    let foreign = node.key_in(OTHER, KeySpec::Aes256, v1::KeyUsage::Unspecified).await.key_id;
    let missing = "key-00000000000000000000000000000000";
    let items = vec![item(missing, b""), item(&foreign, b"")];
    let batch = v1::EncryptBatchRequest { items, min_state_index: 0 };
    let answer = node.crypto("app").encrypt_batch(batch).await.unwrap().into_inner();
    assert_eq!(answer.results[0], answer.results[1]);
}

#[tokio::test]
async fn every_item_leaves_its_own_record_under_one_request_id() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let before = node.recorded().len();
    let items = vec![item(&key_id, b"one"), item("not a key", b"two")];
    let batch = v1::EncryptBatchRequest { items, min_state_index: 0 };
    let answer = node.crypto("key-user").encrypt_batch(batch).await.unwrap();
    let id = answer.metadata().get(twinkeep_proto::metadata::REQUEST_ID).unwrap().clone();
    let records = node.recorded().split_off(before);
    let outcomes: Vec<_> = records.iter().map(|record| record.outcome.as_str()).collect();
    assert_eq!(outcomes, ["OK", "INVALID_ARGUMENT"]);
    for record in &records {
        assert_eq!(record.operation.as_str(), "EncryptBatch");
        assert_eq!(record.request.to_string(), id.to_str().unwrap());
        assert_eq!(record.principal.name.as_str(), "key-user");
    }
}

#[tokio::test]
async fn batch_over_its_limits_is_refused_as_a_whole_with_one_record() {
    let node = TestNode::start().await;
    let before = node.recorded().len();
    let many = vec![v1::EncryptRequest::default(); 257];
    let large = v1::EncryptRequest { plaintext: vec![0; 64 << 10].into(), ..Default::default() };
    for (items, code, text) in [
        (vec![], Code::InvalidArgument, "items is missing; give at least one item"),
        (many, Code::ResourceExhausted, "items of 257 is over the limit of 256; split the batch"),
        (vec![large; 17], Code::ResourceExhausted, "bytes of all items of "),
    ] {
        let batch = v1::EncryptBatchRequest { items, min_state_index: 0 };
        let status = node.crypto("key-user").encrypt_batch(batch).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(status.message().starts_with(text), "{}", status.message());
    }
    assert_eq!(node.recorded().len(), before + 3);
}

#[tokio::test]
async fn items_beyond_the_cost_of_a_batch_fail_alone() {
    let node = TestNode::start().await;
    let item = v1::GenerateRandomRequest { length_bytes: 65_536, ..Default::default() };
    let batch = v1::GenerateRandomBatchRequest { items: vec![item; 20], min_state_index: 0 };
    let answer = node.crypto("key-user").generate_random_batch(batch).await.unwrap().into_inner();
    let failed: Vec<_> = answer
        .results
        .into_iter()
        .filter_map(|result| match result.result.unwrap() {
            v1::generate_random_result::Result::Ok(_) => None,
            v1::generate_random_result::Result::Error(error) => Some(error),
        })
        .collect();
    assert_eq!(failed.len(), 1, "20 x 1024 units of 20,000");
    assert_eq!(failed[0].code, Code::ResourceExhausted as i32);
    assert!(failed[0].message.starts_with("cost of the batch"), "{}", failed[0].message);
}

#[tokio::test]
async fn asymmetric_items_are_done_in_the_order_of_the_request() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::EcP256).await.key_id;
    let sign = |i: u8| v1::SignRequest {
        key_id: key_id.clone(),
        message: vec![i; 8].into(),
        ..Default::default()
    };
    let batch = v1::SignBatchRequest { items: (0..40).map(sign).collect(), min_state_index: 0 };
    let mut crypto = node.crypto("key-user");
    let signed = crypto.sign_batch(batch).await.unwrap().into_inner();
    let verify = |(i, result): (u8, v1::SignResult)| {
        let Some(v1::sign_result::Result::Ok(signed)) = result.result else { panic!("{i}") };
        v1::VerifyRequest {
            key_id: key_id.clone(),
            message: vec![i; 8].into(),
            signature: signed.signature,
            ..Default::default()
        }
    };
    let items = (0..).zip(signed.results).map(verify).collect();
    let batch = v1::VerifyBatchRequest { items, min_state_index: 0 };
    let verified = crypto.verify_batch(batch).await.unwrap().into_inner();
    for result in verified.results {
        let Some(v1::verify_result::Result::Ok(verdict)) = result.result else { panic!() };
        assert!(verdict.valid);
    }
}
