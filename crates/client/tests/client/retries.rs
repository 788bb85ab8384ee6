//! What is sent twice and what is not.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;
use twinkeep_client::{Error, Outcome, v1};

use crate::fake::{Cluster, Node, Way, hello, nobody};

const WIRE: &[u8] = b"olleh";

fn total(nodes: &[&Node]) -> usize {
    nodes.iter().map(|node| node.seen().len()).sum()
}

#[tokio::test]
async fn unavailable_node_is_left_for_another() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.refuses(Code::Unavailable);
    let answer = cluster.client(&[&one, &two]).encrypt(hello()).await.unwrap();
    assert_eq!(&*answer.ciphertext, WIRE);
    assert_eq!((one.seen().len(), two.seen().len()), (1, 1));
}

#[tokio::test]
async fn refusal_is_final_and_nobody_else_is_asked() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    let client = cluster.client(&[&one, &two]);
    for code in [
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::ResourceExhausted,
    ] {
        one.refuses(code);
        one.forget();
        let error = client.encrypt(hello()).await.unwrap_err();
        assert!(!error.is_retryable(), "{error:?}");
        // Whether a certificate has ended is a matter of the node's clock.
        let address = format!("{}: ", one.address);
        let address = if code == Code::Unauthenticated { address } else { String::new() };
        assert_eq!(error.to_string(), address + "as the test says");
        assert_eq!((one.seen().len(), two.seen().len()), (1, 0), "{code:?}");
    }
}

#[tokio::test]
async fn crypto_call_is_tried_three_times_at_most() {
    let cluster = Cluster::new();
    let nodes: Vec<_> = (0..4).map(|_| cluster.node()).collect();
    nodes.iter().for_each(|node| node.refuses(Code::Unavailable));
    let nodes: Vec<_> = nodes.iter().collect();
    let error = cluster.client(&nodes).encrypt(hello()).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { attempts: 3, outcome: Outcome::NotDone, .. }),
        "{error:?}"
    );
    assert_eq!(total(&nodes), 3);
}

#[tokio::test]
async fn damaged_answer_is_fetched_again_from_another_node() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.does(Way::Damage);
    let client = cluster.client(&[&one, &two]);
    assert_eq!(&*client.encrypt(hello()).await.unwrap().ciphertext, WIRE);
    two.does(Way::Damage);
    let error = client.encrypt(hello()).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { outcome: Outcome::NotDone, .. }), "{error:?}");
}

#[tokio::test]
async fn change_goes_where_the_hint_points_and_the_next_one_at_once() {
    let cluster = Cluster::new();
    let (follower, leader) = (cluster.node(), cluster.node());
    follower.does(Way::Refuse(Code::Unavailable, Some(leader.address.clone())));
    let client = cluster.client(&[&follower, &leader]);
    for _ in 0..3 {
        client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
    }
    assert_eq!((follower.seen().len(), leader.seen().len()), (1, 3));
}

#[tokio::test]
async fn change_waits_for_a_leader_and_keeps_its_token() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.refuses(Code::Unavailable);
    two.refuses(Code::Unavailable);
    let client = cluster.client(&[&one, &two]);
    let creating = tokio::spawn({
        let client = client.clone();
        async move { client.create_key(v1::CreateKeyRequest::default()).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    two.does(Way::Answer);
    creating.await.unwrap().unwrap();

    let seen: Vec<_> = one.seen().into_iter().chain(two.seen()).collect();
    assert!(seen.len() >= 4, "{}", seen.len());
    assert!(seen.iter().all(|call| call.token.len() == 16 && call.token == seen[0].token));

    // Another call is another key.
    two.forget();
    client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
    assert_ne!(two.seen()[0].token, seen[0].token);
}

#[tokio::test]
async fn token_of_the_caller_is_kept() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let request =
        v1::CreateKeyRequest { idempotency_token: vec![9; 16].into(), ..Default::default() };
    cluster.client(&[&node]).create_key(request).await.unwrap();
    assert_eq!(node.seen()[0].token, [9; 16]);
}

#[tokio::test]
async fn change_that_must_happen_once_is_not_sent_twice() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.refuses(Code::Unavailable);
    let client = cluster.client(&[&one, &two]);
    let error = client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");

    // With a revision the second sending would be refused and taken for somebody else's change.
    let pinned = v1::EnableKeyRequest { expected_revision: 7, ..Default::default() };
    let error = client.enable_key(pinned).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert_eq!((one.seen().len(), two.seen().len()), (2, 0));

    client.enable_key(v1::EnableKeyRequest::default()).await.unwrap();
    assert_eq!(two.seen().len(), 1);
}

