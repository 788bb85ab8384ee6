//! What an answer says of zones is true on their disks, and a zone that falls silent is given up and counted on
//! again. Silent means stopped in the middle of whatever it does: its connections stay open and say nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::time::sleep;
use twinkeep_client::Client;
use twinkeep_client::v1::{self, Durability, ReplicationMode};
use twinkeep_core::id::KeyId;
use twinkeep_storage::LogDb;
use twinkeep_tests::{Cluster, Node};

/// Tasks that create keys until all processes are killed.
const CREATORS: usize = 16;
/// Keys that are acknowledged before the kill.
const KEYS_MIN: usize = 200;

#[derive(Deserialize)]
struct Identity {
    cluster: String,
    node: u64,
}

/// Returns which keys stand in the log of a node that does not run.
fn keys_on_disk(
    cluster: &Cluster,
    node: &Node,
    wanted: &[KeyId],
) -> anyhow::Result<BTreeSet<KeyId>> {
    let folder = cluster.data(node);
    let text = std::fs::read_to_string(folder.join("identity.toml"))?;
    let own: Identity = toml::from_str(&text)?;
    let own = twinkeep_storage::Identity {
        cluster: own.cluster.parse()?,
        node: twinkeep_core::id::NodeId::new(own.node)?,
    };
    let log = LogDb::open(&folder.join("log"), own)?;
    let search = AhoCorasick::new(wanted.iter().map(KeyId::as_bytes))?;
    let mut found = BTreeSet::new();
    let mut next = 0;
    loop {
        let entries = log.read(next..u64::MAX)?;
        let Some((last, _)) = entries.last() else { return Ok(found) };
        next = last + 1;
        for (_, entry) in &entries {
            let hits = search.find_overlapping_iter(entry.as_ref());
            found.extend(hits.map(|hit| wanted[hit.pattern().as_usize()]));
        }
    }
}

/// Creates keys until told to stop; returns those that every zone was said to hold.
async fn create(
    client: Client,
    request: v1::CreateKeyRequest,
    stop: Arc<AtomicBool>,
) -> Vec<KeyId> {
    let mut keys = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok(answer) = client.create_key(request.clone()).await else { break };
        if answer.durability() == Durability::EveryZone {
            keys.extend(answer.key.and_then(|key| key.key_id.parse::<KeyId>().ok()));
        }
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_every_zone_is_said_to_hold_is_on_a_disk_of_each() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    cluster.until_mode(ReplicationMode::Sync).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let nodes: Vec<_> = cluster.data_nodes().collect();
    let creators = (0..CREATORS).map(|i| {
        let client = cluster.client_at("app", nodes[i % nodes.len()])?;
        let client = client.with_deadline(Duration::from_secs(1));
        Ok(tokio::spawn(create(client, cluster.new_key()?, Arc::clone(&stop))))
    });
    let creators: Vec<_> = creators.collect::<anyhow::Result<_>>()?;
    sleep(Duration::from_secs(2)).await;
    // All at once, in the middle of the work: what is not on a disk is nowhere now.
    cluster.kill(cluster.nodes())?;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for creator in creators {
        acknowledged.extend(creator.await?);
    }
    ensure!(acknowledged.len() >= KEYS_MIN, "only {} keys", acknowledged.len());
    for zone in ["a", "b"] {
        let mut held = BTreeSet::new();
        for node in cluster.zone(zone) {
            held.extend(keys_on_disk(&cluster, node, &acknowledged)?);
        }
        let missing = acknowledged.iter().filter(|key| !held.contains(key)).count();
        ensure!(missing == 0, "{missing} of {} keys are not in zone {zone}", acknowledged.len());
    }
    println!("{} acknowledged keys are on a disk of each zone", acknowledged.len());
    Ok(())
}

/// Returns the zone of the leader, and the other one.
async fn leaders_zone_first(cluster: &Cluster) -> anyhow::Result<[String; 2]> {
    let zone = cluster.until_mode(ReplicationMode::Sync).await?.zone.clone();
    let other = if zone == "a" { "b" } else { "a" };
    Ok([zone, other.to_owned()])
}

/// A zone is stopped, keys are created without it, and it goes on.
async fn survive_silence_of(
    cluster: &Cluster,
    silent: &str,
    living: &str,
) -> anyhow::Result<Duration> {
    let living = cluster.zone(living).next().context("no such zone")?;
    let app = cluster.client_at("app", living)?.with_deadline(Duration::from_secs(10));
    cluster.signal(silent, Signal::STOP)?;
    let began = Instant::now();
    // An answer that was on its way before the silence may still say that every zone holds the key.
    let (created, waited) = loop {
        let created = app.create_key(cluster.new_key()?).await?;
        if created.durability() == Durability::SingleZone {
            break (created, began.elapsed());
        }
        ensure!(began.elapsed() < Duration::from_secs(5), "{:?}", created.durability());
    };
    let key_id = created.key.context("the answer has no key")?.key_id;
    let encrypt = v1::EncryptRequest {
        key_id: key_id.clone(),
        plaintext: "written without the other zone".into(),
        ..v1::EncryptRequest::default()
    };
    let sealed = app.encrypt(encrypt).await.context("the new key cannot be used")?;
    let replication = cluster.status().await?.replication.context("there is no mode")?;
    ensure!(replication.mode() == ReplicationMode::Degraded, "{replication:?}");
    ensure!(replication.zone == silent, "{replication:?}");

    cluster.signal(silent, Signal::CONT)?;
    cluster.until_mode(ReplicationMode::Sync).await?;
    let again = app.create_key(cluster.new_key()?).await?;
    ensure!(again.durability() == Durability::EveryZone, "{:?}", again.durability());
    for node in cluster.zone(silent) {
        let decrypt = v1::DecryptRequest {
            ciphertext: sealed.ciphertext.clone(),
            min_state_index: again.state_index,
            ..v1::DecryptRequest::default()
        };
        let opened = cluster.client_at("app", node)?.decrypt(decrypt).await;
        opened.with_context(|| format!("{} lacks what was written without it", node.name))?;
    }
    Ok(waited)
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_zone_is_given_up_and_counted_on_again_when_it_has_caught_up() -> anyhow::Result<()>
{
    let cluster = Cluster::start().await?;
    cluster.until_mode(ReplicationMode::Sync).await?;
    let [leads, follows] = leaders_zone_first(&cluster).await?;
    let waited = survive_silence_of(&cluster, &follows, &leads).await?;
    println!("keys are created again {} ms after the other zone fell silent", waited.as_millis());
    let [leads, follows] = leaders_zone_first(&cluster).await?;
    let waited = survive_silence_of(&cluster, &leads, &follows).await?;
    println!(
        "keys are created again {} ms after the leader's zone fell silent",
        waited.as_millis()
    );
    Ok(())
}
