//! Health probes: who is taken back by them, and who is left alone.

use std::time::Duration;

use tokio::time::sleep;
use tonic::Code;
use twinkeep_client::{Client, NodeActivity};

use crate::fake::{Cluster, Health, Node, Way, count, hello, until};

fn of(client: &Client, node: &Node) -> NodeActivity {
    let nodes = client.activity().nodes;
    nodes.into_iter().find(|found| found.address == node.address).unwrap()
}

async fn call(client: &Client, times: usize) {
    for _ in 0..times {
        client.encrypt(hello()).await.unwrap();
    }
}

#[tokio::test]
async fn ejected_node_gets_no_call_before_a_probe_has_found_it_well() {
    let cluster = Cluster::new();
    let (near, far) = (cluster.node(), cluster.node());
    let client = cluster.client(&[&near, &far]);
    near.refuses(Code::Unavailable);
    near.is(Health::NotServing);
    call(&client, 5).await;
    assert_eq!(near.seen().len(), 3, "three failures eject it");
    let probes = || count(&near.tally().probes);
    until("it is probed", || probes() >= 3).await;
    call(&client, 20).await;
    assert_eq!(near.seen().len(), 3);
    assert!(of(&client, &near).is_ejected);

    // It answers again, and says so: it is called again though no call has tried it.
    near.does(Way::Answer);
    near.is(Health::Serving);
    until("it is taken back", || !of(&client, &near).is_ejected).await;
    call(&client, 20).await;
    assert_eq!(near.seen().len(), 23);
    let activity = of(&client, &near);
    assert_eq!((activity.ejections, activity.readmissions), (1, 1));
    assert!(activity.failed_probes >= 2, "{activity:?}");
}

#[tokio::test]
async fn node_that_does_not_serve_is_left_before_a_call_finds_out() {
    let cluster = Cluster::new();
    let (near, far) = (cluster.node(), cluster.node());
    near.is(Health::NotServing);
    let client = cluster.client(&[&near, &far]);
    until("it is probed", || of(&client, &near).is_ejected).await;
    call(&client, 10).await;
    assert_eq!((near.seen().len(), far.seen().len()), (0, 10));
    // Where nobody serves, somebody is asked all the same: the node knows best why not.
    far.is(Health::NotServing);
    far.refuses(Code::Unavailable);
    near.refuses(Code::Unavailable);
    client.encrypt(hello()).await.unwrap_err();
    assert!(!near.seen().is_empty());
}

#[tokio::test]
async fn node_that_is_silent_to_probes_stays_out_and_one_without_health_is_taken_back() {
    let cluster = Cluster::new();
    let (near, far) = (cluster.node(), cluster.node());
    let client = cluster.client(&[&near, &far]);
    near.refuses(Code::Unavailable);
    near.is(Health::Silent);
    call(&client, 5).await;
    until("it is probed", || of(&client, &near).failed_probes >= 2).await;
    near.does(Way::Answer);
    call(&client, 5).await;
    assert!(of(&client, &near).is_ejected);
    near.is(Health::Unknown);
    until("it is taken back", || !of(&client, &near).is_ejected).await;
}

#[tokio::test]
async fn without_probes_a_call_finds_out() {
    let cluster = Cluster::new();
    let (near, far) = (cluster.node(), cluster.node());
    let builder = cluster.builder(&[&near, &far]).follow_topology(false).health_probes(false);
    let client = builder.build().unwrap();
    near.refuses(Code::Unavailable);
    call(&client, 5).await;
    near.does(Way::Answer);
    sleep(Duration::from_millis(300)).await;
    call(&client, 5).await;
    assert!(!of(&client, &near).is_ejected);
    assert_eq!(count(&near.tally().probes), 0);
}

#[tokio::test]
async fn probes_open_connections_to_all_nodes_and_end_with_the_client() {
    let cluster = Cluster::new();
    let nodes: Vec<_> = (0..3).map(|_| cluster.node()).collect();
    let client = cluster.client(&nodes.iter().collect::<Vec<_>>());
    until("all are probed", || nodes.iter().all(|node| count(&node.tally().probes) == 1)).await;
    nodes[0].is(Health::NotServing);
    nodes[0].refuses(Code::Unavailable);
    call(&client, 10).await;
    drop(client);
    sleep(Duration::from_millis(50)).await;
    let probes = count(&nodes[0].tally().probes);
    sleep(Duration::from_millis(1000)).await;
    assert_eq!(count(&nodes[0].tally().probes), probes);
}

#[tokio::test]
async fn counts_are_shown_to_prometheus() {
    let cluster = Cluster::new();
    let (near, far) = (cluster.node(), cluster.node());
    let client = cluster.client(&[&near, &far]);
    call(&client, 7).await;
    let text = client.activity().prometheus();
    let line =
        format!("twinkeep_client_attempts_total{{peer=\"{}\",zone=\"zone-a\"}} 7", near.address);
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(text.contains("twinkeep_client_newest_incarnation 1"), "{text}");
}
