//! Many callers at once, which share one stream per node. Prints rate and latencies, and what the client did at each
//! node: kill one meanwhile.

use std::error::Error;
use std::time::{Duration, Instant};

use twinkeep_client::{Client, v1};

mod common;

const CALLERS: usize = 64;
const TIME: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, key_id) = common::connect()?;
    let began = Instant::now();
    // A client is cheap to clone; all clones share connections and streams.
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(call(client.clone(), key_id.clone()))).collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    times.sort_unstable();
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default();
    println!("{rate:.0} calls/s, p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    for node in client.activity().nodes {
        let (calls, hedges, ejections) = (node.attempts, node.hedges, node.ejections);
        println!(
            "{}: {calls} calls, of them {hedges} hedges; ejected {ejections} times",
            node.address
        );
    }
    Ok(())
}

async fn call(client: Client, key_id: String) -> Result<Vec<Duration>, twinkeep_client::Error> {
    let (until, mut times) = (Instant::now() + TIME, Vec::new());
    while Instant::now() < until {
        let began = Instant::now();
        let request = v1::EncryptRequest {
            key_id: key_id.clone(),
            plaintext: vec![7; 1024].into(),
            ..Default::default()
        };
        client.encrypt(request).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}
