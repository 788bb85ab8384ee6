//! Read-your-writes, the topology, the near zone.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use twinkeep_client::{Client, v1};

use crate::fake::{Cluster, Node, hello, until};

#[tokio::test]
async fn what_one_node_wrote_the_next_one_must_have_seen() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(), cluster.node());
    one.answers_from(40);
    two.answers_from(7);
    let client = cluster.client(&[&one, &two]);
    client.at(&one.address).unwrap().create_key(v1::CreateKeyRequest::default()).await.unwrap();
    client.at(&two.address).unwrap().encrypt(hello()).await.unwrap();
    assert_eq!(two.seen()[0].min_state_index, 40);
    // An older answer does not lower it, and a request may ask for more.
    assert_eq!(client.state_index(), 40);
    client.encrypt(v1::EncryptRequest { min_state_index: 50, ..hello() }).await.unwrap();
    assert_eq!(one.seen().last().unwrap().min_state_index, 50);
    client.require_state_index(60);
    client.encrypt(hello()).await.unwrap();
    assert_eq!(one.seen().last().unwrap().min_state_index, 60);
    client.any_state().encrypt(hello()).await.unwrap();
    assert_eq!(one.seen().last().unwrap().min_state_index, 0);
}

#[tokio::test]
async fn calls_stay_in_the_near_zone_while_it_is_well() {
    let cluster = Cluster::new();
    let nodes: Vec<_> = (0..4).map(|_| cluster.node()).collect();
    let client = cluster.client(&nodes.iter().collect::<Vec<_>>());
    for _ in 0..20 {
        client.encrypt(hello()).await.unwrap();
    }
    let far = nodes[1].seen().len() + nodes[3].seen().len();
    // A slow start may be hedged.
    assert!(far <= 4, "{far} of 20");
    assert!(nodes[0].seen().len() >= 5 && nodes[2].seen().len() >= 5);
}

fn view(nodes: &[(&Node, &str)], leader: u64) -> v1::WatchTopologyResponse {
    let endpoints = nodes.iter().zip(1..).map(|((node, zone), node_id)| v1::Endpoint {
        node_id,
        zone: (*zone).to_owned(),
        address: node.address.clone(),
        reachable: true,
        draining: false,
    });
    v1::WatchTopologyResponse {
        endpoints: endpoints.collect(),
        leader_node_id: leader,
        state_index: 1,
    }
}

#[tokio::test]
async fn nodes_and_leader_are_learnt_from_the_cluster() {
    let cluster = Cluster::new();
    let (mut given, other) = (cluster.node(), cluster.node());
    let topology = view(&[(&given, "zone-a"), (&other, "zone-b")], 2);
    given.shows(topology.clone());
    other.shows(topology);
    let client = cluster.builder(&[&given]).build().unwrap();
    until("the client follows", || given.followers() == 1).await;
    // The leader is the second node, of which the client was told nothing.
    let created = async || {
        client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
        !other.seen().is_empty()
    };
    let began = Instant::now();
    while !created().await {
        assert!(began.elapsed() < Duration::from_secs(5), "the leader was not learnt");
    }

    given.kill();
    client.encrypt(hello()).await.unwrap();
    until("the client follows another node", || other.followers() == 1).await;
    drop(client);
    until("a client that is gone follows nobody", || other.followers() == 0).await;
}

/// Clients with a certificate that had ended shook hands with every node twice a second.
#[tokio::test]
async fn client_that_is_refused_asks_for_the_topology_less_and_less_often() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let node = cluster.node();
    let counter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (chain, key) = other.identity();
    let builder = Client::builder().root(cluster.root()).identity(chain, key);
    let _client = builder.endpoint(counter.local_addr().unwrap().to_string()).build().unwrap();
    let mut connections = 0;
    let counting = async {
        loop {
            let (mut near, _) = counter.accept().await.unwrap();
            connections += 1;
            let mut far = TcpStream::connect(&node.address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    };
    timeout(Duration::from_secs(4), counting).await.unwrap_err();
    // At once, after one second, and after two more.
    assert!((1..=4).contains(&connections), "{connections}");
}
