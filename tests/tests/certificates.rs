//! Nodes replace their certificates by themselves: a data node issues its own, the witness asks for one.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::sleep;
use twinkeep_client::v1;
use twinkeep_tests::{Cluster, Node, program};

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

/// A node that was switched off for so long that its endpoint's certificate has ended, in a cluster that
/// does not unseal itself: unsealing is a call to that endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn sealed_node_without_an_endpoint_certificate_is_unsealed_over_its_socket()
-> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let a2 = cluster.node("a2")?;
    cluster.kill([a2])?;
    let path = cluster.path("a2").join("twinkeepd.toml");
    let config = fs::read_to_string(&path)?;
    let by_hand: String = config
        .lines()
        .filter(|line| !line.starts_with("passphrase-file"))
        .fold(String::new(), |text, line| text + line + "\n");
    fs::write(&path, by_hand)?;
    fs::remove_file(cluster.data(a2).join("endpoint.pem"))?;
    let mut node = std::process::Command::new(program("twinkeepd")?)
        .args(["run", "--config"])
        .arg(&path)
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let socket = cluster.data(a2).join("admin.sock").display().to_string();
    let unsealed = unseal(&cluster, &socket).await;
    let served = match &unsealed {
        Ok(()) => serves(&cluster, a2).await,
        Err(_) => Ok(()),
    };
    node.kill()?;
    node.wait()?;
    unsealed.and(served)
}

async fn unseal(cluster: &Cluster, socket: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let wrong = cluster.path("cluster-id").display().to_string();
        let refused = cluster.try_twinkeep(&["unseal", "--socket", socket, "--from", &wrong])?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(!refused.status.success(), "a wrong passphrase unseals");
        if !said.contains("cannot reach the node") {
            break;
        }
        ensure!(started.elapsed() < RENEWED_MAX, "the node does not listen: {said}");
        sleep(Duration::from_millis(50)).await;
    }
    let passphrase = cluster.path("passphrase").display().to_string();
    let said = cluster.twinkeep(&["unseal", "--socket", socket, "--from", &passphrase])?;
    ensure!(said.trim() == "unsealed", "{said}");
    Ok(())
}

async fn serves(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let client = cluster.client_at("app", node)?;
    let started = Instant::now();
    loop {
        let request = v1::EncryptRequest {
            key_id: cluster.first_key()?,
            plaintext: b"x".to_vec().into(),
            ..v1::EncryptRequest::default()
        };
        match client.encrypt(request).await {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > RENEWED_MAX => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
