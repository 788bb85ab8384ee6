//! A thousand calls a second, whatever becomes of the ones before, while a zone falls silent: packets go nowhere and
//! connections stay open. No call may fail. How long they took is printed; the bound is for a machine that does other
//! work too.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use twinkeep_client::{Client, v1};

use crate::fake::{Cluster, Node, Way, Wire, hello};

/// Nodes of two zones in turn, each behind a wire.
struct Zones {
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    cluster: Cluster,
}

impl Zones {
    async fn new() -> Self {
        let cluster = Cluster::new();
        let nodes: Vec<_> = (0..4).map(|_| cluster.node()).collect();
        let mut wires = Vec::new();
        for node in &nodes {
            wires.push(Wire::to(node).await);
        }
        Self { nodes, wires, cluster }
    }

    fn client(&self, streams: bool) -> Client {
        let (chain, key) = self.cluster.identity();
        let builder = self.cluster.bare_builder().identity(chain, key).follow_topology(false);
        let builder = self
            .wires
            .iter()
            .zip(["zone-a", "zone-b"].iter().cycle())
            .fold(builder.crypto_stream(streams), |builder, (wire, zone)| {
                builder.endpoint_in(*zone, &wire.address)
            });
        builder.build().unwrap()
    }

    fn of_zone(&self, zone: usize) -> impl Iterator<Item = (&Node, &Wire)> {
        self.nodes.iter().zip(&self.wires).skip(zone).step_by(2)
    }
}

/// Begins a call each millisecond; returns how long each took.
async fn thousand_a_second(client: &Client, time: Duration) -> Vec<Duration> {
    let mut calls = JoinSet::new();
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let due = tick.tick().await;
        let client = client.clone();
        calls.spawn(async move {
            client.encrypt(hello()).await.expect("no call may fail");
            due.elapsed()
        });
    }
    calls.join_all().await
}

fn report(what: &str, client: &Client, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |permyriad: usize| times[(times.len() * permyriad / 10_000).min(times.len() - 1)];
    println!(
        "{what}: {} calls, p50 {:?}, p99 {:?}, p99.9 {:?}, the longest {:?}",
        times.len(),
        at(5000),
        at(9900),
        at(9990),
        times[times.len() - 1]
    );
    for node in client.activity().nodes {
        println!(
            "  {}: {} attempts, {} hedges, {} out-hedged, {} ejections, {} spilled",
            node.zone.unwrap_or_default(),
            node.attempts,
            node.hedges,
            node.out_hedged,
            node.ejections,
            node.spilled_calls
        );
    }
    assert!(at(9990) < Duration::from_secs(1), "{:?}", at(9990));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zone_whose_packets_are_dropped_fails_no_call_on_streams_or_off() {
    for streams in [true, false] {
        for zone in [0, 1] {
            let zones = Zones::new().await;
            let client = zones.client(streams);
            thousand_a_second(&client, Duration::from_millis(500)).await;
            let losing = async {
                sleep(Duration::from_millis(500)).await;
                zones.of_zone(zone).for_each(|(_, wire)| wire.cut());
                sleep(Duration::from_millis(2500)).await;
                zones.of_zone(zone).for_each(|(_, wire)| wire.mend());
            };
            let load = thousand_a_second(&client, Duration::from_millis(4500));
            let (times, ()) = tokio::join!(load, losing);
            let which = ["near", "far"][zone];
            report(&format!("{which} zone silent, streams {streams}"), &client, times);
            assert_eq!(client.activity().failed_calls, 0);

            // The zone is used again.
            let began = Instant::now();
            zones.nodes.iter().for_each(Node::forget);
            let is_used = || zones.of_zone(0).all(|(node, _)| !node.seen().is_empty());
            while !is_used() {
                assert!(began.elapsed() < Duration::from_secs(15), "the zone is not used again");
                client.encrypt(hello()).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_silent_node_fails_no_call_and_its_zone_spills_over() {
    let zones = Zones::new().await;
    let client = zones.client(true);
    thousand_a_second(&client, Duration::from_millis(500)).await;
    zones.wires[0].cut();
    let times = thousand_a_second(&client, Duration::from_millis(3000)).await;
    report("one near node silent", &client, times);
    let nodes = client.activity().nodes;
    let spilled: u64 = nodes.iter().map(|node| node.spilled_calls).sum();
    assert!((500..1200).contains(&spilled), "{spilled} of 3000 spilled over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_get_away_from_a_silent_leader_with_their_token() {
    let zones = Zones::new().await;
    let client = zones.client(true);
    // The leader is in the near zone, and the client knows.
    let leader = &zones.wires[0];
    for node in &zones.nodes[1..] {
        node.does(Way::Refuse(tonic::Code::Unavailable, Some(leader.address.clone())));
    }
    while zones.nodes[0].seen().is_empty() {
        client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
    }
    zones.nodes.iter().for_each(|node| {
        node.does(Way::Answer);
        node.forget();
    });
    zones.of_zone(0).for_each(|(_, wire)| wire.cut());
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        client.create_key(v1::CreateKeyRequest::default()).await.unwrap();
        times.push(began.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    let slow = times.iter().filter(|time| **time > Duration::from_millis(40)).count();
    let longest = times.iter().max().unwrap();
    println!("{slow} of 100 changes met the silence, the longest took {longest:?}");
    assert!(slow <= 30, "{slow} of 100 changes met the silence");
    assert!(*longest < Duration::from_secs(1), "{longest:?}");

    // What lay at the silent leader meanwhile is what the others have done: no token of its own.
    zones.of_zone(0).for_each(|(_, wire)| wire.mend());
    sleep(Duration::from_millis(500)).await;
    let tokens = |zone: usize| -> Vec<_> {
        let nodes = zones.of_zone(zone);
        nodes.flat_map(|(node, _)| node.seen()).map(|call| call.token).collect()
    };
    let done = tokens(1);
    assert_eq!(done.len(), 100);
    assert!(tokens(0).iter().all(|token| token.len() == 16 && done.contains(token)));
}
