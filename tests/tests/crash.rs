//! All five processes are killed at once, at random moments, again and again. What the disks lose in a power
//! cut is tested where a file system can be told to lose it: `crates/storage/tests/power_cut.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::time::sleep;
use twinkeep_client::{Client, v1};
use twinkeep_tests::Cluster;

/// Kills in one run.
const ROUNDS: u64 = 50;
/// Tasks that change keys, and tasks that encrypt, until the kill.
const WRITERS: usize = 8;
const ENCRYPTORS: usize = 8;
/// Acknowledgements that a round has at least, before the kill.
const ACKNOWLEDGED_MIN: usize = 100;
/// Pause between two ciphertexts of one task, so that all of them can be opened again.
const ENCRYPT_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for an answer: after a kill none comes.
const CALL_MAX: Duration = Duration::from_secs(1);
/// Ciphertexts that one call opens.
const BATCH: usize = 64;

/// What an answer said of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    revision: u64,
    state: i32,
    version: String,
}

impl Seen {
    fn of(key: v1::Key) -> Self {
        let version = key.primary_version.unwrap_or_default().version_id;
        Self { revision: key.revision, state: key.state, version }
    }
}

/// What the cluster has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Each key as last answered.
    keys: BTreeMap<String, Seen>,
    /// A change of a key that was sent and not answered: it may have happened.
    open: BTreeMap<String, u64>,
    ciphertexts: Vec<(Bytes, Bytes)>,
}

impl Acknowledged {
    fn merge(&mut self, other: Self) {
        for key in other.keys.keys() {
            self.open.remove(key);
        }
        self.keys.extend(other.keys);
        self.open.extend(other.open);
        self.ciphertexts.extend(other.ciphertexts);
    }
}

