//! Members come and go while callers notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::{MissedTickBehavior, interval};
use twinkeep_client::{Client, v1};
use twinkeep_tests::{Cluster, refused_start};

/// Longest time for a removed node to end.
const LEAVING_MAX: Duration = Duration::from_secs(20);
/// Pause between two calls: 250 a second.
const PACE: Duration = Duration::from_millis(4);

/// Encrypts at a steady pace and returns how many calls were made and why any failed.
async fn load(client: Client, key_id: String, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let request = v1::EncryptRequest {
            key_id: key_id.clone(),
            plaintext: vec![7; 256].into(),
            ..v1::EncryptRequest::default()
        };
        let client = client.clone();
        calls.push(tokio::spawn(async move { client.encrypt(request).await.err() }));
    }
    let count = calls.len();
    let mut failures = Vec::new();
    for call in calls {
        match call.await {
            Ok(None) => {}
            Ok(Some(error)) => failures.push(format!("{error:?}")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    (count, failures)
}

#[tokio::test(flavor = "multi_thread")]
async fn member_is_replaced_under_load_and_the_new_one_gets_a_snapshot() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_with(&["--snapshot-every", "50"]).await?;
    let app = cluster.client("app")?;
    // So many changes that the first entries are only in a snapshot any more.
    for _ in 0..300 {
        app.create_key(cluster.new_key()?).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let running = tokio::spawn(load(app.clone(), cluster.first_key()?, Arc::clone(&stop)));

    let new = cluster.add_node("b3", "b")?;
    let admin = cluster.client("admin")?;
    let old = member_of(&admin, &cluster, "b2").await?;
    let promote =
        v1::PromoteNodesRequest { node_ids: vec![new], ..v1::PromoteNodesRequest::default() };
    admin.promote_nodes(promote).await.context("the new node was not promoted")?;
    let remove = v1::RemoveNodeRequest { node_id: old, ..v1::RemoveNodeRequest::default() };
    admin.remove_node(remove).await.context("the old node was not removed")?;
    let b2 = cluster.node("b2")?;
    let removed = Instant::now();
    while cluster.pid(b2).is_some() {
        ensure!(removed.elapsed() < LEAVING_MAX, "the removed node goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let config = cluster.path("b2").join("twinkeepd.toml");
    let refused = refused_start(&config, LEAVING_MAX)?;
    ensure!(refused.contains("this node was removed from the cluster"), "it said:\n{refused}");
    stop.store(true, Ordering::Relaxed);
    let (calls, failures) = running.await?;
    let rate = calls as f64 / started.elapsed().as_secs_f64();
    ensure!(
        failures.is_empty(),
        "{} of {calls} calls failed, first: {}",
        failures.len(),
        failures[0]
    );
    ensure!(rate >= 200.0, "only {rate:.0} calls a second");

    let b3 = cluster.node("b3")?;
    ensure!(
        cluster.messages(b3).contains("a snapshot was installed"),
        "the new node did not get its state by snapshot"
    );
    let fresh = cluster.client_at("app", b3)?;
    let listed = fresh
        .list_keys(v1::ListKeysRequest { page_size: 1000, ..v1::ListKeysRequest::default() })
        .await?;
    ensure!(listed.keys.len() >= 301, "the new node has {} keys", listed.keys.len());
    // Whoever leads next sends old entries again, in which the removed node is a member.
    for name in ["a1", "b1"] {
        cluster.kill([cluster.node(name)?])?;
        let created = app.create_key(cluster.new_key()?).await;
        created.with_context(|| format!("no key is created any more, without {name}"))?;
        cluster.twinkeep(&["dev", "start-node", name])?;
    }
    println!("a member was replaced during {calls} calls, {rate:.0} a second: none failed");
    Ok(())
}

async fn member_of(admin: &Client, cluster: &Cluster, name: &str) -> anyhow::Result<u64> {
    let address = cluster.node(name)?.client_address.to_string();
    let members = admin.list_members(v1::ListMembersRequest::default()).await?.members;
    let member = members.iter().find(|member| {
        member.placement.as_ref().is_some_and(|placement| placement.client_address == address)
    });
    Ok(member.context("no such member")?.node_id)
}
