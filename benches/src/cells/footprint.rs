//! How soon a node serves after its start, and how much memory it takes: idle, for each open connection and for
//! each open crypto stream.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::timeout;
use twinkeep_client::v1;
use twinkeep_client::v1::crypto_stream_request::Body;
use twinkeep_tests::{Node, program};

use super::requests::{self, CRYPTO_STREAM, ENCRYPT};
use crate::bench::{Bench, Effort};
use crate::load::sample::{count, median};
use crate::load::wire::{Connection, OpenStream};
use crate::servers::cluster::{APP, ask};
use crate::servers::{Server, pid};
use crate::system::cores;
use crate::system::process::resident_bytes;

/// Longest wait for a node.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a node is left alone before its memory is read.
const REST: Duration = Duration::from_millis(500);
/// Connections that are opened to see what one costs, and then a stream on each.
const CONNECTIONS: usize = 500;
/// Longest wait for an answer on one.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes of the plaintext that is encrypted over each stream, so that what a stream in use keeps is there.
const PLAINTEXT_BYTES: usize = 1024;

/// Restarts a follower a few times; the last one's memory is read.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let node = bench.follower.clone();
    let mut starts = Vec::new();
    for _ in 0..bench.rounds(Effort::Gate) {
        starts.push(restart(bench, &node).await?.as_secs_f64() * 1000.0);
    }
    bench.show("start of a node, from exec to its first Encrypt", median(starts), "ms");
    let server = bench.nodes.server(&node, APP)?;
    let open = if bench.is_quick() { CONNECTIONS / 10 } else { CONNECTIONS };
    let idle = at_rest(&server).await?;
    let connections = server.connect(open).await?;
    let connected = at_rest(&server).await?;
    let streams = open_streams(bench, &connections).await?;
    let streaming = at_rest(&server).await?;
    drop((streams, connections));
    let each =
        |before: u64, after: u64| count(after.saturating_sub(before)) / count(open as u64) / 1024.0;
    bench.show("memory of an idle node", count(idle) / f64::from(1 << 20), "MiB");
    bench.show("memory of an open connection", each(idle, connected), "KiB");
    bench.show("memory of an open stream", each(connected, streaming), "KiB");
    Ok(())
}

/// Leaves a node alone for a moment; returns its memory in bytes.
async fn at_rest(server: &Server) -> anyhow::Result<u64> {
    tokio::time::sleep(REST).await;
    resident_bytes(server.process)
}

/// Opens a crypto stream on each connection and encrypts over it once.
async fn open_streams(
    bench: &Bench,
    connections: &[Connection],
) -> anyhow::Result<Vec<OpenStream>> {
    let key_id = bench.nodes.cluster().first_key()?;
    let call = requests::on_stream(&Body::Encrypt(requests::encrypt(&key_id, PLAINTEXT_BYTES)));
    let mut streams = Vec::with_capacity(connections.len());
    for connection in connections {
        let (mut send, mut answers) = connection.prepare(CRYPTO_STREAM)?.stream().await?;
        send.send_data(call.frames[0].clone(), false)?;
        let answer = timeout(ANSWER_MAX, answers.data()).await.context("no answer on a stream")?;
        let answer = answer.context("the node ended the stream")??;
        answers.flow_control().release_capacity(answer.len())?;
        streams.push((send, answers));
    }
    Ok(streams)
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
