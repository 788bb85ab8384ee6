//! Making, finding and changing keys and instances.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tonic::{Code, Request};
use twinkeep_core::key::KeyEvent;
use twinkeep_proto::v1;
use v1::{KeySpec, KeyState, KeyUsage};

use crate::node::{MAIN, OTHER, TestNode};

fn create(spec: KeySpec) -> v1::CreateKeyRequest {
    v1::CreateKeyRequest {
        instance_id: MAIN.to_string(),
        spec: spec.into(),
        description: "for invoices".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn new_key_is_described_as_it_was_asked_for() {
    let node = TestNode::start().await;
    let answer = node.keys("key-admin").create_key(create(KeySpec::EcP256)).await.unwrap();
    let answer = answer.into_inner();
    let key = answer.key.unwrap();
    assert_eq!((key.spec(), key.usage()), (KeySpec::EcP256, KeyUsage::SignVerify));
    assert_eq!((key.state(), key.revision), (KeyState::Enabled, 1));
    assert_eq!(key.description, "for invoices");
    let request =
        v1::DescribeKeyRequest { key_id: key.key_id.clone(), min_state_index: answer.state_index };
    let described = node.keys("auditor").describe_key(request).await.unwrap().into_inner();
    assert_eq!(described.versions, [key.primary_version.clone().unwrap()]);
    assert_eq!(described.key.unwrap(), key);
}

#[tokio::test]
async fn rsa_key_needs_a_usage_and_no_key_gets_one_that_its_spec_has_not() {
    let node = TestNode::start().await;
    let status = node.keys("key-admin").create_key(create(KeySpec::Rsa2048)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("usage is missing"), "{}", status.message());
    let request =
        v1::CreateKeyRequest { usage: KeyUsage::SignVerify.into(), ..create(KeySpec::Aes256) };
    let status = node.keys("key-admin").create_key(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "a key of spec AES_256 cannot be used for SIGN_VERIFY");
    let request = v1::CreateKeyRequest { spec: 999, ..create(KeySpec::Aes256) };
    let status = node.keys("key-admin").create_key(request).await.unwrap_err();
    assert_eq!(status.message(), "spec has the value 999, which this version does not know");
}

#[tokio::test]
async fn repeated_token_gives_the_first_key_and_another_request_is_refused() {
    let node = TestNode::start().await;
    let request =
        v1::CreateKeyRequest { idempotency_token: vec![7; 16].into(), ..create(KeySpec::Aes256) };
    let mut keys = node.keys("key-admin");
    let first = keys.create_key(request.clone()).await.unwrap().into_inner().key.unwrap();
    let proposals = node.control.proposals.load(Ordering::Relaxed);
    let again = v1::CreateKeyRequest { min_state_index: 1, ..request.clone() };
    let second = keys.create_key(again).await.unwrap().into_inner().key.unwrap();
    assert_eq!(second, first);
    // The repetition was answered from the state: no material was made for it.
    assert_eq!(node.control.proposals.load(Ordering::Relaxed), proposals);

    let other = v1::CreateKeyRequest { description: "other".to_owned(), ..request.clone() };
    let status = keys.create_key(other).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("draw a new one"), "{}", status.message());

    let short = v1::CreateKeyRequest { idempotency_token: vec![7; 8].into(), ..request };
    let status = keys.create_key(short).await.unwrap_err();
    let text = "length of idempotency_token is 8; send 16 random bytes, or none";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
}

#[tokio::test]
async fn list_shows_the_keys_of_one_instance_page_by_page_and_filtered() {
    let node = TestNode::start().await;
    let mut made = Vec::new();
    for spec in [KeySpec::Aes256, KeySpec::Hmac256, KeySpec::Aes256, KeySpec::Aes256] {
        made.push(node.key(spec).await);
    }
    node.key_in(OTHER, KeySpec::Aes256, KeyUsage::Unspecified).await;
    made[0] = node.disable(&made[0].key_id).await;
    made.sort_by(|a, b| a.key_id.cmp(&b.key_id));

    let mut keys = node.keys("auditor");
    let mut seen = Vec::new();
    let mut request =
        v1::ListKeysRequest { instance_id: MAIN.to_string(), page_size: 3, ..Default::default() };
    loop {
        let page = keys.list_keys(request.clone()).await.unwrap().into_inner();
        assert!(page.keys.len() <= 3);
        seen.extend(page.keys);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);

    let mut matching = async |spec: KeySpec, state: KeyState| {
        let request = v1::ListKeysRequest {
            instance_id: MAIN.to_string(),
            spec: spec.into(),
            state: state.into(),
            ..Default::default()
        };
        keys.list_keys(request).await.unwrap().into_inner().keys.len()
    };
    assert_eq!(matching(KeySpec::Aes256, KeyState::Unspecified).await, 3);
    assert_eq!(matching(KeySpec::Aes256, KeyState::Enabled).await, 2);
    assert_eq!(matching(KeySpec::Unspecified, KeyState::Disabled).await, 1);
    assert_eq!(matching(KeySpec::Rsa4096, KeyState::Unspecified).await, 0);
}

#[tokio::test]
async fn instance_can_be_left_out_only_while_there_is_one() {
    let node = TestNode::start().await;
    let request = v1::CreateKeyRequest { instance_id: String::new(), ..create(KeySpec::Aes256) };
    let status = node.keys("key-admin").create_key(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("instance_id is missing"), "{}", status.message());
}

#[tokio::test]
async fn disabling_twice_is_no_error_and_is_told_by_the_replicated_state() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let first = node.disable(&key_id).await;
    let proposals = node.control.proposals.load(Ordering::Relaxed);
    let second = node.disable(&key_id).await;
    assert_eq!((first.state(), &second), (KeyState::Disabled, &first));
    assert_eq!(node.control.proposals.load(Ordering::Relaxed), proposals + 1);
}

