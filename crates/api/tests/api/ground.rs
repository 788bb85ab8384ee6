//! What changes while a call is worked on: its result is discarded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tonic::Code;
use twinkeep_core::key::KeyEvent;
use twinkeep_proto::v1;
use v1::KeySpec;

use crate::node::TestNode;

fn encrypt(key_id: &str) -> v1::EncryptRequest {
    v1::EncryptRequest { key_id: key_id.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn key_disabled_during_a_call_gives_no_result() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let (control, key) = (Arc::clone(&node.control), key_id.clone());
    node.vault.while_opening(move || control.move_key(&key, KeyEvent::Disable));
    let status = node.crypto("key-user").encrypt(encrypt(&key_id)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{}", status.message());
}

#[tokio::test]
async fn description_changed_during_a_call_costs_an_attempt_and_no_error() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let (control, key) = (Arc::clone(&node.control), key_id.clone());
    node.vault.while_opening(move || {
        control.move_key(&key, KeyEvent::Disable);
        control.move_key(&key, KeyEvent::Enable);
    });
    let before = node.recorded().len();
    node.crypto("key-user").encrypt(encrypt(&key_id)).await.unwrap();
    let record = node.recorded().split_off(before).remove(0);
    assert_eq!((record.retries, record.outcome.as_str()), (1, "OK"));
}

#[tokio::test]
async fn roles_revoked_during_a_call_give_no_result() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let control = Arc::clone(&node.control);
    node.vault.while_opening(move || control.bind("key-user", &[]));
    let status = node.crypto("key-user").encrypt(encrypt(&key_id)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let status = node.crypto("key-user").encrypt(encrypt(&key_id)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn sealed_node_uses_no_key_not_even_one_that_was_open() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut crypto = node.crypto("key-user");
    crypto.encrypt(encrypt(&key_id)).await.unwrap();
    node.clusters("operator").seal(v1::SealRequest::default()).await.unwrap();
    let status = crypto.encrypt(encrypt(&key_id)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("sealed"), "{}", status.message());

    let unseal = v1::UnsealRequest { share: "right".to_owned(), ..Default::default() };
    let progress = node.clusters("operator").unseal(unseal).await.unwrap().into_inner();
    assert!(!progress.sealed);
    crypto.encrypt(encrypt(&key_id)).await.unwrap();
}

#[tokio::test]
async fn node_sealed_during_a_call_gives_no_result() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::EcP256).await.key_id;
    let request = v1::SignRequest { key_id, message: b"hello"[..].into(), ..Default::default() };
    let mut crypto = node.crypto("key-user");
    crypto.sign(request.clone()).await.unwrap();
    node.clusters("operator").seal(v1::SealRequest::default()).await.unwrap();
    node.vault.unseal();
    let vault = Arc::clone(&node.vault);
    node.vault.after_opening(move || vault.seal());
    let status = crypto.sign(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{}", status.message());
}

#[tokio::test]
async fn open_key_is_kept_and_opened_again_only_after_sealing() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut crypto = node.crypto("key-user");
    let opened = || node.vault.opened.load(Ordering::Relaxed);
    let before = opened();
    for _ in 0..10 {
        crypto.encrypt(encrypt(&key_id)).await.unwrap();
        // Changes elsewhere do not close it.
        node.key(KeySpec::Hmac256).await;
    }
    assert_eq!(opened(), before + 1);
    node.vault.seal();
    node.vault.unseal();
    crypto.encrypt(encrypt(&key_id)).await.unwrap();
    assert_eq!(opened(), before + 2);
}
