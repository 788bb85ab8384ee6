//! Data keys that serve many messages.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use twinkeep_client::{Context, DataKeyError, DataKeyOptions, DataKeys};

use crate::fake::{Cluster, Node, Way};

const KEY: &str = "key-00112233445566778899aabbccddeeff";

fn data_keys(cluster: &Cluster, node: &Node, options: DataKeyOptions) -> DataKeys {
    cluster.client(&[node]).data_keys(KEY, options)
}

fn fetches(node: &Node, method: &str) -> usize {
    node.seen().iter().filter(|call| call.method == method).count()
}

#[tokio::test]
async fn one_data_key_serves_many_messages_and_opens_them_without_a_call() {
    let (cluster, options) = (Cluster::new(), DataKeyOptions::default());
    let node = cluster.node();
    let keys = data_keys(&cluster, &node, options);
    let context = Context::from_raw(b"order 7").unwrap();
    for number in 0..100 {
        let plaintext = format!("message {number}");
        let sealed = keys.seal(plaintext.as_bytes(), &context).await.unwrap();
        assert_eq!(*keys.open(&sealed, &context).await.unwrap(), plaintext.as_bytes());
        let error = keys.open(&sealed, &Context::NONE).await.unwrap_err();
        assert!(matches!(error, DataKeyError::Invalid(_)), "{error:?}");
    }
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn callers_at_once_fetch_one_data_key_and_unwrap_it_once_elsewhere() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let keys = data_keys(&cluster, &node, DataKeyOptions::default());
    let sealing = (0..100).map(|_| keys.seal(b"a message", &Context::NONE));
    let sealed: Vec<_> = join_all(sealing).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(fetches(&node, "generate_data_key"), 1);

    let elsewhere = data_keys(&cluster, &node, DataKeyOptions::default());
    let opening = sealed.iter().map(|blob| elsewhere.open(blob, &Context::NONE));
    for opened in join_all(opening).await {
        assert_eq!(*opened.unwrap(), b"a message");
    }
    assert_eq!(fetches(&node, "decrypt"), 1);
}

#[tokio::test]
async fn bounds_on_messages_and_bytes_bring_new_data_keys() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let keys = data_keys(&cluster, &node, DataKeyOptions::default().messages_max(2));
    for _ in 0..10 {
        keys.seal(b"", &Context::NONE).await.unwrap();
    }
    let fetched = fetches(&node, "generate_data_key");
    assert!((5..=10).contains(&fetched), "{fetched}");

    let node = cluster.node();
    let keys = data_keys(&cluster, &node, DataKeyOptions::default().bytes_max(100));
    for _ in 0..4 {
        keys.seal(&[7; 100], &Context::NONE).await.unwrap();
    }
    assert!(fetches(&node, "generate_data_key") >= 4);
}

#[tokio::test]
async fn next_data_key_is_there_before_the_old_one_is_too_old() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let options = DataKeyOptions::default().age_max(Duration::from_secs(2));
    let keys = data_keys(&cluster, &node, options);
    let began = Instant::now();
    while fetches(&node, "generate_data_key") < 3 {
        keys.seal(b"", &Context::NONE).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    // Two refreshes at four fifths of two seconds each, or later.
    assert!(began.elapsed() >= Duration::from_millis(3000), "{:?}", began.elapsed());
}

#[tokio::test]
async fn service_that_is_away_is_not_noticed_until_the_data_key_is_too_old() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let options = DataKeyOptions::default().age_max(Duration::from_secs(1));
    let keys = data_keys(&cluster, &node, options);
    let sealed = keys.seal(b"a message", &Context::NONE).await.unwrap();
    node.refuses(Code::FailedPrecondition);
    keys.seal(b"", &Context::NONE).await.unwrap();
    // As after a disable: what is here goes on, and ends at its age.
    sleep(Duration::from_millis(1500)).await;
    let error = keys.seal(b"", &Context::NONE).await.unwrap_err();
    assert!(matches!(error, DataKeyError::Call(_)) && !error.is_retryable(), "{error:?}");
    let error = keys.open(&sealed, &Context::NONE).await.unwrap_err();
    assert!(matches!(error, DataKeyError::Call(_)), "{error:?}");
    // A failure is not remembered.
    node.does(Way::Answer);
    assert_eq!(*keys.open(&sealed, &Context::NONE).await.unwrap(), b"a message");
    keys.seal(b"", &Context::NONE).await.unwrap();
}

#[tokio::test]
async fn fetch_goes_on_when_the_caller_that_began_it_has_left() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let keys = data_keys(&cluster, &node, DataKeyOptions::default());
    let first = keys.seal(b"", &Context::NONE);
    tokio::time::timeout(Duration::from_micros(1), first).await.ok();
    let began = Instant::now();
    while fetches(&node, "generate_data_key") == 0 {
        assert!(began.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(5)).await;
    }
    keys.seal(b"", &Context::NONE).await.unwrap();
    assert_eq!(fetches(&node, "generate_data_key"), 1);
}

/// A data key that came older than its bound was thrown away and fetched again, until the caller's patience was
/// over.
#[tokio::test]
async fn data_key_that_comes_too_old_serves_who_waited_for_it_and_nobody_else() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.does(Way::Slow(Duration::from_millis(100)));
    let options = DataKeyOptions::default().age_max(Duration::from_millis(20));
    let keys = data_keys(&cluster, &node, options);
    let mut sealed = Vec::new();
    for fetched in 1..=3 {
        let sealing = (0..20).map(|_| keys.seal(b"a message", &Context::NONE));
        sealed = timeout(Duration::from_secs(5), join_all(sealing)).await.unwrap();
        assert_eq!(fetches(&node, "generate_data_key"), fetched);
    }
    let opening = sealed.into_iter().map(|blob| async {
        assert_eq!(*keys.open(&blob.unwrap(), &Context::NONE).await.unwrap(), b"a message");
    });
    join_all(opening).await;
    assert_eq!(fetches(&node, "decrypt"), 1);
}

#[tokio::test]
async fn each_fetch_serves_the_message_that_it_was_begun_for() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let keys = data_keys(&cluster, &node, DataKeyOptions::default().messages_max(1));
    let sealing = (0..20).map(|_| keys.seal(b"a message", &Context::NONE));
    for sealed in join_all(sealing).await {
        sealed.unwrap();
    }
    assert_eq!(fetches(&node, "generate_data_key"), 20);
}

#[tokio::test]
async fn junk_is_refused_without_a_call() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let keys = data_keys(&cluster, &node, DataKeyOptions::default());
    for junk in [&b""[..], b"junk", &[0xcf; 200], &[0xcb; 200]] {
        let error = keys.open(junk, &Context::NONE).await.unwrap_err();
        assert!(matches!(error, DataKeyError::NoMessage(_)), "{error:?}");
    }
    assert!(node.seen().is_empty());
}
