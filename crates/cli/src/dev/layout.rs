//! Where the five processes of a development cluster live: folder, addresses, configuration files.
//!
//! Zone a's vSwitch is 127.0.1.0/24, zone b's 127.0.2.0/24, the witness sits in 127.0.3.0/24. Ports
//! are free ones, chosen when the cluster is made and kept in `layout.toml`, so that several clusters
//! can run on one machine.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The ports that a cluster takes when they are free on all its addresses.
const PORTS: [u16; 2] = [7100, 7101];
/// How often other ports are tried.
const PORT_TRIES: usize = 100;

/// A development cluster's folder and nodes.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    home: PathBuf,
    settings: Settings,
    nodes: Vec<DevNode>,
}

/// What can be chosen when a cluster is made; it keeps it.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Log entries between two snapshots, for a cluster that is made now.
    #[arg(long, default_value_t = Settings::default().snapshot_every)]
    snapshot_every: u64,
    /// What its nodes say in their messages, for a cluster that is made now: a filter as in `log.filter`.
    #[arg(long)]
    log_filter: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { snapshot_every: 20_000, log_filter: None }
    }
}

/// One process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DevNode {
    /// `a1`, `a2`, `b1`, `b2` or `w`; further ones as they are added.
    pub(crate) name: String,
    /// The zone.
    pub(crate) zone: String,
    /// Whether it is the witness.
    pub(crate) witness: bool,
    /// Where callers reach it.
    pub(crate) client_address: SocketAddr,
    /// Where nodes reach it.
    pub(crate) peer_address: SocketAddr,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LayoutFile {
    #[serde(flatten)]
    settings: Settings,
    node: Vec<DevNode>,
}

impl Layout {
    /// Reads the layout of a folder; `None` when there is no cluster in it.
    pub(crate) fn load(home: &Path) -> anyhow::Result<Option<Self>> {
        let path = home.join("layout.toml");
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let file: LayoutFile =
            toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let LayoutFile { settings, node } = file;
        Ok(Some(Self { home: home.to_owned(), settings, nodes: node }))
    }

    /// Lays out a new cluster of 2+2+1 on free ports.
    pub(crate) fn create(home: &Path, settings: Settings) -> anyhow::Result<Self> {
        let ports = free_ports()?;
        let nodes = [
            ("a1", "a", 1, 1),
            ("a2", "a", 1, 2),
            ("b1", "b", 2, 1),
            ("b2", "b", 2, 2),
            ("w", "w", 3, 1),
        ]
        .map(|(name, zone, net, host)| node(name, zone, [127, 0, net, host], ports))
        .to_vec();
        std::fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
        let layout = Self { home: home.to_owned(), settings, nodes };
        layout.save()?;
        Ok(layout)
    }

    /// Describes one more data node of a zone, on the address behind the last one there.
    pub(crate) fn beside(&self, name: &str, zone: &str) -> anyhow::Result<DevNode> {
        if self.nodes.iter().any(|node| node.name == name) {
            bail!("there is a node {name} already");
        }
        let beside = self.zone(zone)?.into_iter().filter(|node| !node.witness);
        let last = beside.max_by_key(|node| node.client_address);
        let last = last.with_context(|| format!("zone {zone} has no data nodes; name a or b"))?;
        let (mut client, mut peer) = (last.client_address, last.peer_address);
        let std::net::IpAddr::V4(ip) = client.ip() else {
            bail!("the cluster has no IPv4 addresses")
        };
        let mut octets = ip.octets();
        octets[3] = octets[3].checked_add(1).context("the zone has no address left")?;
        client.set_ip(octets.into());
        peer.set_ip(octets.into());
        Ok(DevNode {
            name: name.to_owned(),
            zone: zone.to_owned(),
            witness: false,
            client_address: client,
            peer_address: peer,
        })
    }

    /// Adds a node that has joined.
    pub(crate) fn add(&mut self, node: DevNode) -> anyhow::Result<()> {
        self.nodes.push(node);
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        let (settings, node) = (self.settings.clone(), self.nodes.clone());
        let text = toml::to_string(&LayoutFile { settings, node })?;
        std::fs::write(self.path("layout.toml"), text).context("cannot write layout.toml")
    }

