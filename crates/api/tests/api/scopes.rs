//! What a caller without permission learns: nothing, not even what exists.

use tonic::{Code, Status};
use twinkeep_core::access::Role;
use twinkeep_proto::v1;
use v1::{KeySpec, KeyUsage};

use crate::node::{MAIN, OTHER, TestNode, on_instance, on_key};

const MISSING: &str = "key-00000000000000000000000000000000";

async fn encrypt(node: &TestNode, caller: &str, key_id: &str) -> Result<(), Status> {
    let request = v1::EncryptRequest { key_id: key_id.to_owned(), ..Default::default() };
    node.crypto(caller).encrypt(request).await.map(|_| ())
}

#[tokio::test]
async fn missing_key_and_forbidden_key_are_answered_with_the_same_words() {
    let node = TestNode::start().await;
    let own = node.key(KeySpec::Aes256).await.key_id;
    let foreign = node.key_in(OTHER, KeySpec::Aes256, KeyUsage::Unspecified).await.key_id;
    node.bind("app", &[on_instance(Role::KeyUser, MAIN)]);
    encrypt(&node, "app", &own).await.unwrap();
    let forbidden = encrypt(&node, "app", &foreign).await.unwrap_err();
    let missing = encrypt(&node, "app", MISSING).await.unwrap_err();
    assert_eq!(forbidden.code(), Code::PermissionDenied);
    assert_eq!((forbidden.code(), forbidden.message()), (missing.code(), missing.message()));

    // A disabled key of others does not show its state either.
    node.disable(&foreign).await;
    let disabled = encrypt(&node, "app", &foreign).await.unwrap_err();
    assert_eq!(disabled.message(), missing.message());

    // Nor does a ciphertext tell whether its key exists.
    let mut blob = vec![0xcb, 1, 1, 0];
    blob.extend([0; 16]);
    blob.extend([0, 0, 0, 1]);
    blob.extend([0; 76]);
    let request = v1::DecryptRequest { ciphertext: blob.into(), ..Default::default() };
    let status = node.crypto("app").decrypt(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn only_who_may_see_all_keys_is_told_that_one_does_not_exist() {
    let node = TestNode::start().await;
    let request = v1::DescribeKeyRequest { key_id: MISSING.to_owned(), min_state_index: 0 };
    node.bind("narrow", &[on_instance(Role::KeyAdmin, MAIN)]);
    for (caller, code) in [
        ("key-admin", Code::NotFound),
        ("auditor", Code::NotFound),
        // May describe keys, but not list them.
        ("key-user", Code::PermissionDenied),
        ("narrow", Code::PermissionDenied),
    ] {
        let status = node.keys(caller).describe_key(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), code, "{caller}");
    }
}

#[tokio::test]
async fn role_on_one_key_reaches_that_key_and_no_other() {
    let node = TestNode::start().await;
    let own = node.key(KeySpec::Aes256).await.key_id;
    let next = node.key(KeySpec::Aes256).await.key_id;
    node.bind("app", &[on_key(Role::KeyUser, &own)]);
    encrypt(&node, "app", &own).await.unwrap();
    assert_eq!(encrypt(&node, "app", &next).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn re_encryption_needs_its_permission_on_both_keys() {
    let node = TestNode::start().await;
    let source = node.key(KeySpec::Aes256).await.key_id;
    let destination = node.key_in(OTHER, KeySpec::Aes256, KeyUsage::Unspecified).await.key_id;
    let request = v1::EncryptRequest { key_id: source.clone(), ..Default::default() };
    let sealed = node.crypto("key-user").encrypt(request).await.unwrap().into_inner();
    let request = v1::ReEncryptRequest {
        ciphertext: sealed.ciphertext,
        destination_key_id: destination.clone(),
        ..Default::default()
    };
    node.bind("from", &[on_key(Role::KeyUser, &source)]);
    node.bind("to", &[on_key(Role::KeyUser, &destination)]);
    for caller in ["from", "to"] {
        let status = node.crypto(caller).re_encrypt(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{caller}");
    }
    let both = [on_key(Role::KeyUser, &source), on_key(Role::KeyUser, &destination)];
    node.bind("both", &both);
    node.crypto("both").re_encrypt(request).await.unwrap();
}

#[tokio::test]
async fn lists_show_what_their_caller_may_see() {
    let node = TestNode::start().await;
    node.bind("narrow", &[on_instance(Role::KeyAdmin, MAIN)]);
    let mut instances = node.instances("narrow");
    let listed = instances.list_instances(v1::ListInstancesRequest::default()).await.unwrap();
    let ids: Vec<_> =
        listed.into_inner().instances.into_iter().map(|instance| instance.instance_id).collect();
    assert_eq!(ids, [MAIN.to_string()]);
    let request = v1::ListKeysRequest { instance_id: OTHER.to_string(), ..Default::default() };
    let status = node.keys("narrow").list_keys(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let missing = "kst-00000000000000000000000000000000";
    let request = v1::ListKeysRequest { instance_id: missing.to_owned(), ..Default::default() };
    let missing = node.keys("narrow").list_keys(request).await.unwrap_err();
    assert_eq!(missing.message(), status.message());
}

#[tokio::test]
async fn refused_caller_cannot_tell_a_malformed_request_from_a_good_one() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let good = encrypt(&node, "key-admin", &key_id).await.unwrap_err();
    let malformed = encrypt(&node, "key-admin", "rubbish").await.unwrap_err();
    assert_eq!((good.code(), good.message()), (malformed.code(), malformed.message()));
}
