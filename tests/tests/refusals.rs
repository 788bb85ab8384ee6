//! What does not belong is refused at start, with one line that says what is wrong, and nothing is lost.
//!
//! Each case starts a second process on a copy of a stopped node's folder in which one thing is not as
//! it should be. At the end the node itself starts again with all its keys.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rocksdb::{DB, Options};
use tempfile::TempDir;
use twinkeep_client::v1;
use twinkeep_tests::{Cluster, refused_start};

/// Longest time in which a node has to say why it does not start.
const REFUSAL_MAX: Duration = Duration::from_secs(20);
/// Key of the vote in the log database (docs/formats.md).
const VOTE: &[u8] = &[0x02];

/// A stopped node, and places to start it wrongly.
struct Stopped<'a> {
    cluster: &'a Cluster,
    config: String,
    data: PathBuf,
    places: TempDir,
}

impl<'a> Stopped<'a> {
    fn of(cluster: &'a Cluster, name: &str) -> anyhow::Result<Self> {
        let node = cluster.node(name)?;
        cluster.kill([node])?;
        let config = fs::read_to_string(cluster.path(name).join("twinkeepd.toml"))?;
        // It is started as another node, whose metrics' address may be in use.
        let metrics = format!("\n[metrics]\naddress = \"{}\"\n", node.metrics_address);
        let config = config.replace(&metrics, "");
        Ok(Self { cluster, config, data: cluster.data(node), places: TempDir::new()? })
    }

    /// Copies the node's folder, to be changed.
    fn copy(&self, name: &str) -> anyhow::Result<PathBuf> {
        let to = self.places.path().join(name);
        copy_folder(&self.data, &to)?;
        Ok(to)
    }

    /// Makes an empty folder.
    fn empty(&self, name: &str) -> anyhow::Result<PathBuf> {
        let to = self.places.path().join(name);
        fs::DirBuilder::new().mode(0o700).create(&to)?;
        Ok(to)
    }

    /// Starts the node on a folder and expects that it ends with one line that has a part.
    fn expect_refused(&self, data: &Path, part: &str) -> anyhow::Result<()> {
        let (own, other) = (self.data.display().to_string(), data.display().to_string());
        self.expect_refused_with(&self.config.replace(&own, &other), part)
    }

    /// Starts the node with a configuration and expects that it ends with one line that has a part.
    fn expect_refused_with(&self, config: &str, part: &str) -> anyhow::Result<()> {
        let path = self.places.path().join("twinkeepd.toml");
        fs::write(&path, config)?;
        let said = refused_start(&path, REFUSAL_MAX).with_context(|| format!("`{part}`"))?;
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("twinkeepd: ")).collect();
        ensure!(
            lines.len() == 1 && lines[0].contains(part),
            "expected one line with `{part}`, got:\n{said}"
        );
        println!("refused: {}", lines[0]);
        Ok(())
    }

    /// The same with a damaged log, which has to be left as it is.
    fn expect_log_refused(&self, data: &Path, part: &str) -> anyhow::Result<()> {
        let before = contents(&data.join("log"))?;
        self.expect_refused(data, part)?;
        ensure!(before == contents(&data.join("log"))?, "the refused log was changed");
        Ok(())
    }

    /// Starts the node itself, with everything that it had.
    async fn expect_whole(&self, name: &str, key_id: &str) -> anyhow::Result<()> {
        self.cluster.start_all()?;
        let client = self.cluster.client_at("app", self.cluster.node(name)?)?;
        let request = v1::DescribeKeyRequest {
            key_id: key_id.to_owned(),
            ..v1::DescribeKeyRequest::default()
        };
        client.describe_key(request).await.with_context(|| format!("{name} has lost a key"))?;
        Ok(())
    }
}

/// Files of a node of another cluster.
struct Stranger {
    folder: TempDir,
}

