//! Calls over the crypto stream, and what happens when it fails.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use opentelemetry::Context;
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use twinkeep_client::{Client, Error, v1};

use crate::fake::{Cluster, Node, Streams, Way, count, hello, until};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn numbered(number: usize) -> v1::EncryptRequest {
    v1::EncryptRequest { plaintext: number.to_string().into(), ..Default::default() }
}

fn is_answer_to(answer: &v1::EncryptResponse, number: usize) -> bool {
    answer.ciphertext.iter().rev().eq(number.to_string().as_bytes())
}

async fn many(client: &Client, number: usize) {
    let calls = (0..number).map(|number| async move {
        let answer = client.encrypt(numbered(number)).await.unwrap();
        assert!(is_answer_to(&answer, number));
    });
    join_all(calls).await;
}

fn streamed(node: &Node) -> usize {
    node.seen().iter().filter(|call| call.streamed).count()
}

#[tokio::test]
async fn calls_share_one_stream() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let client = cluster.client(&[&node]);
    many(&client, 100).await;
    many(&client, 100).await;
    assert_eq!(streamed(&node), 200);
    assert_eq!(count(&node.tally().opened), 1);
}

#[tokio::test]
async fn without_the_switch_calls_go_one_by_one() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let client =
        cluster.builder(&[&node]).follow_topology(false).crypto_stream(false).build().unwrap();
    many(&client, 10).await;
    assert_eq!((node.seen().len(), streamed(&node)), (10, 0));
    assert_eq!(count(&node.tally().opened), 0);
}

#[tokio::test]
async fn every_call_has_a_trace_and_the_callers_own_is_kept() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let client = cluster.client(&[&node]);
    client.encrypt(hello()).await.unwrap();
    client.encrypt(hello()).await.unwrap();
    client.with_traceparent(TRACE).encrypt(hello()).await.unwrap();
    client.with_traceparent(TRACE).describe_key(Default::default()).await.unwrap();
    client.with_traceparent("junk\n").encrypt(hello()).await.unwrap();
    let traces: Vec<_> = node.seen().into_iter().map(|call| call.traceparent).collect();
    assert!(traces.iter().all(|trace| trace.len() == 55), "{traces:?}");
    assert_ne!(traces[0], traces[1]);
    assert_eq!((&*traces[2], &*traces[3]), (TRACE, TRACE));
    assert_ne!(traces[4], TRACE);
}

#[tokio::test]
async fn call_in_a_span_of_the_application_belongs_to_it() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let client = cluster.client(&[&node]);
    let span = |sampled| {
        let trace = TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        let span = SpanId::from_hex("00f067aa0ba902b7").unwrap();
        let flags = TraceFlags::default().with_sampled(sampled);
        Context::new().with_remote_span_context(SpanContext::new(
            trace,
            span,
            flags,
            false,
            TraceState::NONE,
        ))
    };
    client.encrypt(hello()).with_context(span(true)).await.unwrap();
    client.describe_key(Default::default()).with_context(span(false)).await.unwrap();
    // What is given by hand comes first.
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let given = client.with_traceparent(other);
    given.encrypt(hello()).with_context(span(true)).await.unwrap();
    client.encrypt(hello()).with_context(Context::new()).await.unwrap();
    let traces: Vec<_> = node.seen().into_iter().map(|call| call.traceparent).collect();
    let not_sampled = TRACE.replace("-01", "-00");
    assert_eq!(traces[..3], [TRACE, &not_sampled, other]);
    assert!(!traces[3].contains("4bf92f35") && traces[3].ends_with("-00"), "{}", traces[3]);
}

#[tokio::test]
async fn answers_out_of_order_reach_their_calls() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.streams(Streams::Backwards(50));
    many(&cluster.client(&[&node]), 50).await;
}

#[tokio::test]
async fn answers_to_calls_that_are_not_open_do_no_harm_and_many_end_the_stream() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.streams(Streams::Twice);
    let client = cluster.client(&[&node]);
    for number in 0..50 {
        let answer = client.encrypt(numbered(number)).await.unwrap();
        assert!(is_answer_to(&answer, number));
    }
    assert!(count(&node.tally().opened) > 1);
}

