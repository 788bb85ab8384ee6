//! Whole clusters of real processes, started as a user starts them: `twinkeep dev up` in a folder of the
//! test's own, on free ports. Two copies of the tests run side by side without meeting.

pub mod prometheus;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twinkeep_client::{Builder, Client, v1};

/// A running cluster; its processes end with it.
#[derive(Debug)]
pub struct Cluster {
    home: TempDir,
    nodes: Vec<Node>,
    _turn: OwnedSemaphorePermit,
}

/// One node of a cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Node {
    /// `a1`, `a2`, `b1`, `b2` or `w`.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Whether it is the witness.
    pub witness: bool,
    /// Where callers reach it.
    pub client_address: SocketAddr,
    /// Where nodes reach it.
    pub peer_address: SocketAddr,
    /// Where it shows its metrics.
    pub metrics_address: SocketAddr,
}

#[derive(Deserialize)]
struct LayoutFile {
    node: Vec<Node>,
}

/// Longest wait for the mode to follow the zones.
const MODE_MAX: Duration = Duration::from_secs(20);

/// Returns how many rounds a test that repeats itself makes: `TWINKEEP_TEST_ROUNDS`, or what it makes by itself.
#[must_use]
pub fn rounds(by_itself: usize) -> usize {
    let asked = std::env::var("TWINKEEP_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    asked.unwrap_or(by_itself)
}

/// Five processes are enough for two cores: the tests of a binary take turns.
static TURN: std::sync::LazyLock<Arc<Semaphore>> =
    std::sync::LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// Returns the path of one of our programs: beside this one, or a folder up when this one is a test.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let path = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    path.with_context(|| {
        format!(
            "{name} is missing beside {}: run `cargo build --release --workspace` first",
            own.display()
        )
    })
}