#[tokio::test]
async fn change_that_never_left_goes_to_another_node() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let client = cluster.builder(&[]).follow_topology(false);
    let client = client
        .endpoint_in("zone-a", nobody())
        .endpoint_in("zone-b", &node.address)
        .build()
        .unwrap();
    client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap();
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn connection_that_breaks_leaves_the_outcome_of_a_single_change_open() {
    let cluster = Cluster::new();
    let (mut one, two) = (cluster.node(), cluster.node());
    one.does(Way::Silent);
    let client = cluster.client(&[&one, &two]);
    let admitting =
        tokio::spawn(async move { client.admit_node(v1::AdmitNodeRequest::default()).await });
    while one.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    one.kill();
    let error = admitting.await.unwrap().unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert!(two.seen().is_empty());
}

#[tokio::test]
async fn silence_ends_with_the_calls_time() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.does(Way::Silent);
    let client = cluster.client(&[&node]).with_deadline(Duration::from_millis(300));
    let began = Instant::now();
    let error = client.encrypt(hello()).await.unwrap_err();
    assert!(
        matches!(error, Error::DeadlineExceeded { outcome: Outcome::NotDone, .. }),
        "{error:?}"
    );
    let error = client.create_key(v1::CreateKeyRequest::default()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    let took = began.elapsed();
    assert!((600..1500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn call_to_one_node_is_made_once() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.refuses(Code::Unavailable);
    let client = cluster.client(&[&one, &two]);
    let bound = client.at(&one.address).unwrap();
    bound.encrypt(hello()).await.unwrap_err();
    bound.create_key(v1::CreateKeyRequest::default()).await.unwrap_err();
    assert_eq!((one.seen().len(), two.seen().len()), (2, 0));
    let gone = client.at(&nobody()).unwrap();
    let error = gone.encrypt(hello()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn refusal_ends_the_call_although_a_hedge_is_open() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.does(Way::Silent);
    two.refuses(Code::PermissionDenied);
    let client = cluster.client(&[&one, &two]);
    let began = Instant::now();
    let error = client.encrypt(hello()).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Each change waited 300 ms for a leader in a silent zone, and then for the other nodes of that zone.
#[tokio::test]
async fn change_begins_where_the_last_one_got_through_while_others_were_silent() {
    let cluster = Cluster::new();
    let nodes: Vec<_> = (0..4).map(|_| cluster.node()).collect();
    let client = cluster.client(&nodes.iter().collect::<Vec<_>>());
    // Nodes 0 and 2 are the near zone.
    nodes[0].does(Way::Silent);
    nodes[2].does(Way::Silent);
    for _ in 0..4 {
        client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
    }
    assert_eq!(total(&[&nodes[0], &nodes[2]]), 1);
    assert_eq!(total(&[&nodes[1], &nodes[3]]), 4);
}

#[tokio::test]
async fn nodes_that_point_at_each_other_do_not_chase_a_call_round() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.does(Way::Refuse(Code::Unavailable, Some(two.address.clone())));
    two.does(Way::Refuse(Code::Unavailable, Some(one.address.clone())));
    let client = cluster.client(&[&one, &two]).with_deadline(Duration::from_secs(1));
    client.create_key(v1::CreateKeyRequest::default()).await.unwrap_err();
    assert!(total(&[&one, &two]) < 50, "{} attempts in a second", total(&[&one, &two]));
}

#[tokio::test]
async fn refusal_that_changed_nothing_is_known_as_such() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    let client = cluster.client(&[&one, &two]);
    // Use of keys and reading change nothing, whatever went wrong.
    for code in [Code::Internal, Code::Unknown] {
        one.refuses(code);
        two.refuses(code);
        let error = client.encrypt(hello()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotDone, "{error:?}");
        let error = client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    }

    // A node that vouches for it lets even what must happen once go to another node.
    one.does(Way::RefuseUndone(Code::Unavailable));
    two.does(Way::Answer);
    two.forget();
    client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap();
    assert_eq!(two.seen().len(), 1);
    two.does(Way::RefuseUndone(Code::Unavailable));
    let hurried = client.with_deadline(Duration::from_millis(300));
    let calls = (0..20).map(|_| hurried.admit_node(v1::AdmitNodeRequest::default()));
    let errors = futures::future::join_all(calls).await.into_iter().map(Result::unwrap_err);
    let known = errors.filter(|error| error.outcome() == Outcome::NotDone).count();
    // The deadline may cut off an attempt that is under way, and what became of that nobody knows. Pauses are a
    // hundred times as long as attempts, so of most calls it finds none.
    assert!(known >= 10, "{known} of 20");
}