#[tokio::test]
async fn stream_that_breaks_ends_no_call_that_another_node_can_answer() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.streams(Streams::BreakAfter(100));
    let client = cluster.client(&[&one, &two]).with_deadline(Duration::from_secs(10));
    let began = Instant::now();
    many(&client, 100).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(two.seen().len() >= 100);
}

#[tokio::test]
async fn stream_that_breaks_ends_its_open_calls_at_once_with_an_error_to_try_again() {
    let cluster = Cluster::new();
    let mut node = cluster.node();
    node.does(Way::Silent);
    let client = cluster.client(&[&node]).with_deadline(Duration::from_secs(30));
    let calls: Vec<_> = (0..100)
        .map(|number| {
            // Bound to the node, so that no other attempt hides the error.
            let client = client.at(&node.address).unwrap();
            tokio::spawn(async move { client.encrypt(numbered(number)).await })
        })
        .collect();
    until("all calls are open", || count(&node.tally().open) == 100).await;
    let killed = Instant::now();
    node.kill();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.is_retryable());
    }
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn slow_node_is_hedged_through_the_stream_of_the_other_zone() {
    let cluster = Cluster::new();
    let (slow, other) = (cluster.node(), cluster.node());
    let client = cluster.client(&[&slow, &other]);
    many(&client, 10).await;
    slow.does(Way::Silent);
    let began = Instant::now();
    client.encrypt(hello()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(other.seen().last().unwrap().streamed);
    until("the slow call is given up", || count(&slow.tally().cancelled) == 1).await;
}

#[tokio::test]
async fn node_without_streams_is_called_one_by_one_and_not_asked_again_soon() {
    let cluster = Cluster::new();
    for code in [Code::Unimplemented, Code::PermissionDenied, Code::Unknown] {
        let node = cluster.node();
        node.streams(Streams::Refuse(code));
        let client = cluster.client(&[&node]);
        many(&client, 20).await;
        many(&client, 20).await;
        assert_eq!((node.seen().len(), streamed(&node)), (40, 0), "{code:?}");
        assert_eq!(count(&node.tally().opened), 1, "{code:?}");
    }
}

/// A node that took no stream for the moment was taken for one whose streams break, so that two such moments turned
/// streams off for a minute.
#[tokio::test]
async fn node_that_takes_no_stream_now_is_called_one_by_one_until_it_says() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.streams(Streams::Busy(10_000));
    let client = cluster.client(&[&node]);
    many(&client, 20).await;
    many(&client, 20).await;
    assert_eq!((node.seen().len(), streamed(&node)), (40, 0));
    assert_eq!(count(&node.tally().opened), 1);

    // It is asked again when the time is over, however often it says so.
    let node = cluster.node();
    node.streams(Streams::Busy(100));
    let client = cluster.client(&[&node]);
    let began = Instant::now();
    while count(&node.tally().opened) < 3 {
        assert!(began.elapsed() < Duration::from_secs(10), "it is not asked again");
        many(&client, 1).await;
        sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(streamed(&node), 0);
    node.streams(Streams::Take);
    while streamed(&node) == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "its stream is not used");
        many(&client, 1).await;
        sleep(Duration::from_millis(5)).await;
    }

    // Without a time it is not asked again at once either.
    let node = cluster.node();
    node.streams(Streams::Busy(0));
    let client = cluster.client(&[&node]);
    many(&client, 20).await;
    sleep(Duration::from_millis(300)).await;
    many(&client, 20).await;
    assert_eq!((node.seen().len(), count(&node.tally().opened)), (40, 1));
}

