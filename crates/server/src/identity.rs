//! Who this node is: a small file beside its databases, written once.
//!
//! It pins what the node believes before it has any state: the cluster, the key that the first command
//! must be signed with, and the node that began the cluster. A pass is the same with the certificates
//! that a fresh node needs to knock at its peers; an operator carries it from `twinkeep cluster admit`.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use twinkeep_core::apply::Trust;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::NodeRole;
use twinkeep_raft::Pin;

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Identity {
    /// The cluster's id, as text.
    cluster: String,
    /// The node's id.
    node: u64,
    /// The life of the cluster that the node belongs to.
    incarnation: u64,
    /// The command key of the first epoch, hex.
    genesis_key: String,
    /// The node that began the cluster.
    genesis_node: u64,
}

impl Identity {
    /// Describes a node.
    pub(crate) fn new(trust: &Trust, node: NodeId, genesis_node: NodeId) -> Self {
        Self {
            cluster: trust.cluster.to_string(),
            node: node.get(),
            incarnation: Incarnation::FIRST.get(),
            genesis_key: hex::encode(trust.genesis_key),
            genesis_node: genesis_node.get(),
        }
    }

    /// Describes another node of the same cluster.
    pub(crate) fn of_joiner(&self, node: NodeId) -> Self {
        Self { node: node.get(), ..self.clone() }
    }

    /// Describes the node that begins a later life of the same cluster.
    pub(crate) fn in_life(&self, incarnation: Incarnation, node: NodeId) -> Self {
        let (incarnation, node) = (incarnation.get(), node.get());
        Self { node, incarnation, genesis_node: node, ..self.clone() }
    }

    /// Returns the cluster.
    pub(crate) fn cluster(&self) -> anyhow::Result<ClusterId> {
        self.cluster.parse().context("cluster")
    }

    /// Returns the node.
    pub(crate) fn node(&self) -> anyhow::Result<NodeId> {
        NodeId::new(self.node).context("node")
    }

    /// Returns the life of the cluster that the node belongs to.
    pub(crate) fn incarnation(&self) -> anyhow::Result<Incarnation> {
        Incarnation::new(self.incarnation).context("incarnation")
    }

    /// Refuses another cluster than the configuration names, and another cluster or node than the pass
    /// was written for: a volume that is mounted in the wrong place would otherwise speak for somebody
    /// else.
    pub(crate) fn check_expected(
        &self,
        cluster: Option<ClusterId>,
        pass: Option<&Pass>,
    ) -> anyhow::Result<()> {
        let found = self.cluster()?;
        if let Some(expected) = cluster.filter(|expected| *expected != found) {
            bail!("it belongs to cluster {found}, and node.cluster-id is {expected}");
        }
        // The pass of a life that has ended says nothing of this one.
        let pass = pass.filter(|pass| pass.identity.incarnation >= self.incarnation);
        let Some(Pass { identity: passed, .. }) = pass else { return Ok(()) };
        if (&passed.cluster, passed.node) != (&self.cluster, self.node) {
            bail!(
                "it belongs to node {} of cluster {found}, and join.pass-file is for node {} of cluster {}; mount the right volume, or join with an empty folder",
                self.node,
                passed.node,
                passed.cluster
            );
        }
        Ok(())
    }

    /// Returns the node that began the cluster.
    pub(crate) fn genesis_node(&self) -> anyhow::Result<NodeId> {
        NodeId::new(self.genesis_node).context("genesis-node")
    }

    /// Returns what the node believes before it has any state.
    pub(crate) fn trust(&self) -> anyhow::Result<Trust> {
        let mut genesis_key = [0; 32];
        hex::decode_to_slice(&self.genesis_key, &mut genesis_key).context("genesis-key")?;
        Ok(Trust { cluster: self.cluster()?, genesis_key })
    }
}

/// What lets a fresh node join. Good for the node's own key alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Pass {
    /// The node's certificate and those above it, PEM.
    pub(crate) certificate: String,
    /// The root that nodes are checked against, PEM.
    pub(crate) node_root: String,
    /// Who the node will be.
    pub(crate) identity: Identity,
    /// The members when the node was admitted.
    pub(crate) peers: Vec<PinnedPeer>,
}

/// A member that a fresh node believes before it has any state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PinnedPeer {
    /// The member's id.
    node: u64,
    /// Where nodes reach it.
    pub(crate) address: SocketAddr,
    /// SHA-256 of its certificate's public key, hex.
    spki_sha256: String,
    /// The incarnation that its certificate names.
    incarnation: u64,
    /// Whether it may be asked to record the node: a witness may not.
    pub(crate) witness: bool,
}

impl PinnedPeer {
    /// Describes a member.
    pub(crate) fn of(record: &NodeRecord) -> Self {
        Self {
            node: record.id.get(),
            address: record.placement.peer_address,
            spki_sha256: hex::encode(record.spki_sha256),
            incarnation: record.incarnation.get(),
            witness: record.role == NodeRole::Witness,
        }
    }

    /// Returns the member as Raft's roster pins it.
    pub(crate) fn pin(&self) -> anyhow::Result<Pin> {
        let mut spki_sha256 = [0; 32];
        hex::decode_to_slice(&self.spki_sha256, &mut spki_sha256).context("spki-sha256")?;
        let incarnation = Incarnation::new(self.incarnation).context("incarnation")?;
        Ok(Pin { node: self.id()?, incarnation, spki_sha256 })
    }