struct Round {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Round {
    fn ack(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_keys_versions_and_ciphertexts_survive_kill_9() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let mut all = Acknowledged::default();
    let mut fewest = usize::MAX;
    for round in 0..ROUNDS {
        let (acks, seen) = until_kill(&cluster, round).await?;
        fewest = fewest.min(acks);
        let last_keys: Vec<_> = seen.keys.keys().cloned().collect();
        let last_ciphertexts = seen.ciphertexts.len();
        all.merge(seen);
        cluster.start_all()?;
        // What this round acknowledged is looked at now, everything once more at the end.
        let ciphertexts = &all.ciphertexts[all.ciphertexts.len() - last_ciphertexts..];
        check(&cluster, &all, last_keys.iter(), ciphertexts)
            .await
            .with_context(|| format!("round {round}"))?;
    }
    check(&cluster, &all, all.keys.keys(), &all.ciphertexts).await.context("at the end")?;
    println!(
        "{ROUNDS} kills of five processes, at least {fewest} acknowledgements a round: {} keys and {} ciphertexts are there on every data node",
        all.keys.len(),
        all.ciphertexts.len()
    );
    Ok(())
}

/// Runs the load, kills all processes at a moment that differs from round to round, and returns what was
/// acknowledged before.
async fn until_kill(cluster: &Cluster, round: u64) -> anyhow::Result<(usize, Acknowledged)> {
    let state = Arc::new(Round { stop: AtomicBool::new(false), acknowledged: AtomicUsize::new(0) });
    let nodes: Vec<_> = cluster.data_nodes().collect();
    let key_id = cluster.first_key()?;
    let mut tasks = Vec::new();
    for i in 0..WRITERS {
        let client = cluster.client_at("app", nodes[i % nodes.len()])?.with_deadline(CALL_MAX);
        tasks.push(tokio::spawn(write(client, cluster.new_key()?, Arc::clone(&state))));
    }
    for i in 0..ENCRYPTORS {
        let client = cluster.client_at("app", nodes[i % nodes.len()])?.with_deadline(CALL_MAX);
        tasks.push(tokio::spawn(encrypt(client, key_id.clone(), Arc::clone(&state))));
    }
    let started = Instant::now();
    while state.acknowledged.load(Ordering::Relaxed) < ACKNOWLEDGED_MIN {
        ensure!(started.elapsed() < Duration::from_secs(30), "too few acknowledgements in 30 s");
        sleep(Duration::from_millis(1)).await;
    }
    // A moment from 0 to 199 ms, spread by a multiplier without a common factor.
    sleep(Duration::from_millis(round * 73 % 200)).await;
    cluster.kill(cluster.nodes())?;
    state.stop.store(true, Ordering::Relaxed);
    let mut seen = Acknowledged::default();
    for task in tasks {
        seen.merge(task.await?);
    }
    Ok((state.acknowledged.load(Ordering::Relaxed), seen))
}

/// Creates keys and moves them between enabled and disabled.
async fn write(client: Client, new_key: v1::CreateKeyRequest, round: Arc<Round>) -> Acknowledged {
    let mut seen = Acknowledged::default();
    let mut is_disabling = false;
    while round.goes_on() {
        let Ok(created) = client.create_key(new_key.clone()).await else { continue };
        let Some(key) = created.key else { continue };
        round.ack();
        let (id, revision) = (key.key_id.clone(), key.revision);
        seen.keys.insert(id.clone(), Seen::of(key));
        // A key of every state has to be usable afterwards, so only every other one is disabled.
        is_disabling = !is_disabling;
        if !is_disabling {
            seen.ciphertexts.extend(encrypt_once(&client, &id).await);
            continue;
        }
        seen.open.insert(id.clone(), revision + 1);
        let request = v1::DisableKeyRequest {
            key_id: id.clone(),
            expected_revision: revision,
            ..v1::DisableKeyRequest::default()
        };
        if let Ok(v1::DisableKeyResponse { key: Some(key), .. }) = client.disable_key(request).await
        {
            round.ack();
            seen.open.remove(&id);
            seen.keys.insert(id, Seen::of(key));
        }
    }
    seen
}

/// Encrypts under a key that was just created.
async fn encrypt_once(client: &Client, key_id: &str) -> Option<(Bytes, Bytes)> {
    let plaintext = Bytes::from(format!("the first words under {key_id}"));
    let request = v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: plaintext.clone(),
        ..v1::EncryptRequest::default()
    };
    let answer = client.encrypt(request).await.ok()?;
    Some((answer.ciphertext, plaintext))
}

async fn encrypt(client: Client, key_id: String, round: Arc<Round>) -> Acknowledged {
    let mut seen = Acknowledged::default();
    let mut count = 0_u64;
    while round.goes_on() {
        count += 1;
        let plaintext = Bytes::from(format!("{count} {:p}", &raw const seen));
        let request = v1::EncryptRequest {
            key_id: key_id.clone(),
            plaintext: plaintext.clone(),
            ..v1::EncryptRequest::default()
        };
        if let Ok(answer) = client.encrypt(request).await {
            round.ack();
            seen.ciphertexts.push((answer.ciphertext, plaintext));
        }
        sleep(ENCRYPT_PAUSE).await;
    }
    seen
}

/// Looks for every key and opens every ciphertext, on every data node by itself.
async fn check(
    cluster: &Cluster,
    all: &Acknowledged,
    keys: impl Iterator<Item = &String> + Clone,
    ciphertexts: &[(Bytes, Bytes)],
) -> anyhow::Result<()> {
    for node in cluster.data_nodes() {
        let client = cluster.client_at("app", node)?;
        for key_id in keys.clone() {
            let request = v1::DescribeKeyRequest {
                key_id: key_id.clone(),
                ..v1::DescribeKeyRequest::default()
            };
            let found = client
                .describe_key(request)
                .await
                .with_context(|| format!("{key_id} is lost on {}", node.name))?;
            let found = found.key.context("the answer has no key")?;
            let found = Seen::of(found);
            let acknowledged = &all.keys[key_id];
            // A change that was not answered may have happened; the version stays what it was.
            let may_be_further = all.open.get(key_id) == Some(&found.revision)
                && found.version == acknowledged.version;
            ensure!(
                found == *acknowledged || may_be_further,
                "{key_id} on {}: {acknowledged:?} was acknowledged, {found:?} is there",
                node.name
            );
        }
        for batch in ciphertexts.chunks(BATCH) {
            open_all(&client, batch).await.with_context(|| format!("on {}", node.name))?;
        }
    }
    Ok(())
}

async fn open_all(client: &Client, batch: &[(Bytes, Bytes)]) -> anyhow::Result<()> {
    let items = batch.iter().map(|(ciphertext, _)| v1::DecryptRequest {
        ciphertext: ciphertext.clone(),
        ..v1::DecryptRequest::default()
    });
    let request =
        v1::DecryptBatchRequest { items: items.collect(), ..v1::DecryptBatchRequest::default() };
    let answer = client.decrypt_batch(request).await?;
    ensure!(answer.results.len() == batch.len(), "results are missing");
    for (result, (_, plaintext)) in answer.results.into_iter().zip(batch) {
        match result.result {
            Some(v1::decrypt_result::Result::Ok(opened)) => {
                ensure!(opened.plaintext == plaintext, "a ciphertext opened to something else");
            }
            other => anyhow::bail!("a ciphertext does not open: {other:?}"),
        }
    }
    Ok(())
}