#[tokio::test]
async fn stream_that_swallows_calls_is_left_within_the_time_of_a_call() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.streams(Streams::Mute);
    let client = cluster.client(&[&node]).with_deadline(Duration::from_secs(20));
    let began = Instant::now();
    client.encrypt(hello()).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    many(&client, 20).await;
    assert_eq!(streamed(&node), 0);
    assert_eq!(count(&node.tally().opened), 1);

    // A client that has no other node to ask meanwhile, and whose calls all wait.
    let node = cluster.node();
    node.streams(Streams::Mute);
    let client = cluster.client(&[&node]).with_deadline(Duration::from_secs(20));
    let began = Instant::now();
    many(&client.at(&node.address).unwrap(), 20).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((node.seen().len(), streamed(&node)), (20, 0));
    assert_eq!(count(&node.tally().opened), 1);
}

/// A first answer that took over a second turned streams off for a minute, although single calls to that node were
/// no faster.
#[tokio::test]
async fn slow_first_answer_leaves_the_stream_alone_unless_a_single_call_is_faster() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.does(Way::Slow(Duration::from_millis(1500)));
    let client = cluster.client(&[&node]).with_deadline(Duration::from_secs(20));
    many(&client, 20).await;
    node.does(Way::Answer);
    many(&client, 20).await;
    // One call was made as a single one too.
    assert_eq!((node.seen().len(), streamed(&node)), (41, 40));
    assert_eq!(count(&node.tally().opened), 1);
}

#[tokio::test]
async fn stream_that_never_bears_an_answer_is_given_up_after_two_tries() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.streams(Streams::BreakAfter(1));
    let client = cluster.client(&[&node]).with_deadline(Duration::from_secs(10));
    for _ in 0..3 {
        // What is retried goes to the same node after a pause.
        client.encrypt(hello()).await.unwrap();
    }
    assert_eq!((node.seen().len(), streamed(&node)), (3, 0));
    assert_eq!(count(&node.tally().opened), 2);
}

#[tokio::test]
async fn node_works_on_as_many_calls_as_it_takes_and_the_rest_wait_their_turn() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.does(Way::Silent);
    let client = cluster.client(&[&node]).with_deadline(Duration::from_secs(60));
    let client = client.at(&node.address).unwrap();
    let calls: Vec<_> = (0..600)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.encrypt(numbered(number)).await.map(|_| ()) })
        })
        .collect();
    until("the node is full", || count(&node.tally().open) == 256).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(count(&node.tally().open_most), 256);
    // Half of them are given up, whether they left or not; the others go on.
    node.does(Way::Answer);
    calls.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
    // Those that are at the node are silent for ever there: give them up too.
    sleep(Duration::from_millis(200)).await;
    calls.iter().take(256).for_each(tokio::task::JoinHandle::abort);
    for call in calls.into_iter().skip(256).skip(1).step_by(2) {
        call.await.unwrap().unwrap();
    }
    assert_eq!(count(&node.tally().open_most), 256);
}

#[tokio::test]
async fn deadline_ends_a_call_that_waits_and_the_node_is_told() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.does(Way::Silent);
    let client = cluster.client(&[&node]).with_deadline(Duration::from_millis(200));
    let began = Instant::now();
    let error = client.encrypt(hello()).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
    let took = began.elapsed();
    assert!((200..1500).contains(&took.as_millis()), "{took:?}");
    until("the call is given up", || count(&node.tally().open) == 0).await;
    // A time under that of a hedge.
    let client = client.with_deadline(Duration::from_millis(3));
    let error = client.encrypt(hello()).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_thousand_calls_dropped_at_random_leave_nothing_behind() {
    const CALLS: usize = 100_000;
    let cluster = Cluster::new();
    let node = cluster.node();
    let client = cluster.client(&[&node]).with_deadline(Duration::from_secs(30));
    let client = client.at(&node.address).unwrap();
    let tasks = (0..100usize).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..CALLS / 100 {
                let call = client.encrypt(numbered(number));
                // From at once to after the answer.
                let patience =
                    Duration::from_micros(((task * 7919 + number * 104_729) % 4000) as u64);
                if let Ok(answer) = timeout(patience, call).await {
                    assert!(is_answer_to(&answer.unwrap(), number));
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    until("the node has nothing open", || count(&node.tally().open) == 0).await;
    // The client neither: all 256 places can be taken at once, by calls that stay.
    node.does(Way::Silent);
    let calls: Vec<_> = (0..256)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.encrypt(numbered(number)).await })
        })
        .collect();
    until("every place was free", || count(&node.tally().open) == 256).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(count(&node.tally().opened), 1);
}