    /// Returns a path in the cluster's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Returns all nodes.
    pub(crate) fn nodes(&self) -> &[DevNode] {
        &self.nodes
    }

    /// Returns the nodes of a zone.
    pub(crate) fn zone(&self, zone: &str) -> anyhow::Result<Vec<&DevNode>> {
        let nodes: Vec<_> = self.nodes.iter().filter(|node| node.zone == zone).collect();
        if nodes.is_empty() {
            bail!("there is no zone `{zone}`; there are a, b and w");
        }
        Ok(nodes)
    }

    /// Returns the folder of a node: its configuration, its messages and its data.
    pub(crate) fn folder(&self, node: &DevNode) -> PathBuf {
        self.path(&node.name)
    }

    /// Writes the configuration of a node.
    pub(crate) fn write_config(&self, node: &DevNode) -> anyhow::Result<()> {
        let folder = self.folder(node);
        std::fs::create_dir_all(&folder)?;
        let text = self.config(node);
        std::fs::write(folder.join("twinkeepd.toml"), text).context("cannot write a configuration")
    }

    fn config(&self, node: &DevNode) -> String {
        let folder = std::path::absolute(self.folder(node)).unwrap_or_else(|_| self.folder(node));
        let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
        let role = if node.witness { "witness" } else { "data" };
        let zone = &node.zone;
        let net = match node.client_address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[2],
            std::net::IpAddr::V6(_) => 0,
        };
        // Known once the cluster has begun.
        let cluster = std::fs::read_to_string(self.path("cluster-id"))
            .map_or_else(|_| String::new(), |id| format!("cluster-id = \"{id}\"\n"));
        let mut text = format!(
            "[node]\n\
             data-dir = {data}\n\
             role = \"{role}\"\n\
             zone = \"{zone}\"\n\
             vpc = \"vpc-dev\"\n\
             vswitch = \"vsw-{zone}\"\n\
             cidr = \"127.0.{net}.0/24\"\n\
             client-address = \"{client}\"\n\
             peer-address = \"{peer}\"\n\
             {cluster}\
             \n\
             [join]\n\
             pass-file = {pass}\n\
             \n\
             [api]\n\
             dns-names = [\"localhost\"]\n\
             reflection = true\n\
             \n\
             [audit]\n\
             reserve-mib = 8\n\
             \n\
             [snapshot]\n\
             every-entries = {every}\n\
             kept-entries = {kept}\n",
            every = self.settings.snapshot_every,
            kept = self.settings.snapshot_every / 2,
            data = quoted(folder.join("data")),
            client = node.client_address,
            peer = node.peer_address,
            pass = quoted(folder.join("pass.toml")),
        );
        if let Some(filter) = &self.settings.log_filter {
            text += &format!("\n[log]\nfilter = {}\n", toml::Value::String(filter.clone()));
        }
        if !node.witness {
            let file = std::path::absolute(self.path("passphrase")).unwrap_or_default();
            text += &format!("\n[unseal]\npassphrase-file = {}\n", quoted(file));
        }
        text
    }
}

fn node(name: &str, zone: &str, ip: [u8; 4], ports: [u16; 2]) -> DevNode {
    DevNode {
        name: name.to_owned(),
        zone: zone.to_owned(),
        witness: zone == "w",
        client_address: SocketAddr::from((ip, ports[0])),
        peer_address: SocketAddr::from((ip, ports[1])),
    }
}

/// Finds two ports that are free on every address of the three ranges that nodes will use.
fn free_ports() -> anyhow::Result<[u16; 2]> {
    let free = |port: u16| {
        (1..=3).all(|net| {
            (1..=4).all(|host| {
                TcpListener::bind(SocketAddr::from(([127, 0, net, host], port))).is_ok()
            })
        })
    };
    if PORTS.into_iter().all(free) {
        return Ok(PORTS);
    }
    for _ in 0..PORT_TRIES {
        let port = TcpListener::bind("127.0.1.1:0")?.local_addr()?.port();
        if port < u16::MAX && free(port) && free(port + 1) {
            return Ok([port, port + 1]);
        }
    }
    bail!("no two neighbouring ports are free on 127.0.1.1 to 127.0.3.4; stop what listens there")
}
