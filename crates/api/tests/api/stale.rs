//! Nodes whose state may be old: what they still do, and what a change says of them.

use std::time::Duration;

use tonic::Code;
use twinkeep_api::ports::{Freshness, Laggard};
use twinkeep_core::id::NodeId;
use twinkeep_proto::v1::{self, when_stale};

use crate::node::{START_MS, TestNode};

const HOUR: Duration = Duration::from_secs(3600);

fn stale(age: Duration) -> Freshness {
    Freshness::Stale { age: Some(age) }
}

async fn key_with(node: &TestNode, choice: when_stale::Choice) -> v1::Key {
    let when_stale = Some(v1::WhenStale { choice: Some(choice) });
    let request = v1::CreateKeyRequest {
        instance_id: crate::node::MAIN.to_string(),
        spec: v1::KeySpec::Aes256.into(),
        when_stale,
        ..Default::default()
    };
    let answer = node.keys("key-admin").create_key(request).await.unwrap().into_inner();
    let key = answer.key.unwrap();
    assert_eq!(key.when_stale, when_stale);
    key
}

async fn encrypt(node: &TestNode, key_id: &str) -> Result<v1::EncryptResponse, tonic::Status> {
    let request = v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: b"hello"[..].into(),
        ..Default::default()
    };
    node.crypto("key-user").encrypt(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn key_is_used_by_an_old_state_for_an_hour_and_the_answer_says_how_old() {
    let node = TestNode::start().await;
    let key_id = node.key(v1::KeySpec::Aes256).await.key_id;
    assert_eq!(encrypt(&node, &key_id).await.unwrap().state_age_ms, 0);
    node.control.set_freshness(stale(Duration::from_millis(6_500)));
    assert_eq!(encrypt(&node, &key_id).await.unwrap().state_age_ms, 6_500);
    node.control.set_freshness(stale(HOUR));
    let refused = encrypt(&node, &key_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(
        refused.message(),
        "this node has not heard from a leader for 3600 s, and the key is not used by a state that old; call \
         another node"
    );
    node.control.set_freshness(Freshness::Stale { age: None });
    let refused = encrypt(&node, &key_id).await.unwrap_err();
    assert!(refused.message().contains("since it started"), "{}", refused.message());
}

#[tokio::test]
async fn key_that_fails_closed_is_not_used_by_an_old_state_at_all() {
    let node = TestNode::start().await;
    let closed = key_with(&node, when_stale::Choice::FailClosed(v1::FailClosed {})).await.key_id;
    let short = key_with(&node, when_stale::Choice::GraceS(60)).await.key_id;
    encrypt(&node, &closed).await.unwrap();
    node.control.set_freshness(stale(Duration::from_millis(5_001)));
    assert_eq!(encrypt(&node, &closed).await.unwrap_err().code(), Code::Unavailable);
    encrypt(&node, &short).await.unwrap();
    node.control.set_freshness(stale(Duration::from_secs(60)));
    assert_eq!(encrypt(&node, &short).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn choice_that_is_none_or_too_long_is_refused_by_its_field() {
    let node = TestNode::start().await;
    let create = |choice| {
        let request = v1::CreateKeyRequest {
            instance_id: crate::node::MAIN.to_string(),
            spec: v1::KeySpec::Aes256.into(),
            when_stale: Some(v1::WhenStale { choice }),
            ..Default::default()
        };
        let mut keys = node.keys("key-admin");
        async move { keys.create_key(request).await.unwrap_err() }
    };
    for (choice, text) in [
        (None, "when_stale"),
        (Some(when_stale::Choice::GraceS(0)), "when_stale.grace_s"),
        (Some(when_stale::Choice::GraceS(86_401)), "when_stale.grace_s"),
    ] {
        let refused = create(choice).await;
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(text), "{}", refused.message());
    }
}

async fn disable(node: &TestNode, key_id: &str) -> v1::DisableKeyResponse {
    let request = v1::DisableKeyRequest { key_id: key_id.to_owned(), ..Default::default() };
    node.keys("key-admin").disable_key(request).await.unwrap().into_inner()
}

fn laggard(lease_left_ms: i64) -> Vec<Laggard> {
    vec![Laggard { node: NodeId::FIRST, lease_left_ms }]
}

#[tokio::test]
async fn disable_says_where_the_key_may_still_be_used_and_until_when() {
    let node = TestNode::start().await;
    let closed = key_with(&node, when_stale::Choice::FailClosed(v1::FailClosed {})).await.key_id;
    let short = key_with(&node, when_stale::Choice::GraceS(60)).await.key_id;
    let answer = disable(&node, &closed).await;
    assert!(answer.effective_everywhere && answer.pending_in.is_empty());

    // A node that nobody hears: over is its lease for the one key, and not the grace of the other.
    node.control.set_laggards(laggard(-1));
    let answer = disable(&node, &closed).await;
    assert!(answer.effective_everywhere && answer.pending_in.is_empty());
    let answer = disable(&node, &short).await;
    assert!(!answer.effective_everywhere);
    let until_unix_ms = START_MS + 60_000 - 1;
    assert_eq!(answer.pending_in, [v1::PendingZone { zone: "zone-a".to_owned(), until_unix_ms }]);

    // The caller had no time to wait for the lease.
    node.control.set_laggards(laggard(2_000));
    let answer = disable(&node, &closed).await;
    let until_unix_ms = START_MS + 2_000;
    assert_eq!(answer.pending_in, [v1::PendingZone { zone: "zone-a".to_owned(), until_unix_ms }]);

    // Gone for longer than any grace.
    node.control.set_laggards(laggard(-60_000));
    assert!(disable(&node, &short).await.effective_everywhere);
}
