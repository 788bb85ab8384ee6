//! Where the lead is, is what operators say: out of a zone that they drain, back in the one that they prefer. No
//! change that was acknowledged is lost on the way, and none fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::sleep;
use twinkeep_client::{Client, v1};
use twinkeep_tests::{Cluster, Node};

/// Tasks that create keys.
const WRITERS: usize = 4;
/// Longest wait for the lead to be where it belongs.
const LEAD_MAX: Duration = Duration::from_secs(30);

/// What the writers have seen.
#[derive(Default)]
struct Written {
    keys: Vec<String>,
    failures: Vec<String>,
    /// When each key was acknowledged.
    at: Vec<Instant>,
}

async fn write(client: Client, request: v1::CreateKeyRequest, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    while !stop.load(Ordering::Relaxed) {
        match client.create_key(request.clone()).await {
            Ok(answer) => {
                written.keys.extend(answer.key.map(|key| key.key_id));
                written.at.push(Instant::now());
            }
            Err(error) => written.failures.push(error.to_string()),
        }
    }
    written
}

/// Writers that go on until they are stopped.
struct Writers {
    stop: Arc<AtomicBool>,
    running: Vec<tokio::task::JoinHandle<Written>>,
}

impl Writers {
    fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let client = cluster.client("app")?;
            Ok(tokio::spawn(write(client, cluster.new_key()?, Arc::clone(&stop))))
        };
        let running = (0..WRITERS).map(start).collect::<anyhow::Result<_>>()?;
        Ok(Self { stop, running })
    }

    async fn stop(self) -> anyhow::Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for writer in self.running {
            let Written { keys, failures, at } = writer.await?;
            all.keys.extend(keys);
            all.failures.extend(failures);
            all.at.extend(at);
        }
        all.at.sort_unstable();
        Ok(all)
    }
}

