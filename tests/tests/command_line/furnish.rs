//! A cluster with what the commands need: keys, files, an order, two fresh nodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use twinkeep_tests::{Cluster, program};

use super::cases::Case;
use super::{run, text};

/// Longest wait for a fresh node's socket.
const SOCKET_MAX: Duration = Duration::from_secs(60);

/// The cluster and what it holds, by the names that the table uses.
pub(crate) struct Furnished {
    cluster: Cluster,
    folder: tempfile::TempDir,
    things: BTreeMap<&'static str, String>,
    /// Nodes without a cluster.
    fresh: Vec<Child>,
}

impl Drop for Furnished {
    fn drop(&mut self) {
        for node in &mut self.fresh {
            // It may have ended; the processes of the cluster end with it.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

impl Furnished {
    /// Starts a cluster and makes everything.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::start().await?;
        let folder = tempfile::tempdir()?;
        let mut own = Self { cluster, folder, things: BTreeMap::new(), fresh: Vec::new() };
        own.keys()?;
        own.files()?;
        own.admission()?;
        own.fresh_nodes()?;
        Ok(own)
    }

    /// The folder of the test.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn put(&mut self, name: &'static str, value: impl Into<String>) {
        self.things.insert(name, value.into());
    }

    fn put_path(&mut self, name: &'static str, path: &Path) {
        self.put(name, path.display().to_string());
    }

    /// Runs `twinkeep` with words, and returns what it printed.
    fn said(&self, words: &str) -> anyhow::Result<String> {
        let output = self.twinkeep(&self.arguments(words, ""))?;
        ensure!(output.status.success(), "`{words}`: {}", text(&output.stderr));
        Ok(text(&output.stdout))
    }

    fn keys(&mut self) -> anyhow::Result<()> {
        self.put("key", self.cluster.first_key()?);
        self.put("instance", self.cluster.first_instance()?);
        self.put("no-key", format!("key-{}", "0".repeat(32)));
        self.put("no-instance", format!("kst-{}", "0".repeat(32)));
        for (name, spec) in
            [("spare-key", "AES_256"), ("ec-key", "EC_P256"), ("hmac-key", "HMAC_256")]
        {
            let made = self.said(&format!("key create --spec {spec} --output json"))?;
            let made: Value = serde_json::from_str(&made)?;
            let id = made["key"]["key_id"].as_str().context("no key id")?.to_owned();
            self.put(name, id);
        }
        Ok(())
    }

    fn files(&mut self) -> anyhow::Result<()> {
        let file = |name: &str| self.folder.path().join(name);
        let (message, ciphertext) = (file("message"), file("ciphertext"));
        std::fs::write(&message, "attack at dawn")?;
        let address = self.cluster.node("a1")?.client_address.to_string();
        let paths = [
            ("message", message),
            ("ciphertext", ciphertext),
            ("folder", self.folder.path().to_owned()),
            ("operator-key", self.cluster.path("operator-1.age")),
            ("other-operator-key", self.cluster.path("operator-2.age")),
            ("passphrase", self.cluster.path("passphrase")),
            ("bundle", self.cluster.path("callers").join("recovery-bundle")),
            ("audit", self.cluster.data(self.cluster.node("b1")?).join("audit")),
            // A certificate that no endpoint is below, and one of a node, which is no caller.
            ("no-root", self.cluster.path("callers").join("app.pem")),
            ("node-certificate", self.cluster.data(self.cluster.node("b1")?).join("node.pem")),
            ("node-key", self.cluster.data(self.cluster.node("b1")?).join("node.key")),
        ];
        for (name, path) in &paths {
            self.put_path(name, path);
        }
        self.put("address", address);
        self.said("crypto encrypt --key {key} {message} -o {ciphertext}")?;
        self.said("crypto sign --key {ec-key} {message} -o {message}.sig")?;
        self.said("crypto mac --key {hmac-key} {message} -o {message}.mac")?;
        Ok(())
    }

    /// An order with its approvals, of a node that is never started.
    fn admission(&mut self) -> anyhow::Result<()> {
        let config = self.config("never", 9)?;
        let arguments =
            ["identity".to_owned(), "--config".to_owned(), config.display().to_string()];
        let csr = self.program("twinkeepd", &arguments)?;
        let file = |name: &str| self.folder.path().join(name);
        let (csr_path, order, approvals) =
            (file("node.csr"), file("node.order"), file("approvals"));
        std::fs::write(&csr_path, csr.stdout)?;
        let paths = [("csr", csr_path), ("order", order), ("approvals", approvals.clone())];
        for (name, path) in &paths {
            self.put_path(name, path);
        }
        self.said("cluster order --csr {csr} --zone a -o {order}")?;
        let mut approved = String::new();
        for (name, key) in
            [("operator-1", "{operator-key}"), ("operator-2", "{other-operator-key}")]
        {
            approved +=
                &self.said(&format!("operator approve --key {key} --name {name} {{order}}"))?;
        }
        std::fs::write(approvals, approved)?;
        // Ids count: five nodes begin, `cluster admit` gives one to the node of the order, and `dev add-node` one
        // to each node that it adds.
        self.put("learner-json", "7");
        self.put("learner-yaml", "8");
        for (name, key) in
            [("operator", "{operator-key}"), ("other-operator", "{other-operator-key}")]
        {
            let public = self.said(&format!("operator key --public {key}"))?.trim().to_owned();
            self.put(name, public);
        }
        Ok(())
    }

    /// Nodes that wait for `init` on their sockets.
    fn fresh_nodes(&mut self) -> anyhow::Result<()> {
        for (name, socket, host) in [("fresh-1", "socket-json", 10), ("fresh-2", "socket-yaml", 11)]
        {
            let config = self.config(name, host)?;
            let node = Command::new(program("twinkeepd")?)
                .args(["run", "--config"])
                .arg(config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            self.fresh.push(node);
            let path = self.folder.path().join(name).join("data/admin.sock");
            let started = Instant::now();
            while !path.exists() {
                ensure!(started.elapsed() < SOCKET_MAX, "node {name} opens no socket");
                std::thread::sleep(Duration::from_millis(20));
            }
            self.put_path(socket, &path);
        }
        Ok(())
    }

    /// Writes a configuration like that of a1, for a node in this test's folder.
    fn config(&self, name: &str, host: u8) -> anyhow::Result<PathBuf> {
        let text = std::fs::read_to_string(self.cluster.path("a1/twinkeepd.toml"))?;
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        let cluster = text.lines().find(|line| line.starts_with("cluster-id")).unwrap_or_default();
        let text = text
            .replace(cluster, "")
            .replace(&self.cluster.path("a1").display().to_string(), &folder.display().to_string())
            .replace("127.0.1.1:", &format!("127.0.1.{host}:"));
        let path = folder.join("twinkeepd.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Splits words and puts things in for their names.
    pub(crate) fn arguments(&self, path: &str, words: &str) -> Vec<String> {
        let fill = |word: &str| {
            let mut word = word.to_owned();
            for (name, value) in &self.things {
                word = word.replace(&format!("{{{name}}}"), value);
            }
            word
        };
        path.split(' ').chain(words.split(' ')).filter(|word| !word.is_empty()).map(fill).collect()
    }

    /// Runs a command as it is meant to be.
    pub(crate) fn run(&self, case: &Case, format: &str) -> anyhow::Result<Output> {
        let words = case.right.replace("{n}", format);
        let mut arguments = self.arguments(case.path, &words);
        arguments.extend(["--output".to_owned(), format.to_owned()]);
        self.twinkeep(&arguments)
    }

    /// Runs `twinkeep` on the cluster.
    pub(crate) fn twinkeep(&self, arguments: &[String]) -> anyhow::Result<Output> {
        self.program("twinkeep", arguments)
    }

    fn program(&self, name: &str, arguments: &[String]) -> anyhow::Result<Output> {
        run(&program(name)?, &self.cluster.path(""), self.folder.path(), arguments)
    }

    /// Two members were removed with `cluster remove`, and the cluster was stopped and started since.
    ///
    /// `dev up` waited for the removed member and failed with its last words.
    pub(crate) fn removed_member_does_not_stop_the_cluster(&self) -> anyhow::Result<()> {
        let status = self.said("dev status")?;
        ensure!(!status.contains("b-"), "a removed node is still started:\n{status}");
        let again = self.twinkeep(&self.arguments("dev add-node b-json --zone b", ""))?;
        ensure!(text(&again.stderr).contains("was removed"), "{}", text(&again.stderr));
        Ok(())
    }
}