#[tokio::test]
async fn change_that_lost_the_race_is_tried_again_unless_a_revision_was_named() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let describe = |expected_revision| v1::UpdateKeyDescriptionRequest {
        key_id: key_id.clone(),
        description: "mine".to_owned(),
        expected_revision,
        ..Default::default()
    };
    let mut keys = node.keys("key-admin");
    let key = key_id.clone();
    node.control.before_next(move |control| control.move_key(&key, KeyEvent::Disable));
    let answer = keys.update_key_description(describe(0)).await.unwrap().into_inner();
    let changed = answer.key.unwrap();
    assert_eq!((changed.revision, changed.description.as_str()), (3, "mine"));
    assert_eq!(changed.state(), KeyState::Disabled);

    let key = key_id.clone();
    node.control.before_next(move |control| control.move_key(&key, KeyEvent::Enable));
    let status = keys.update_key_description(describe(3)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.message(), "the record is at revision 4, not at 3");
}

#[tokio::test]
async fn key_pending_deletion_is_not_enabled() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    node.control.move_key(&key_id, KeyEvent::ScheduleDeletion);
    let request = v1::EnableKeyRequest { key_id, ..Default::default() };
    let status = node.keys("key-admin").enable_key(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "a key that is PENDING_DELETION does not take ENABLE");
}

#[tokio::test]
async fn change_without_a_leader_says_so_and_names_the_last_one() {
    let node = TestNode::start().await;
    node.control.lose_leader();
    let status = node.keys("key-admin").create_key(create(KeySpec::Aes256)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("nothing was changed"), "{}", status.message());
    let leader = status.metadata().get(twinkeep_proto::metadata::LEADER).unwrap();
    assert_eq!(leader, "127.0.1.11:7101");
    assert!(status.metadata().get(twinkeep_proto::metadata::REQUEST_ID).is_some());
}

#[tokio::test]
async fn call_waits_for_the_state_that_its_caller_has_seen_and_no_longer_than_its_deadline() {
    let node = TestNode::start().await;
    let key = node.key(KeySpec::Aes256).await;
    let next = node.control.applied() + 1;
    let request = v1::DescribeKeyRequest { key_id: key.key_id.clone(), min_state_index: next };
    let mut keys = node.keys("auditor");
    let mut late = Request::new(request.clone());
    late.set_timeout(Duration::from_millis(50));
    let status = keys.describe_key(late).await.unwrap_err();
    let codes = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
    assert!(codes.contains(&status.code()), "{status:?}");

    let waiting = tokio::spawn(async move { keys.describe_key(request).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    node.control.move_key(&key.key_id, KeyEvent::Disable);
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.key.unwrap().state(), KeyState::Disabled);
    assert!(answer.state_index >= next);
}

#[tokio::test]
async fn instance_names_are_taken_once() {
    let node = TestNode::start().await;
    let request = v1::CreateInstanceRequest {
        name: "third".to_owned(),
        r#type: v1::InstanceType::Software.into(),
        idempotency_token: vec![3; 16].into(),
        ..Default::default()
    };
    let mut instances = node.instances("admin");
    let made = instances.create_instance(request.clone()).await.unwrap().into_inner();
    let again = instances.create_instance(request.clone()).await.unwrap().into_inner();
    assert_eq!(made.instance, again.instance);
    let id = made.instance.unwrap().instance_id;
    let request = v1::CreateInstanceRequest { idempotency_token: [][..].into(), ..request };
    let status = instances.create_instance(request).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);

    let described = v1::DescribeInstanceRequest { instance_id: id, min_state_index: 0 };
    let described = instances.describe_instance(described).await.unwrap().into_inner();
    assert_eq!(described.instance.unwrap().name, "third");
    let listed = instances.list_instances(v1::ListInstancesRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().instances.len(), 3);
}