    /// Returns the member's id.
    pub(crate) fn id(&self) -> anyhow::Result<NodeId> {
        NodeId::new(self.node).context("node")
    }
}

impl Pass {
    /// Writes the pass as an operator carries it.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Reads a pass.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the pass {}", path.display()))?;
        toml::from_str(&text).with_context(|| {
            format!("{} is no pass; get one with `twinkeep cluster admit`", path.display())
        })
    }
}

/// Where a node's files are.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Takes a folder and makes it if it is missing.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        check_private(path).context("the data folder")?;
        Ok(Self(path.to_owned()))
    }

    /// Returns the path of one of the node's files or folders.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads the identity; `None` for a fresh node.
    pub(crate) fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let path = self.path("identity.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return self.check_fresh().map(|()| None);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let identity: Identity = toml::from_str(&text).with_context(|| {
            format!("{} is damaged; restore it, or join as a fresh node", path.display())
        })?;
        identity
            .trust()
            .and(identity.node())
            .with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(identity))
    }

    /// A folder with databases and without an identity is not fresh: starting over would lose them.
    fn check_fresh(&self) -> anyhow::Result<()> {
        for name in ["log", "state"] {
            let path = self.path(name);
            if path.exists() {
                bail!(
                    "{} exists but {} is missing: this is no fresh node; restore the file, or give the node an empty data folder",
                    path.display(),
                    self.path("identity.toml").display()
                );
            }
        }
        Ok(())
    }

    /// Writes the identity, durably.
    pub(crate) fn save_identity(&self, identity: &Identity) -> anyhow::Result<()> {
        let text = toml::to_string(identity).context("the identity does not encode")?;
        self.write("identity.toml", text.as_bytes())
    }

    /// Makes what was moved in the folder durable.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        let synced = std::fs::File::open(&self.0).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot sync {}", self.0.display()))
    }

    /// Writes a file of the node so that it is there whole or not at all, mode 0600.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let (path, fresh) = (self.path(name), self.path(&format!("{name}.new")));
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            std::fs::File::open(path.parent().expect("it lies in the folder"))?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Refuses a file or folder that others than its owner may open.
pub(crate) fn check_private(path: &Path) -> anyhow::Result<()> {
    const OTHERS: u32 = 0o077;
    let metadata = std::fs::metadata(path);
    let mode = metadata.with_context(|| format!("cannot look at {}", path.display()))?.mode();
    if mode & OTHERS != 0 {
        bail!(
            "{} is open to others than its owner: run `chmod go= {}`",
            path.display(),
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> Trust {
        Trust { cluster: ClusterId::from_bytes([7; 16]), genesis_key: [9; 32] }
    }

    #[test]
    fn saved_identity_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("n")).unwrap();
        assert_eq!(data.identity().unwrap(), None);
        let identity = Identity::new(&trust(), NodeId::new(3).unwrap(), NodeId::FIRST);
        data.save_identity(&identity).unwrap();
        let read = data.identity().unwrap().unwrap();
        assert_eq!(read, identity);
        assert_eq!(read.trust().unwrap(), trust());
    }

    #[test]
    fn folder_of_another_cluster_or_node_is_refused_by_name() {
        let node = |id| Identity::new(&trust(), NodeId::new(id).unwrap(), NodeId::FIRST);
        let pass = |identity| Pass {
            certificate: String::new(),
            node_root: String::new(),
            identity,
            peers: Vec::new(),
        };
        let (own, other) = (ClusterId::from_bytes([7; 16]), ClusterId::from_bytes([8; 16]));
        node(3).check_expected(None, None).unwrap();
        node(3).check_expected(Some(own), Some(&pass(node(3)))).unwrap();

        let refused = |cluster, pass: Option<&Pass>| {
            node(3).check_expected(cluster, pass).unwrap_err().to_string()
        };
        let text = refused(Some(other), None);
        assert!(text.contains(&own.to_string()) && text.contains(&other.to_string()), "{text}");
        let text = refused(Some(own), Some(&pass(node(4))));
        assert!(text.contains("join.pass-file is for node 4"), "{text}");
        let foreign = Identity { cluster: other.to_string(), ..node(3) };
        let text = refused(None, Some(&pass(foreign)));
        assert!(text.contains(&format!("for node 3 of cluster {other}")), "{text}");
    }

    #[test]
    fn databases_without_an_identity_are_not_taken_for_a_fresh_node() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("n")).unwrap();
        std::fs::create_dir(data.path("state")).unwrap();
        let error = data.identity().unwrap_err().to_string();
        assert!(error.contains("this is no fresh node"), "{error}");
    }

    #[test]
    fn folder_that_is_open_to_others_is_refused_with_the_cure() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o701, 0o710, 0o755] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            let error = format!("{:#}", DataDir::open(dir.path()).unwrap_err());
            assert!(error.contains("run `chmod go= "), "{mode:o}: {error}");
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn damaged_identity_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("n")).unwrap();
        data.write("identity.toml", b"cluster = \"clu-").unwrap();
        assert!(data.identity().unwrap_err().to_string().contains("is damaged"));
        assert!(data.path("identity.toml").exists());
    }
}
