//! Nodes replace their certificates by themselves: a data node issues its own, the witness asks for one.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::sleep;
use twinkeep_client::v1;
use twinkeep_tests::Cluster;

/// Longest wait for a new certificate after a start.
const RENEWED_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn due_certificates_are_renewed_with_the_same_key() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    for name in ["b2", "w"] {
        let node = cluster.node(name)?;
        let (folder, file) = (cluster.path(name), cluster.data(node).join("node.pem"));
        let (before, key) = (fs::read(&file)?, fs::read(cluster.data(node).join("node.key"))?);
        cluster.kill([node])?;
        // Longer than a certificate lives, so that the present one is due.
        OpenOptions::new()
            .append(true)
            .open(folder.join("twinkeepd.toml"))?
            .write_all(b"\n[certificates]\nrenew-before = \"400days\"\n")?;
        cluster.twinkeep(&["dev", "start-node", name])?;
        let started = Instant::now();
        while fs::read(&file)? == before {
            ensure!(started.elapsed() < RENEWED_MAX, "{name} has no new certificate");
            sleep(Duration::from_millis(20)).await;
        }
        ensure!(fs::read(cluster.data(node).join("node.key"))? == key, "{name} has another key");
        // The new certificate is good for peers that see it for the first time.
        cluster.kill([node])?;
        cluster.twinkeep(&["dev", "start-node", name])?;
    }
    // Without a2 and b1 a majority is a1 and both nodes that have new certificates.
    cluster.kill([cluster.node("a2")?, cluster.node("b1")?])?;
    let a1 = cluster.client_at("app", cluster.node("a1")?)?;
    let created = a1.create_key(cluster.new_key()?).await.context("no majority")?;
    let key_id = created.key.context("no key")?.key_id;
    let b2 = cluster.client_at("app", cluster.node("b2")?)?;
    b2.describe_key(v1::DescribeKeyRequest { key_id, ..v1::DescribeKeyRequest::default() }).await?;
    Ok(())
}