impl Stranger {
    async fn take(name: &str) -> anyhow::Result<Self> {
        let cluster = Cluster::start().await?;
        let node = cluster.node(name)?;
        cluster.kill([node])?;
        let folder = TempDir::new()?;
        copy_folder(&cluster.data(node), &folder.path().join("data"))?;
        fs::copy(cluster.path(name).join("pass.toml"), folder.path().join("pass.toml"))?;
        Ok(Self { folder })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn pass(&self) -> PathBuf {
        self.folder.path().join("pass.toml")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_certificates_folders_and_ids_are_refused() -> anyhow::Result<()> {
    let stranger = Stranger::take("a2").await?;
    let cluster = Cluster::start().await?;
    let created = cluster.client("app")?.create_key(cluster.new_key()?).await?;
    let key_id = created.key.context("no key")?.key_id;
    let a2 = Stopped::of(&cluster, "a2")?;
    let neighbour = cluster.data(cluster.node("b1")?);
    cluster.kill([cluster.node("b1")?])?;

    // Before anything is opened.
    let elsewhere = a2.config.replace("127.0.1.0/24", "127.0.9.0/24");
    a2.expect_refused_with(&elsewhere, "is not in the CIDR 127.0.9.0/24")?;

    // Another place than the cluster has recorded.
    let moved = a2.config.replace("zone = \"a\"", "zone = \"b\"").replace("vsw-a", "vsw-b");
    let moved = moved.replace("127.0.1.", "127.0.2.");
    a2.expect_refused_with(&moved, "node.zone is b, and the cluster has recorded node 2 with a")?;

    // The pass once more, on an empty disk.
    let again = a2.empty("again")?;
    fs::copy(a2.data.join("node.key"), again.join("node.key"))?;
    a2.expect_refused(&again, "the cluster refuses this node: node id 2 was used before")?;

    // Certificates: another node's, alone and with its key; another cluster's.
    let borrowed = a2.copy("borrowed")?;
    fs::copy(neighbour.join("node.pem"), borrowed.join("node.pem"))?;
    a2.expect_refused(&borrowed, "the private key does not belong to the certificate")?;
    fs::copy(neighbour.join("node.key"), borrowed.join("node.key"))?;
    a2.expect_refused(&borrowed, "and this node is spiffe://")?;
    let foreign = a2.copy("foreign")?;
    for file in ["node.pem", "node.key", "node-root.pem"] {
        fs::copy(stranger.data().join(file), foreign.join(file))?;
    }
    a2.expect_refused(&foreign, "and this node is spiffe://")?;

    // Folders: another node's database, another cluster's, and another cluster's folder as a whole.
    for (from, whose) in [(&neighbour, "neighbour"), (&stranger.data(), "stranger")] {
        for (database, refusal) in
            [("log", "the log belongs to somebody else"), ("state", "the state belongs to")]
        {
            let mixed = a2.copy(&format!("{whose}-{database}"))?;
            fs::remove_dir_all(mixed.join(database))?;
            copy_folder(&from.join(database), &mixed.join(database))?;
            a2.expect_refused(&mixed, refusal)?;
        }
    }
    let whole = a2.empty("whole")?.join("data");
    copy_folder(&stranger.data(), &whole)?;
    a2.expect_refused(&whole, "is not this node's: it belongs to cluster clu-")?;
    let unpinned: String =
        a2.config.lines().filter(|line| !line.starts_with("cluster-id")).map(with_end).collect();
    let (own, other) = (a2.data.display().to_string(), whole.display().to_string());
    a2.expect_refused_with(&unpinned.replace(&own, &other), "join.pass-file is for node")?;

    // Another cluster's pass, on an empty disk.
    let fresh = a2.empty("fresh")?;
    let (pass, other) = (cluster.path("a2").join("pass.toml"), fresh.display().to_string());
    let config = a2.config.replace(&own, &other);
    let config =
        config.replace(&pass.display().to_string(), &stranger.pass().display().to_string());
    a2.expect_refused_with(&config, "the pass in join.pass-file is not for this node")?;

    a2.expect_whole("a2", &key_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_logs_are_refused_and_left_as_they_are() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let app = cluster.client("app")?;
    let mut key_id = String::new();
    for _ in 0..20 {
        key_id = app.create_key(cluster.new_key()?).await?.key.context("no key")?.key_id;
    }
    let a2 = Stopped::of(&cluster, "a2")?;

    let vote = a2.copy("vote")?;
    {
        let log = DB::open(&Options::default(), vote.join("log").join("db"))?;
        let mut record = log.get(VOTE)?.context("the node has no vote")?;
        *record.last_mut().context("an empty vote")? ^= 1;
        log.put(VOTE, record)?;
    }
    a2.expect_log_refused(&vote, "the vote under key 02 is damaged")?;

    // Half way into the write-ahead log: many synced records stand behind it.
    let torn = a2.copy("torn")?;
    let wal = only_wal(&torn.join("log").join("db"))?;
    let mut bytes = fs::read(&wal)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&wal, bytes)?;
    a2.expect_log_refused(&torn, "behind an unreadable place")?;

    let gone = a2.copy("gone")?;
    fs::remove_dir_all(gone.join("log"))?;
    a2.expect_refused(&gone, "the log ends at nothing, and what was applied reaches")?;

    a2.expect_whole("a2", &key_id).await
}

fn with_end(line: &str) -> String {
    format!("{line}\n")
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp failed");
    Ok(())
}

/// Returns the write-ahead log of a database that was just started.
fn only_wal(db: &Path) -> anyhow::Result<PathBuf> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(db)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "log") {
            logs.push((fs::metadata(&path)?.len(), path));
        }
    }
    logs.into_iter().max().map(|(_, path)| path).context("there is no write-ahead log")
}

/// Returns what the files of a folder hold.
fn contents(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(contents(&path)?);
        } else {
            all.insert(path.clone(), fs::read(&path)?);
        }
    }
    Ok(all)
}
