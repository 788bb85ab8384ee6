//! Both cores are kept busy for a minute, by calls and by programs that never rest: nobody loses the lead by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::sleep;
use twinkeep_client::v1::{self, ReplicationMode};
use twinkeep_client::{Client, Error};
use twinkeep_tests::Cluster;

/// How long the machine is kept busy.
const BUSY: Duration = Duration::from_secs(60);
/// Threads that do nothing but compute, for each core.
const SPINNERS_PER_CORE: usize = 2;
/// Calls under way at each data node at a time.
const CALLERS: usize = 32;

/// Computes until told to stop.
fn spin(stop: &AtomicBool) -> u64 {
    let mut x = 1_u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1_000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    x
}

/// Encrypts until told to stop. A node that is too busy may refuse a call and says so.
async fn encrypt(client: Client, key_id: String, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let request = v1::EncryptRequest {
            key_id: key_id.clone(),
            plaintext: vec![7; 1024].into(),
            ..v1::EncryptRequest::default()
        };
        let answer: Result<_, Error> = client.encrypt(request).await;
        answered.fetch_add(u64::from(answer.is_ok()), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_the_lead_while_both_cores_are_busy_for_a_minute() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    cluster.until_mode(ReplicationMode::Sync).await?;
    let before = cluster.status().await?;
    let key_id = cluster.first_key()?;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let cores = std::thread::available_parallelism()?.get();
    let spinners: Vec<_> = (0..cores * SPINNERS_PER_CORE)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || spin(&stop))
        })
        .collect();
    let mut callers = Vec::new();
    for node in cluster.data_nodes() {
        let client = cluster.client_at("app", node)?;
        for _ in 0..CALLERS {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            callers.push(tokio::spawn(encrypt(client.clone(), key_id.clone(), stop, answered)));
        }
    }
    sleep(BUSY).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    for spinner in spinners {
        spinner.join().map_err(|_| anyhow::anyhow!("a spinner panicked"))?;
    }
    let after = cluster.status().await.context("the cluster does not answer afterwards")?;
    let leader = (after.leader_node_id, after.term);
    ensure!(
        leader == (before.leader_node_id, before.term),
        "node {} led in term {}, now node {} in term {}",
        before.leader_node_id,
        before.term,
        after.leader_node_id,
        after.term
    );
    let mode = after.replication.context("there is no mode")?.mode();
    ensure!(mode == ReplicationMode::Sync, "{mode:?}");
    let answered = answered.load(Ordering::Relaxed);
    println!("{} s of both cores busy: {answered} calls, 0 elections", BUSY.as_secs());
    Ok(())
}
