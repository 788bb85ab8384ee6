//! Certificates that are refused, on either side: said at once, with the address and what to do, unless another
//! node can be called.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;
use twinkeep_client::{Builder, Client, Error, Fault, Outcome, Refusal, Refuser, v1};
use twinkeep_core::id::ClusterId;

use crate::fake::{Cluster, Node, Way, hello, nobody, now, until};

/// More than a handshake takes on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);
/// What a call may take: far more.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a client waits for a node's first word.
const FIRST_WORD_MAX: Duration = Duration::from_millis(250);

/// A client that calls as somebody.
fn client(builder: Builder, nodes: &[&Node], identity: (Vec<u8>, Vec<u8>)) -> Client {
    let (chain, key) = identity;
    let builder = builder.identity(chain, key).follow_topology(false);
    nodes.iter().fold(builder, |builder, node| builder.endpoint(&node.address)).build().unwrap()
}

/// Makes a call of each kind: all have to fail at once, with the same refusal, which is returned.
async fn refused(client: &Client, nodes: &[&Node]) -> Refusal {
    let client = client.with_deadline(DEADLINE);
    let began = Instant::now();
    let errors = [
        client.encrypt(hello()).await.unwrap_err(),
        client.describe_key(v1::DescribeKeyRequest::default()).await.unwrap_err(),
        client.create_key(v1::CreateKeyRequest::default()).await.unwrap_err(),
        client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap_err(),
        client.watch_topology(v1::WatchTopologyRequest::default()).await.unwrap_err(),
    ];
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let mut last = None;
    for error in errors {
        assert!(!error.is_retryable() && error.outcome() == Outcome::NotDone, "{error:?}");
        let text = error.to_string();
        let Error::CertificateRefused { refusal, others } = error else { panic!("{text}") };
        assert_eq!(others + 1, nodes.len(), "{text}");
        assert!(nodes.iter().any(|node| node.address == refusal.address), "{text}");
        assert!(text.contains(&refusal.address) && text.contains(refusal.way_out()), "{text}");
        last = Some(refusal);
    }
    assert!(nodes.iter().all(|node| node.seen().is_empty()), "a call was let in");
    last.unwrap()
}

fn write(folder: &Path, identity: (Vec<u8>, Vec<u8>)) {
    let (chain, key) = (folder.join("app.pem"), folder.join("app.key"));
    std::fs::write(chain, identity.0).unwrap();
    std::fs::write(&key, identity.1).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(key, private).unwrap();
}

#[tokio::test]
async fn expired_certificate_is_said_at_once_until_there_is_a_new_one() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    let folder = tempfile::tempdir().unwrap();
    let life = Duration::from_secs(3);
    write(folder.path(), cluster.identity_for(life));
    let end = now() + life.as_secs();
    let client = [&one, &two]
        .iter()
        .fold(cluster.bare_builder(), |builder, node| builder.endpoint(&node.address))
        .identity_files(folder.path().join("app.pem"), folder.path().join("app.key"))
        .follow_topology(false)
        // They would open connections before the certificate ends.
        .health_probes(false)
        .build()
        .unwrap();
    until("time stands still", || now() > end).await;

    let refusal = refused(&client, &[&one, &two]).await;
    assert_eq!((refusal.by, &refusal.fault), (Refuser::Node, &Fault::NotValidNow));
    assert!(refusal.way_out().contains("issue-certificate"), "{}", refusal.way_out());

    write(folder.path(), cluster.identity());
    client.reload_identity().unwrap();
    client.encrypt(hello()).await.unwrap();
}

#[tokio::test]
async fn certificate_of_another_cluster_is_said_to_be_one() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let node = cluster.node();
    let stranger = client(cluster.bare_builder(), &[&node], other.identity());
    let refusal = refused(&stranger, &[&node]).await;
    assert_eq!((refusal.by, &refusal.fault), (Refuser::Node, &Fault::UnknownIssuer));

    // An authority that the node trusts, for a cluster that is not its own.
    let cluster = Cluster::with_callers_of(ClusterId::from_bytes([8; 16]));
    let node = cluster.node();
    let stranger = client(cluster.bare_builder(), &[&node], cluster.identity());
    let refusal = refused(&stranger, &[&node]).await;
    assert_eq!((refusal.by, &refusal.fault), (Refuser::Node, &Fault::NotACaller));
    assert!(refusal.way_out().contains("another cluster"), "{}", refusal.way_out());
}

#[tokio::test]
async fn node_that_the_root_does_not_vouch_for_is_refused_by_the_client() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (one, two) = (cluster.node(), cluster.node());
    let misled = client(other.bare_builder(), &[&one, &two], cluster.identity());
    let refusal = refused(&misled, &[&one, &two]).await;
    assert_eq!((refusal.by, &refusal.fault), (Refuser::Client, &Fault::UnknownIssuer));
    assert!(refusal.way_out().contains("check `root`"), "{}", refusal.way_out());
}

