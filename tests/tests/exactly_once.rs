//! Changes and calls for keys through the client library while the leader's zone is killed: each change happens
//! once, whatever became of its first attempt, and no call fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;
use twinkeep_client::{Client, v1};
use twinkeep_tests::{Cluster, Node};

/// A token and the key that was made by it.
type Made = (Vec<u8>, String);

async fn make(client: &Client, request: &v1::CreateKeyRequest) -> anyhow::Result<String> {
    let answer = client.create_key(request.clone()).await?;
    Ok(answer.key.context("the answer has no key")?.key_id)
}

/// Makes keys one after the other; returns them with the longest time that one took.
async fn make_keys(
    client: Client,
    request: v1::CreateKeyRequest,
    writer: u8,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<(Vec<Made>, Duration)> {
    let (mut made, mut longest) = (Vec::new(), Duration::ZERO);
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut token = vec![writer; 16];
        token[8..].copy_from_slice(&number.to_be_bytes());
        let request =
            v1::CreateKeyRequest { idempotency_token: token.clone().into(), ..request.clone() };
        let began = Instant::now();
        made.push((token, make(&client, &request).await?));
        longest = longest.max(began.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    Ok((made, longest))
}

async fn use_key(client: Client, key_id: String, stop: Arc<AtomicBool>) -> anyhow::Result<usize> {
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        let (key_id, plaintext) = (key_id.clone(), "a secret".into());
        let request = v1::EncryptRequest { key_id, plaintext, ..Default::default() };
        client.encrypt(request).await.context("a call for a key failed")?;
        calls += 1;
        sleep(Duration::from_millis(2)).await;
    }
    Ok(calls)
}

async fn all_keys(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let (mut keys, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = v1::ListKeysRequest { page_token, ..Default::default() };
        let page = client.list_keys(request).await?;
        keys.extend(page.keys.into_iter().map(|key| key.key_id));
        if page.next_page_token.is_empty() {
            return Ok(keys);
        }
        page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_happen_once_while_the_leaders_zone_is_killed() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let (admin, app) = (cluster.client("admin")?, cluster.client("app")?);
    let request = cluster.new_key()?;
    let before = all_keys(&app).await?;
    let status = admin.get_status(v1::GetStatusRequest::default()).await?;
    let is_leader = |node: &&Node| node.client_address.to_string() == status.leader_address;
    let zone = cluster.data_nodes().find(is_leader).context("nobody leads")?.zone.clone();

    let stop = Arc::new(AtomicBool::new(false));
    let (mut makers, mut users) = (JoinSet::new(), JoinSet::new());
    for writer in 1..=4 {
        makers.spawn(make_keys(app.clone(), request.clone(), writer, Arc::clone(&stop)));
        users.spawn(use_key(app.clone(), cluster.first_key()?, Arc::clone(&stop)));
    }
    sleep(Duration::from_secs(1)).await;
    cluster.kill(cluster.data_nodes().filter(|node| node.zone == zone))?;
    sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    let mut made = Vec::new();
    let mut longest = Duration::ZERO;
    while let Some(ended) = makers.join_next().await {
        let (keys, took) = ended??;
        made.extend(keys);
        longest = longest.max(took);
    }
    let mut calls = 0;
    while let Some(ended) = users.join_next().await {
        calls += ended??;
    }
    let hedges: u64 = app.activity().nodes.iter().map(|node| node.hedges).sum();
    println!(
        "{} keys made, the longest took {longest:?}; {calls} calls, {hedges} hedges, none failed",
        made.len()
    );

    // The same call again, of those around the kill too, makes nothing new.
    for (token, key_id) in &made {
        let request =
            v1::CreateKeyRequest { idempotency_token: token.clone().into(), ..request.clone() };
        ensure!(make(&app, &request).await? == *key_id, "a token made two keys");
    }
    let mut expected: BTreeSet<_> = made.iter().map(|(_, key_id)| key_id.clone()).collect();
    ensure!(expected.len() == made.len(), "two tokens made one key");
    expected.extend(before);
    ensure!(all_keys(&app).await? == expected, "there are keys that nobody made");
    ensure!(made.len() > 50 && calls > 500, "too little was done: {} keys, {calls}", made.len());
    Ok(())
}
