//! How soon a node serves after its start, and how much memory it takes: idle, and for each open connection.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use twinkeep_client::v1;
use twinkeep_tests::{Node, program};

use super::requests::{self, ENCRYPT};
use crate::bench::{Bench, Effort};
use crate::load::sample::{count, median};
use crate::servers::cluster::{APP, ask};
use crate::servers::pid;
use crate::system::cores;
use crate::system::process::resident_bytes;

/// Longest wait for a node.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a node is left alone before its memory is read.
const REST: Duration = Duration::from_millis(500);
/// Connections that are opened to see what one costs.
const CONNECTIONS: usize = 500;

/// Restarts a follower a few times; the last one's memory is read.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let node = bench.follower.clone();
    let mut starts = Vec::new();
    for _ in 0..bench.rounds(Effort::Gate) {
        starts.push(restart(bench, &node).await?.as_secs_f64() * 1000.0);
    }
    bench.show("start of a node, from exec to its first Encrypt", median(starts), "ms");
    tokio::time::sleep(REST).await;
    let server = bench.nodes.server(&node, APP)?;
    let idle = resident_bytes(server.process)?;
    let open = if bench.is_quick() { CONNECTIONS / 10 } else { CONNECTIONS };
    let connections = server.connect(open).await?;
    tokio::time::sleep(REST).await;
    let each = count(resident_bytes(server.process)?.saturating_sub(idle)) / count(open as u64);
    drop(connections);
    bench.show("memory of an idle node", count(idle) / f64::from(1 << 20), "MiB");
    bench.show("memory of an open connection", each / 1024.0, "KiB");
    Ok(())
}

/// Kills a node, starts it on the server's core and asks it to encrypt until it does.
async fn restart(bench: &Bench, node: &Node) -> anyhow::Result<Duration> {
    let cluster = bench.nodes.cluster();
    let request = requests::encrypt(&cluster.first_key()?, 32);
    let mut server = bench.nodes.server(node, APP)?;
    cluster.kill([node])?;
    let said =
        OpenOptions::new().append(true).open(cluster.path(&node.name).join("messages.log"))?;
    let mut command = Command::new(program("twinkeepd")?);
    command
        .args(["run", "--config"])
        .arg(cluster.path(&node.name).join("twinkeepd.toml"))
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said);
    let started = Instant::now();
    let child = cores::spawn_on(&[cores::SERVER], &mut command)?;
    // `twinkeep dev` and the cluster's end find the process by this file.
    std::fs::write(cluster.path(&node.name).join("pid"), child.id().to_string())?;
    server.process = pid(child.id())?;
    loop {
        let asked = ask::<v1::EncryptResponse>(&server, ENCRYPT, &request).await;
        match asked {
            Ok(_) => break,
            Err(error) if started.elapsed() > START_MAX => {
                return Err(error).context("the node did not serve");
            }
            Err(_) if cluster.pid(node).is_none() => {
                bail!("the node has ended:\n{}", cluster.messages(node));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    let took = started.elapsed();
    cores::pin(server.process, &[cores::LOAD])?;
    Ok(took)
}