#[tokio::test]
async fn node_that_is_called_by_a_name_that_it_does_not_have_is_refused_with_those_it_has() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let (chain, key) = cluster.identity();
    let by_name = node.address.replace("127.0.0.1", "localhost");
    let builder = cluster.bare_builder().identity(chain, key).follow_topology(false);
    let error = builder.endpoint(&by_name).build().unwrap().encrypt(hello()).await.unwrap_err();
    let Error::CertificateRefused { refusal, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(refusal.fault, Fault::OtherName(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&by_name) && text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn change_that_an_earlier_attempt_may_have_made_is_not_called_undone() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let mut node = cluster.node();
    node.refuses(Code::Unavailable);
    let client = cluster.client(&[&node]).with_deadline(DEADLINE);
    let began = Instant::now();
    let creating =
        tokio::spawn(async move { client.create_key(v1::CreateKeyRequest::default()).await });
    until("the call is seen", || !node.seen().is_empty()).await;
    node.kill();
    let _stranger = other.node_instead_of(&node);
    let error = creating.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

/// A new connection waits for the node's first word, which may be a refusal: not for ever.
#[tokio::test]
async fn node_that_wants_to_hear_the_client_first_is_called_all_the_same() {
    let cluster = Cluster::new();
    let node = cluster.shy_node();
    let began = Instant::now();
    let client = cluster.client(&[&node]).with_deadline(DEADLINE);
    client.encrypt(hello()).await.unwrap();
    let took = began.elapsed();
    assert!((FIRST_WORD_MAX..AT_ONCE).contains(&took), "{took:?}");
}

/// A client of two clusters' nodes that has a certificate of the first one.
fn of_both(one: &Cluster, two: &Cluster) -> Builder {
    let (chain, key) = one.identity();
    let builder = Client::builder().root(one.root() + &two.root()).identity(chain, key);
    builder.follow_topology(false)
}

#[tokio::test]
async fn call_that_one_node_refuses_is_made_at_another_that_does_not() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (good, bad) = (cluster.node(), other.node());
    for _ in 0..20 {
        let builder = of_both(&cluster, &other).endpoint_in("a", &bad.address).zone("a");
        let client = builder.endpoint_in("b", &good.address).build().unwrap();
        // What may be sent once alone is sent there too: it has not been sent yet.
        client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap();
        client.encrypt(hello()).await.unwrap();
    }
    assert!(bad.seen().is_empty());
    assert_eq!(good.seen().len(), 40);
}

/// A caller whose certificate had ended heard of it only at its deadline while one node was down.
#[tokio::test]
async fn node_that_is_down_keeps_no_call_waiting_that_all_others_refuse() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let bad = other.node();
    let began = Instant::now();
    for _ in 0..10 {
        let builder = of_both(&cluster, &other).endpoint(&bad.address).endpoint(nobody());
        let client = builder.build().unwrap().with_deadline(DEADLINE);
        for error in [
            client.encrypt(hello()).await.unwrap_err(),
            client.describe_key(v1::DescribeKeyRequest::default()).await.unwrap_err(),
            client.create_key(v1::CreateKeyRequest::default()).await.unwrap_err(),
            client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap_err(),
        ] {
            assert!(!error.is_retryable() && error.outcome() == Outcome::NotDone, "{error:?}");
            let text = error.to_string();
            let Error::CertificateRefused { refusal, others } = error else { panic!("{text}") };
            assert_eq!((&refusal.address, others), (&bad.address, 1), "{text}");
            assert!(text.contains("another node was tried in vain"), "{text}");
        }
    }
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn node_that_is_down_may_come_back_where_the_client_refuses_the_other() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let node = cluster.node();
    let (chain, key) = cluster.identity();
    let builder = other.bare_builder().identity(chain, key).follow_topology(false);
    let client = builder.endpoint(&node.address).endpoint(nobody()).build().unwrap();
    let client = client.with_deadline(Duration::from_secs(1));
    let error = client.describe_key(v1::DescribeKeyRequest::default()).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
}

#[tokio::test]
async fn node_that_is_not_ready_may_become_so_and_the_call_says_both_in_the_end() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (bad, sealed) = (other.node(), cluster.node());
    sealed.does(Way::RefuseUndone(Code::Unavailable));
    let builder = of_both(&cluster, &other).endpoint(&bad.address).endpoint(&sealed.address);
    let client = builder.build().unwrap().with_deadline(Duration::from_secs(2));
    let error = client.create_key(v1::CreateKeyRequest::default()).await.unwrap_err();
    let Error::DeadlineExceeded { message, .. } = &error else { panic!("{error:?}") };
    assert!(error.is_retryable());
    let says_both = message.contains(&bad.address) && message.contains("refuses this caller");
    assert!(says_both, "{message}");
}

/// A client took a connection that was closed in good order for one that was accepted, and a change that goes out
/// once for one that may have been made.
#[tokio::test]
async fn connection_that_is_closed_before_the_first_word_never_was() {
    let cluster = Cluster::new();
    let (curt, good) = (cluster.curt_node(), cluster.node());
    for _ in 0..20 {
        // The curt node is in the client's zone, and is tried first.
        let client = cluster.client(&[&curt, &good]).with_deadline(DEADLINE);
        client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap();
    }
    assert_eq!(good.seen().len(), 20);

    let client = cluster.client(&[&curt]).with_deadline(Duration::from_secs(1));
    let error = client.admit_node(v1::AdmitNodeRequest::default()).await.unwrap_err();
    assert!(error.is_retryable() && error.outcome() == Outcome::NotDone, "{error:?}");
}
