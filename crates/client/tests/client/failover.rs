//! A zone dies or falls silent while calls go on: none may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use twinkeep_client::{Client, v1};

use crate::fake::{Cluster, Node, Way, hello};

/// Makes calls from eight tasks until told to stop; returns how long each took.
struct Load {
    tasks: JoinSet<Vec<(Instant, Duration)>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn on(client: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    client.encrypt(hello()).await.expect("no call may fail");
                    times.push((began, began.elapsed()));
                    sleep(Duration::from_millis(2)).await;
                }
                times
            });
        }
        Self { tasks, stop }
    }

    async fn end(self) -> Vec<(Instant, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }
}

fn four(cluster: &Cluster) -> Vec<Node> {
    (0..4).map(|_| cluster.node()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_zone_fails_no_call() {
    let cluster = Cluster::new();
    let mut nodes = four(&cluster);
    let client = cluster.client(&nodes.iter().collect::<Vec<_>>());
    let load = Load::on(&client);
    sleep(Duration::from_millis(500)).await;
    // Nodes 0 and 2 are the near zone.
    nodes[0].kill();
    nodes[2].kill();
    sleep(Duration::from_millis(1000)).await;
    client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
    let calls = load.end().await;
    assert!(calls.len() > 500, "{} calls", calls.len());
    assert!(!nodes[1].seen().is_empty() && !nodes[3].seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_zone_fails_no_call_and_is_soon_left_alone() {
    let cluster = Cluster::new();
    let nodes = four(&cluster);
    let client = cluster.client(&nodes.iter().collect::<Vec<_>>());
    let load = Load::on(&client);
    sleep(Duration::from_millis(500)).await;
    nodes[0].does(Way::Silent);
    nodes[2].does(Way::Silent);
    let silent_since = Instant::now();
    sleep(Duration::from_millis(1500)).await;
    let calls = load.end().await;

    let after: Vec<_> = calls.iter().filter(|(began, _)| *began >= silent_since).collect();
    let slow = after.iter().filter(|(_, took)| *took > Duration::from_millis(200)).count();
    assert!(after.len() > 300, "{} calls", after.len());
    assert!(slow * 50 < after.len(), "{slow} of {} calls were slow", after.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_comes_back_is_used_again() {
    let cluster = Cluster::new();
    let nodes = four(&cluster);
    let client = cluster.client(&nodes.iter().collect::<Vec<_>>());
    let load = Load::on(&client);
    nodes[0].refuses(tonic::Code::Unavailable);
    nodes[2].refuses(tonic::Code::Unavailable);
    sleep(Duration::from_millis(500)).await;
    nodes[0].does(Way::Answer);
    nodes[2].does(Way::Answer);
    let began = Instant::now();
    loop {
        nodes.iter().for_each(Node::forget);
        sleep(Duration::from_millis(300)).await;
        let near = nodes[0].seen().len() + nodes[2].seen().len();
        let far = nodes[1].seen().len() + nodes[3].seen().len();
        if near > 10 * far {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{near} near, {far} far");
    }
    load.end().await;
}