#[tokio::test]
async fn client_that_is_gone_leaves_no_stream() {
    let cluster = Cluster::new();
    let node = cluster.node();
    node.does(Way::Silent);
    let client = cluster.client(&[&node]);
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.encrypt(numbered(number)).await })
        })
        .collect();
    until("calls are open", || count(&node.tally().open) == 50).await;
    drop(client);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    until("the stream ends", || count(&node.tally().closed) == 1).await;
}

#[tokio::test]
async fn busy_node_is_asked_again_when_it_says_and_another_one_meanwhile() {
    let cluster = Cluster::new();
    for stream in [true, false] {
        let node = Arc::new(cluster.node());
        let client =
            cluster.builder(&[&node]).follow_topology(false).crypto_stream(stream).build().unwrap();
        node.is_busy(150);
        let freeing = tokio::spawn({
            let node = Arc::clone(&node);
            async move {
                sleep(Duration::from_millis(50)).await;
                node.does(Way::Answer);
            }
        });
        let began = Instant::now();
        client.encrypt(hello()).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
        assert_eq!(node.seen().len(), 2);
        freeing.await.unwrap();

        // Later than the call may take: the caller is told.
        node.is_busy(60_000);
        let error = client.encrypt(hello()).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(60)), "{error:?}");
        assert!(error.is_retryable());

        // Busy for ever: three attempts.
        node.forget();
        node.is_busy(10);
        let error = client.encrypt(hello()).await.unwrap_err();
        assert!(matches!(error, Error::Exhausted { .. }), "{error:?}");
        assert_eq!(node.seen().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_threads_all_get_their_own_answer() {
    let cluster = Cluster::new();
    let nodes: Vec<_> = (0..4).map(|_| cluster.node()).collect();
    let client = cluster.client(&nodes.iter().collect::<Vec<_>>());
    let tasks = (0..64usize).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                let number = task * 1000 + number;
                assert!(is_answer_to(&client.encrypt(numbered(number)).await.unwrap(), number));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn new_certificate_opens_the_stream_again_and_open_calls_end_on_the_old_one() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("app.pem"), folder.path().join("app.key"));
    let issue = || {
        let (chain_pem, key_pem) = cluster.identity();
        std::fs::write(&chain, chain_pem).unwrap();
        std::fs::write(&key, key_pem).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, private).unwrap();
    };
    issue();
    let builder = cluster.bare_builder().follow_topology(false).identity_files(&chain, &key);
    let client = builder.endpoint(&node.address).crypto_deadline(Duration::from_secs(30));
    let client = client.build().unwrap();
    node.does(Way::Slow(Duration::from_millis(300)));
    let open = tokio::spawn({
        let client = client.clone();
        async move { client.encrypt(hello()).await }
    });
    until("a call is open", || count(&node.tally().open) == 1).await;
    issue();
    client.reload_identity().unwrap();
    client.encrypt(hello()).await.unwrap();
    open.await.unwrap().unwrap();
    assert_eq!(count(&node.tally().opened), 2);
    until("the old stream ends", || count(&node.tally().closed) == 1).await;
}

#[tokio::test]
async fn absurd_deadlines_do_no_harm() {
    let cluster = Cluster::new();
    let node = cluster.node();
    let client = cluster.client(&[&node]);
    client.with_deadline(Duration::MAX).encrypt(hello()).await.unwrap();
    client.with_deadline(Duration::MAX).describe_key(Default::default()).await.unwrap();
    let error = client.with_deadline(Duration::ZERO).encrypt(hello()).await;
    assert!(error.is_err() || streamed(&node) > 0);
}
