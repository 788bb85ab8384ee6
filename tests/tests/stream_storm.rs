//! A million calls over streams, about one in a hundred given up, nodes killed meanwhile: each ends once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use twinkeep_client::{Client, Error, v1};
use twinkeep_tests::Cluster;

/// Calls altogether.
const CALLS: u64 = 1_000_000;
/// Calls under way at a time: as many as a node takes from one stream.
const CALLERS: u64 = 256;
/// One in so many is given up at a random moment of its first two milliseconds, unless it was answered by then:
/// half of them are.
const IMPATIENT_ONE_IN: u32 = 50;
/// Time for a call: longer than it takes to find another node, with a machine that is busy.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// How calls ended.
#[derive(Default)]
struct Ends {
    begun: AtomicU64,
    answered: AtomicU64,
    given_up: AtomicU64,
    failed: AtomicU64,
}

impl Ends {
    fn sum(&self) -> u64 {
        [&self.answered, &self.given_up, &self.failed]
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_million_ends_once_while_nodes_are_killed() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    // One node is known first and the rest is learnt, so that nearly all calls share one stream.
    let client = cluster.client("app")?.with_deadline(CALL_LIMIT);
    let key_id = cluster.first_key()?;
    let ends = Arc::new(Ends::default());
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|seed| tokio::spawn(call(client.clone(), key_id.clone(), seed, Arc::clone(&ends))))
        .collect();

    let mut memory = Vec::new();
    let mut killed = 0;
    let mut killings = [20, 45, 70].into_iter().peekable();
    while ends.sum() < CALLS && !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let done = ends.sum() * 100 / CALLS;
        if killings.next_if(|at| done >= *at).is_some() {
            let node = cluster.data_nodes().nth(killed).context("a node to kill")?;
            cluster.kill([node])?;
            killed += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
            tokio::task::block_in_place(|| cluster.start_all())?;
        }
        memory.push((done, own_memory_kib()?));
    }
    for caller in callers {
        caller.await??;
    }

    let [begun, answered, given_up, failed] =
        [&ends.begun, &ends.answered, &ends.given_up, &ends.failed]
            .map(|count| count.load(Ordering::Relaxed));
    let rate = CALLS as f64 / began.elapsed().as_secs_f64();
    println!(
        "{begun} calls, {killed} nodes killed: {answered} answered, {given_up} given up, {failed} failed with a \
         typed error; {rate:.0}/s"
    );
    ensure!(begun == CALLS && answered + given_up + failed == CALLS, "a call ended twice or never");
    ensure!(killed == 3, "{killed} nodes were killed");
    // Nodes that die lose no call: another answers it.
    ensure!(failed == 0, "{failed} calls failed");
    let expected = CALLS / u64::from(IMPATIENT_ONE_IN);
    ensure!((expected / 20..=expected * 2).contains(&given_up), "{given_up} calls were given up");

    let mean = |range: std::ops::Range<u64>| {
        let some: Vec<_> =
            memory.iter().filter(|(done, _)| range.contains(done)).map(|(_, kib)| *kib).collect();
        some.iter().sum::<u64>() / (some.len() as u64).max(1)
    };
    let (early, late) = (mean(10..30), mean(80..101));
    println!("memory of the client: {early} KiB early, {late} KiB late");
    for node in cluster.data_nodes() {
        let pid = cluster.pid(node).context("the node runs")?;
        println!("memory of {}: {} KiB", node.name, memory_kib(&pid.as_raw_nonzero().to_string())?);
    }
    ensure!(late < early + early / 4 + 8 * 1024, "the client's memory grows");
    Ok(())
}

async fn call(client: Client, key_id: String, seed: u64, ends: Arc<Ends>) -> Result<(), Error> {
    let mut random = StdRng::seed_from_u64(seed);
    let request = v1::EncryptRequest { key_id, plaintext: "storm".into(), ..Default::default() };
    while ends.begun.fetch_add(1, Ordering::Relaxed) < CALLS {
        let calling = client.encrypt(request.clone());
        let end = if random.random_range(0..IMPATIENT_ONE_IN) == 0 {
            let patience = Duration::from_micros(random.random_range(0..2000));
            match tokio::time::timeout(patience, calling).await {
                Ok(result) => result,
                Err(_) => {
                    ends.given_up.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
        } else {
            calling.await
        };
        match end {
            Ok(_) => ends.answered.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                eprintln!("failed: {error}");
                ends.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
    ends.begun.fetch_sub(1, Ordering::Relaxed);
    Ok(())
}

fn own_memory_kib() -> anyhow::Result<u64> {
    memory_kib("self")
}

/// Returns the resident memory of a process.
fn memory_kib(process: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}
