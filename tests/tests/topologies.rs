//! Topologies other than 2+2+1, made by the product's own commands: what each survives is as `twinkeep doctor` says,
//! and those that could not survive what they seem to are refused.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::sleep;
use twinkeep_client::{Client, Error, v1};
use twinkeep_tests::Cluster;

/// Longest wait for a cluster to be as it has to be.
const AS_WANTED_MAX: Duration = Duration::from_secs(30);

fn survives(cluster: &Cluster, loss: &str) -> anyhow::Result<Value> {
    let output = cluster.try_twinkeep(&["--as", "admin", "doctor", "--output", "json"])?;
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let mut all = said["survives"].as_array().into_iter().flatten();
    Ok(all.find(|survival| survival["loss"] == loss).cloned().unwrap_or_default())
}

/// Creates a key that every zone holds.
async fn create_everywhere(cluster: &Cluster) -> anyhow::Result<()> {
    let client = cluster.client("app")?;
    let began = Instant::now();
    loop {
        let created = client.create_key(cluster.new_key()?).await?;
        if created.durability() == v1::Durability::EveryZone {
            return Ok(());
        }
        ensure!(began.elapsed() < AS_WANTED_MAX, "keys are kept in one zone");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn survives_zone(cluster: &Cluster, lost: &str) -> anyhow::Result<()> {
    cluster.twinkeep(&["dev", "kill-zone", lost])?;
    let client = cluster.client("app")?.with_deadline(Duration::from_secs(10));
    let created = client.create_key(cluster.new_key()?).await;
    created.with_context(|| format!("no key is created without zone {lost}"))?;
    encrypt(&client, cluster).await?;
    cluster.twinkeep(&["dev", "start-zone", lost])?;
    create_everywhere(cluster).await
}

async fn encrypt(client: &Client, cluster: &Cluster) -> anyhow::Result<()> {
    let plaintext = b"hello".to_vec().into();
    let request =
        v1::EncryptRequest { key_id: cluster.first_key()?, plaintext, ..Default::default() };
    client.encrypt(request).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_each_place_survives_any_and_grows_in_balance_alone() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_with(&["--topology", "1+1+1"]).await?;
    ensure!(cluster.nodes().len() == 3);
    create_everywhere(&cluster).await?;
    ensure!(survives(&cluster, "zone a")?["slack"] == 0);
    for zone in ["a", "b"] {
        survives_zone(&cluster, zone).await?;
    }
    // Two more in zone a would give it three of five votes.
    let (a2, a3) =
        (cluster.add_node("a2", "a")?.to_string(), cluster.add_node("a3", "a")?.to_string());
    let output = cluster.try_twinkeep(&["--as", "admin", "cluster", "promote", &a2, &a3])?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(4), "{text}");
    ensure!(text.contains("zone a would hold 3 of 5 voters, a majority"), "{text}");
    let b2 = cluster.add_node("b2", "b")?.to_string();
    let began = Instant::now();
    loop {
        let output = cluster.try_twinkeep(&["--as", "admin", "cluster", "promote", &a2, &b2])?;
        if output.status.success() {
            break;
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(began.elapsed() < AS_WANTED_MAX, "{text}");
        sleep(Duration::from_millis(200)).await;
    }
    // 2+2+1, and one learner that serves.
    create_everywhere(&cluster).await?;
    ensure!(survives(&cluster, "any one node")?["slack"] == 1);
    encrypt(&cluster.client_at("app", cluster.node("a3")?)?, &cluster).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_in_each_zone_survive_any_zone_and_any_two_nodes() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(&["--topology", "3+3+1"]).await?;
    ensure!(cluster.nodes().len() == 7);
    create_everywhere(&cluster).await?;
    ensure!(survives(&cluster, "any one node")?["slack"] == 2);
    let zone = survives(&cluster, "zone b")?;
    ensure!(zone["changes"] == true && zone["slack"] == 0, "{zone}");
    survives_zone(&cluster, "b").await
}

/// Without a third place one zone has the majority, and that is said when the cluster begins.
#[tokio::test(flavor = "multi_thread")]
async fn two_places_alone_survive_the_zone_that_is_not_preferred() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(&["--topology", "2+1"]).await?;
    create_everywhere(&cluster).await?;
    let people = cluster.try_twinkeep(&["--as", "admin", "doctor"])?;
    let people = String::from_utf8_lossy(&people.stdout).into_owned();
    ensure!(people.contains("manual failover for the preferred zone"), "{people}");
    ensure!(survives(&cluster, "zone a")?["changes"] == false);
    survives_zone(&cluster, "b").await?;
    // Without the preferred zone keys are used, and changes stop with an error that says to try again.
    cluster.twinkeep(&["dev", "kill-zone", "a"])?;
    let client = cluster.client_at("app", cluster.node("b1")?)?;
    encrypt(&client, &cluster).await?;
    let client = client.with_deadline(Duration::from_secs(3));
    let error =
        client.create_key(cluster.new_key()?).await.err().context("a minority created a key")?;
    ensure!(error.is_retryable(), "{error:?}");
    ensure!(
        matches!(error, Error::Unavailable { .. } | Error::DeadlineExceeded { .. }),
        "{error:?}"
    );
    encrypt(&client, &cluster).await
}
