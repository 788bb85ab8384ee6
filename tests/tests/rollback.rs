//! An old copy of a voter's disk is put back: the node says so in one line and ends, and nothing is lost.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tokio::time::sleep;
use twinkeep_client::v1::{self, ReplicationMode};
use twinkeep_tests::{Cluster, Node, refused_start, rounds};

/// Rounds, one of each kind; `TWINKEEP_TEST_ROUNDS` asks for more.
const ROUNDS: usize = 4;
/// Keys that are created after the copy was made.
const KEYS: usize = 10;
/// Longest until the node has ended.
const REFUSAL_MAX: Duration = Duration::from_secs(15);
/// Time in which heartbeats tell everybody who acknowledged what.
const KNOWN_AFTER: Duration = Duration::from_millis(300);

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            // Sockets of the node that ran; what is a file is copied whole.
            false if entry.file_type()?.is_file() => {
                std::fs::copy(entry.path(), target)?;
            }
            false => {}
        }
    }
    Ok(())
}

/// Which disk goes back, and what else is down then.
#[derive(Clone, Copy, Debug)]
struct Kind {
    is_leaders: bool,
    zone_is_dead: bool,
}

impl Kind {
    fn of(round: usize) -> Self {
        Self { is_leaders: round & 1 == 1, zone_is_dead: round & 2 == 2 }
    }
}

/// Creates keys until so many are acknowledged; returns them.
async fn create_keys(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let app = cluster.client("app")?;
    let mut keys = Vec::new();
    while keys.len() < KEYS {
        let key = app.create_key(cluster.new_key()?).await?.key;
        keys.push(key.context("the answer has no key")?.key_id);
    }
    Ok(keys)
}

/// Starts a node on an old copy of its disk and returns what it says of that; the newest one is put back.
fn start_on(cluster: &Cluster, node: &Node, old: &Path) -> anyhow::Result<String> {
    let data = cluster.data(node);
    let newest = data.with_extension("newest");
    std::fs::rename(&data, &newest)?;
    copy(old, &data)?;
    let said = refused_start(&cluster.path(&node.name).join("twinkeepd.toml"), REFUSAL_MAX);
    std::fs::remove_dir_all(&data)?;
    std::fs::rename(&newest, &data)?;
    said
}

/// Copies the disk of a running node between two of its moments, as a snapshot of its machine would be.
fn copy_of_disk(cluster: &Cluster, node: &Node) -> anyhow::Result<TempDir> {
    let old = tempfile::tempdir()?;
    let pid = cluster.pid(node).with_context(|| format!("{} does not run", node.name))?;
    kill_process(pid, Signal::STOP)?;
    let copied = copy(&cluster.data(node), old.path());
    kill_process(pid, Signal::CONT)?;
    copied.map(|()| old)
}

async fn put_old_disk_back(cluster: &Cluster, kind: Kind) -> anyhow::Result<()> {
    let (victim, old) = loop {
        let leader = cluster.until_mode(ReplicationMode::Sync).await?;
        let follower = cluster.data_nodes().find(|node| node.name != leader.name);
        let victim =
            if kind.is_leaders { leader } else { follower.context("there is one node")? };
        let old = copy_of_disk(cluster, victim)?;
        let leader = cluster.until_mode(ReplicationMode::Sync).await?;
        // On a slow disk the copy takes longer than a leader may be silent: then it is another's turn.
        if !kind.is_leaders || leader.name == victim.name {
            break (victim, old);
        }
    };
    let keys = create_keys(cluster).await?;
    sleep(KNOWN_AFTER).await;
    if kind.zone_is_dead {
        cluster.kill(cluster.data_nodes().filter(|node| node.zone != victim.zone))?;
    }
    cluster.kill([victim])?;
    let said = start_on(cluster, victim, old.path())?;
    ensure!(said.contains("is an older copy"), "{} said: {said}", victim.name);
    cluster.start_all()?;
    cluster.until_mode(ReplicationMode::Sync).await?;
    let app = cluster.client("app")?;
    for key_id in keys {
        let request = v1::DescribeKeyRequest { key_id: key_id.clone(), ..Default::default() };
        if let Err(error) = app.describe_key(request).await {
            bail!("{key_id} was acknowledged and is lost: {error}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_copy_of_a_voters_disk_is_refused_with_its_reason_and_loses_nothing()
-> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let rounds = rounds(ROUNDS);
    for round in 0..rounds {
        let kind = Kind::of(round);
        put_old_disk_back(&cluster, kind)
            .await
            .with_context(|| format!("round {round}: {kind:?}"))?;
        println!("round {} of {rounds}: {kind:?} refused", round + 1);
    }
    println!("{rounds} old disks refused, {} acknowledged keys, 0 lost", rounds * KEYS);
    Ok(())
}