impl Written {
    /// Returns the longest time without an acknowledgement that lies within `from` and `to` or reaches into it.
    fn gap(&self, from: Instant, to: Instant) -> Duration {
        let pairs = self.at.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Checks that a node shows every key that was acknowledged.
    async fn is_whole_at(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        let client = cluster.client_at("app", node)?;
        let mut shown = std::collections::HashSet::new();
        let mut request = v1::ListKeysRequest { page_size: 1000, ..Default::default() };
        loop {
            let page = client.list_keys(request.clone()).await?;
            shown.extend(page.keys.into_iter().map(|key| key.key_id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let lost = self.keys.iter().filter(|key| !shown.contains(*key)).count();
        ensure!(lost == 0, "{lost} of {} keys are not at {}", self.keys.len(), node.name);
        Ok(())
    }
}

/// Returns the leader, as any node knows it.
async fn leader(admin: &Client, cluster: &Cluster) -> anyhow::Result<Option<Node>> {
    let status = admin.get_status(v1::GetStatusRequest::default()).await?;
    let address = status.leader_address;
    Ok(cluster.nodes().iter().find(|node| node.client_address.to_string() == address).cloned())
}

async fn until_led_in(admin: &Client, cluster: &Cluster, zone: &str) -> anyhow::Result<Node> {
    let began = Instant::now();
    loop {
        match leader(admin, cluster).await {
            Ok(Some(leader)) if leader.zone == zone => return Ok(leader),
            found => ensure!(began.elapsed() < LEAD_MAX, "zone {zone} does not lead: {found:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until_in_sync(admin: &Client) -> anyhow::Result<()> {
    until_mode(admin, v1::ReplicationMode::Sync).await
}

async fn until_mode(admin: &Client, mode: v1::ReplicationMode) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let status = admin.get_status(v1::GetStatusRequest::default()).await?;
        if status.replication.is_some_and(|r| r.mode() == mode) {
            return Ok(());
        }
        ensure!(began.elapsed() < LEAD_MAX, "the mode does not become {mode:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn other(zone: &str) -> &'static str {
    if zone == "a" { "b" } else { "a" }
}

/// Runs a command that has to be refused by the state, and returns what it says.
fn refused(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<String> {
    let output = cluster.try_twinkeep(arguments)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(4), "{arguments:?} ended with {}: {text}", output.status);
    Ok(text)
}

fn zones(cluster: &Cluster) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::from_str(&cluster.twinkeep(&["zone", "list", "--output", "json"])?)?)
}

fn zone_of(list: &serde_json::Value, zone: &str) -> serde_json::Value {
    let zones = list["zones"].as_array().into_iter().flatten();
    zones.into_iter().find(|row| row["zone"] == zone).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_moves_the_lead_while_changes_go_on_and_loses_none() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let admin = cluster.client("admin")?;
    until_in_sync(&admin).await?;
    let leads = leader(&admin, &cluster).await?.context("nobody leads")?.zone;
    let follows = other(&leads);

    let writers = Writers::start(&cluster)?;
    sleep(Duration::from_millis(500)).await;
    let (asked, before) = (Instant::now(), leads.as_str());
    let said = cluster.twinkeep(&["zone", "drain", before])?;
    let answered = Instant::now();
    let new = leader(&admin, &cluster).await?.context("nobody leads")?;
    ensure!(new.zone == follows, "{} leads after the drain", new.name);
    ensure!(said.contains("3 of 5 voters are left: losing one more"), "{said}");
    sleep(Duration::from_millis(500)).await;
    let written = writers.stop().await?;
    let gap = written.gap(asked, answered + Duration::from_millis(200));
    ensure!(written.failures.is_empty(), "failed: {:?}", written.failures.first());
    for node in cluster.data_nodes() {
        written.is_whole_at(&cluster, node).await?;
    }
    println!(
        "{} keys were created, none failed and none is lost; the lead moved with a gap of {} ms, and the drain was \
         answered after {} ms",
        written.keys.len(),
        gap.as_millis(),
        (answered - asked).as_millis()
    );

    // What clients and people are told.
    let drained = zone_of(&zones(&cluster)?, &leads);
    ensure!(drained["drained"] == true && drained["leader_node_id"].is_null(), "{drained}");
    let mut topology = admin.watch_topology(v1::WatchTopologyRequest::default()).await?;
    let began = Instant::now();
    loop {
        let view = topology.next().await?.context("the topology ended")?;
        let tells = |e: &v1::Endpoint| e.draining == (e.zone == leads);
        if view.endpoints.iter().all(tells) {
            break;
        }
        ensure!(began.elapsed() < LEAD_MAX, "the topology does not tell of the drain");
    }
    // Its nodes serve all the same.
    let node = cluster.data_nodes().find(|node| node.zone == leads).context("no node")?;
    let hello = v1::EncryptRequest {
        key_id: cluster.first_key()?,
        plaintext: b"hello".to_vec().into(),
        ..Default::default()
    };
    cluster.client_at("app", node)?.encrypt(hello).await?;

    // Once more does no harm; the other zone is not drained too.
    cluster.twinkeep(&["zone", "drain", &leads])?;
    let text = refused(&cluster, &["zone", "drain", follows])?;
    ensure!(text.contains(&format!("zone {leads} is drained already")), "{text}");
    let text = refused(&cluster, &["zone", "undrain", follows])?;
    ensure!(text.contains(&format!("zone {follows} is not drained")), "{text}");

    // Every node starts anew: the zone stays drained.
    cluster.twinkeep(&["dev", "down"])?;
    cluster.start_all()?;
    until_led_in(&admin, &cluster, follows).await?;
    sleep(Duration::from_secs(1)).await;
    until_led_in(&admin, &cluster, follows).await?;
    cluster.twinkeep(&["zone", "undrain", &leads])?;
    ensure!(zone_of(&zones(&cluster)?, &leads)["drained"] == false);
    let text = refused(&cluster, &["zone", "drain", "w"])?;
    ensure!(text.contains("zone w has no data node with a vote"), "{text}");

    // Nobody could take over where the other zone is dead.
    until_in_sync(&admin).await?;
    cluster.twinkeep(&["dev", "kill-zone", &leads])?;
    until_mode(&admin, v1::ReplicationMode::Degraded).await?;
    let text = refused(&cluster, &["zone", "drain", follows])?;
    let says = ["no data node of another zone answers", "is needed, since the replication mode is"];
    ensure!(says.iter().any(|why| text.contains(why)), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lead_comes_back_to_the_preferred_zone_and_no_change_fails_by_it() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(&["--fail-back-after-ms", "2000"]).await?;
    let admin = cluster.client("admin")?;
    until_in_sync(&admin).await?;
    let leads = leader(&admin, &cluster).await?.context("nobody leads")?.zone;
    let preferred = other(&leads);
    let writers = Writers::start(&cluster)?;
    let asked = Instant::now();
    cluster.twinkeep(&["zone", "prefer", preferred])?;
    until_led_in(&admin, &cluster, preferred).await?;
    let after = asked.elapsed();
    ensure!(after >= Duration::from_secs(2), "the lead went after {after:?}");
    sleep(Duration::from_millis(300)).await;
    let written = writers.stop().await?;
    ensure!(written.failures.is_empty(), "failed: {:?}", written.failures.first());
    println!(
        "the lead went to the preferred zone after {} ms, with a gap of {} ms",
        after.as_millis(),
        written.gap(asked, Instant::now()).as_millis()
    );
    ensure!(zone_of(&zones(&cluster)?, preferred)["preferred"] == true);

    cluster.twinkeep(&["dev", "kill-zone", preferred])?;
    until_led_in(&admin, &cluster, &leads).await?;
    cluster.twinkeep(&["dev", "start-zone", preferred])?;
    let back = Instant::now();
    until_led_in(&admin, &cluster, preferred).await?;
    // It did not stay the first time, so it waits twice as long.
    let after = back.elapsed();
    println!("the lead came back {} ms after the preferred zone served again", after.as_millis());
    for node in cluster.data_nodes() {
        written.is_whole_at(&cluster, node).await?;
    }
    // The wish outlives every process.
    cluster.twinkeep(&["dev", "down"])?;
    cluster.start_all()?;
    until_led_in(&admin, &cluster, preferred).await?;
    cluster.twinkeep(&["zone", "prefer", "none"])?;
    ensure!(zone_of(&zones(&cluster)?, preferred)["preferred"] == false);
    let text = refused(&cluster, &["zone", "prefer", "w"])?;
    ensure!(text.contains("zone w has no data node with a vote"), "{text}");
    Ok(())
}
