//! Nodes of a life of the cluster that is over, and of another cluster.

use tokio::time::Duration;
use twinkeep_client::{BuildError, Error, Fault, v1};

use crate::fake::{Cluster, hello};

#[tokio::test]
async fn node_of_an_older_life_is_refused_once_a_newer_one_was_met() {
    let cluster = Cluster::new();
    let (old, new) = (cluster.node_of_life(1), cluster.node_of_life(2));
    let client = cluster.client(&[&old, &new]);
    assert_eq!(client.cluster(), None);
    let at = |node: &crate::fake::Node| client.at(&node.address).unwrap();
    at(&old).encrypt(hello()).await.unwrap();
    assert_eq!(client.cluster().unwrap().1, 1);
    at(&new).encrypt(hello()).await.unwrap();
    let (id, incarnation) = client.cluster().unwrap();
    assert!(id.starts_with("clu-") && incarnation == 2, "{id} {incarnation}");

    // The connection that was open is replaced, and the next one refused, before the node has seen a certificate.
    let began = tokio::time::Instant::now();
    let error = loop {
        match at(&old).encrypt(hello()).await {
            Ok(_) => assert!(began.elapsed() < Duration::from_secs(5), "it is still called"),
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let Error::CertificateRefused { refusal, .. } = &error else { panic!("{error:?}") };
    assert_eq!(refusal.fault, Fault::OldIncarnation { found: 1, newest: 2 });
    assert!(error.to_string().contains("incarnation 1 of the cluster"), "{error}");
    assert!(!error.is_retryable());
    let calls = old.seen().len();

    // Other calls go where the cluster lives on, changes too.
    for _ in 0..20 {
        client.encrypt(hello()).await.unwrap();
        client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
    }
    assert_eq!(old.seen().len(), calls);
}

#[tokio::test]
async fn what_was_met_is_remembered_in_a_file() {
    let cluster = Cluster::new();
    let (old, new) = (cluster.node_of_life(1), cluster.node_of_life(3));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let client = |node| {
        let builder = cluster.builder(&[node]).follow_topology(false).memory_file(&file);
        builder.build().unwrap()
    };
    client(&new).encrypt(hello()).await.unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.ends_with("incarnation 3\n"), "{text}");

    // Another process, which meets a node that was given up first.
    let error = client(&old).encrypt(hello()).await.unwrap_err();
    let Error::CertificateRefused { refusal, .. } = &error else { panic!("{error:?}") };
    assert_eq!(refusal.fault, Fault::OldIncarnation { found: 1, newest: 3 });
    assert!(old.seen().is_empty());

    // A file that says something else is not taken for no file.
    std::fs::write(&file, "rubbish").unwrap();
    let builder = cluster.builder(&[&old]).memory_file(&file);
    let error = builder.build().unwrap_err();
    assert!(matches!(error, BuildError::Memory { .. }), "{error:?}");
    assert!(error.to_string().contains("remove the file"), "{error}");
}

#[tokio::test]
async fn node_of_another_cluster_is_refused_by_its_name() {
    let (cluster, other) = (Cluster::new(), Cluster::of([9; 16]));
    let (ours, theirs) = (cluster.node(), other.node());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let builder = cluster.builder(&[&ours]).follow_topology(false).memory_file(&file);
    builder.build().unwrap().encrypt(hello()).await.unwrap();
    // Both roots are trusted, as by a client that was given too many.
    let roots = cluster.root() + &other.root();
    let builder = other.builder(&[&theirs]).follow_topology(false).root(roots).memory_file(&file);
    let error = builder.build().unwrap().encrypt(hello()).await.unwrap_err();
    let Error::CertificateRefused { refusal, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(refusal.fault, Fault::OtherCluster { .. }), "{error}");
    assert!(theirs.seen().is_empty());
}