impl Cluster {
    /// Starts a fresh cluster of two zones and a witness.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a fresh cluster with further arguments for `twinkeep dev up`.
    pub async fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        let turn = Arc::clone(&TURN).acquire_owned().await?;
        let home = tempfile::Builder::new().prefix("twinkeep-test-").tempdir()?;
        let mut cluster = Self { home, nodes: Vec::new(), _turn: turn };
        cluster.twinkeep(&[&["dev", "up"], arguments].concat())?;
        cluster.read_layout()?;
        Ok(cluster)
    }

    fn read_layout(&mut self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.path("layout.toml"))?;
        self.nodes = toml::from_str::<LayoutFile>(&text)?.node;
        Ok(())
    }

    /// Returns a path in the cluster's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Returns all nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the nodes that serve callers.
    pub fn data_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.witness)
    }

    /// Returns a node by its name.
    pub fn node(&self, name: &str) -> anyhow::Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    /// Returns the folder with a node's databases.
    #[must_use]
    pub fn data(&self, node: &Node) -> PathBuf {
        self.path(&node.name).join("data")
    }

    /// Runs `twinkeep` on this cluster and returns what it printed.
    pub fn twinkeep(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.try_twinkeep(arguments)?;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "twinkeep {}: {err}\n{out}", arguments.join(" "));
        Ok(out)
    }

    /// Runs `twinkeep` on this cluster and returns how it ended.
    pub fn try_twinkeep(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(program("twinkeep")?);
        command
            .args(arguments)
            .env("TWINKEEP_HOME", self.home.path())
            .current_dir(self.home.path());
        Ok(command.output()?)
    }

    /// Adds a data node to a zone; it joins as a learner. Returns its node id.
    pub fn add_node(&mut self, name: &str, zone: &str) -> anyhow::Result<u64> {
        let printed = self.twinkeep(&["dev", "add-node", name, "--zone", zone])?;
        self.read_layout()?;
        let id = printed.split("as node ").nth(1).and_then(|rest| rest.split(',').next());
        id.and_then(|id| id.parse().ok()).with_context(|| format!("no node id in `{printed}`"))
    }

    /// Kills nodes at once and waits until they are gone.
    pub fn kill<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> anyhow::Result<()> {
        let killed: Vec<_> = nodes.into_iter().filter_map(|node| self.pid(node)).collect();
        for pid in &killed {
            kill_process(*pid, Signal::KILL)?;
        }
        for pid in killed {
            while is_alive(pid) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Starts what does not run and waits until all data nodes serve.
    pub fn start_all(&self) -> anyhow::Result<()> {
        self.twinkeep(&["dev", "up"]).map(|_| ())
    }

    /// Returns the id of a node's process while it runs.
    #[must_use]
    pub fn pid(&self, node: &Node) -> Option<Pid> {
        let text = std::fs::read_to_string(self.path(&node.name).join("pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?).filter(|pid| is_alive(*pid))
    }

    /// Sends a signal to the data nodes of a zone.
    pub fn signal(&self, zone: &str, signal: Signal) -> anyhow::Result<()> {
        for node in self.zone(zone) {
            let pid = self.pid(node).with_context(|| format!("{} does not run", node.name))?;
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Returns the data nodes of a zone.
    pub fn zone<'a>(&'a self, zone: &'a str) -> impl Iterator<Item = &'a Node> {
        self.data_nodes().filter(move |node| node.zone == zone)
    }

    /// Returns how the cluster stands, as its leader sees it, or any node while nobody leads.
    pub async fn status(&self) -> anyhow::Result<v1::GetStatusResponse> {
        let client = self.client("admin")?;
        let status = client.get_status(v1::GetStatusRequest::default()).await?;
        if status.leader_node_id == status.node_id || status.leader_address.is_empty() {
            return Ok(status);
        }
        let leader = client.at(&status.leader_address).context("the leader has no client")?;
        Ok(leader.get_status(v1::GetStatusRequest::default()).await?)
    }

    /// Waits until a data node leads and the replication mode is the wanted one; returns the leader.
    pub async fn until_mode(&self, wanted: v1::ReplicationMode) -> anyhow::Result<&Node> {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if let Ok(status) = &status
                && status.replication.as_ref().is_some_and(|r| r.mode() == wanted)
                && let Ok(address) = status.leader_address.parse::<SocketAddr>()
                && let Some(leader) = self.nodes.iter().find(|n| n.client_address == address)
            {
                return Ok(leader);
            }
            ensure!(began.elapsed() < MODE_MAX, "the mode is not {wanted:?}: {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns a client that knows all data nodes.
    pub fn client(&self, caller: &str) -> anyhow::Result<Client> {
        Ok(self.builder_of(caller, self.data_nodes()).build()?)
    }

    /// Returns a client of an application that stands in a zone and knows all data nodes.
    pub fn client_in(&self, caller: &str, zone: &str) -> anyhow::Result<Client> {
        Ok(self.builder_of(caller, self.data_nodes()).zone(zone).build()?)
    }

    /// Returns a client that knows one node and stays with it.
    pub fn client_at(&self, caller: &str, node: &Node) -> anyhow::Result<Client> {
        Ok(self.builder_of(caller, [node]).follow_topology(false).build()?)
    }

    fn builder_of<'a>(&self, caller: &str, nodes: impl IntoIterator<Item = &'a Node>) -> Builder {
        let file = |ending: &str| self.path("callers").join(format!("{caller}.{ending}"));
        let mut builder = Client::builder()
            .root_file(self.path("callers").join("endpoint-root.pem"))
            .identity_files(file("pem"), file("key"));
        for node in nodes {
            builder = builder.endpoint_in(&node.zone, node.client_address.to_string());
        }
        builder
    }

    /// Returns the id of the first key.
    pub fn first_key(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.path("first-key"))?)
    }

    /// Returns the id of the first instance.
    pub fn first_instance(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.path("first-instance"))?)
    }

    /// Returns what a node has said.
    #[must_use]
    pub fn messages(&self, node: &Node) -> String {
        std::fs::read_to_string(self.path(&node.name).join("messages.log")).unwrap_or_default()
    }

    /// Returns a request for a new AES-256 key of the first instance.
    pub fn new_key(&self) -> anyhow::Result<v1::CreateKeyRequest> {
        Ok(v1::CreateKeyRequest {
            instance_id: self.first_instance()?,
            spec: v1::KeySpec::Aes256.into(),
            usage: v1::KeyUsage::EncryptDecrypt.into(),
            ..v1::CreateKeyRequest::default()
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let messages = self.messages(node);
                let last: Vec<_> = messages.lines().rev().take(15).collect();
                eprintln!("--- {} said last (newest first):\n{}", node.name, last.join("\n"));
            }
        }
        // Processes of a cluster that was only half made are in no layout that was read.
        let _ = self.read_layout();
        let _ = self.kill(&self.nodes.clone());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tells whether a process runs; one that has ended and was not waited for does not. The first thread of
/// a killed process may be gone while others still hold its files.
fn is_alive(pid: Pid) -> bool {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(format!("{process}/stat"));
    let threads = || std::fs::read_dir(format!("{process}/task")).map_or(0, Iterator::count);
    stat.is_ok_and(|stat| !stat.contains(") Z ") || threads() > 1)
}

/// Runs a program to its end within a time and returns what it wrote to standard error.
pub fn refused_start(config: &Path, within: Duration) -> anyhow::Result<String> {
    let mut child = Command::new(program("twinkeepd")?)
        .args(["run", "--config"])
        .arg(config)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > within {
            child.kill()?;
            child.wait()?;
            bail!("the node started, or hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    ensure!(!output.status.success(), "the node ended without an error");
    Ok(text(&output.stderr))
}
