//! Where the five processes of a development cluster live: folder, addresses, configuration files.
//!
//! Zone a's vSwitch is 127.0.1.0/24, zone b's 127.0.2.0/24, the witness sits in 127.0.3.0/24. Ports
//! are free ones, chosen when the cluster is made and kept in `layout.toml`, so that several clusters
//! can run on one machine. `make bench-failover` gives each zone a network namespace instead, where it can take
//! the network away: there the vSwitches are 10.66.1.0/24 and so on.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::topology::Topology;

/// The ports that a cluster takes when they are free on all its addresses.
const PORTS: [u16; 3] = [7100, 7101, 7102];
/// The nodes' metrics, for deploy/observability/prometheus.yml.
const TARGETS: &str = "prometheus-targets.json";
/// How often other ports are tried.
const PORT_TRIES: usize = 100;
/// Where a cluster that is being made holds its ports until its nodes do: the address of no node.
const HOLD: [u8; 4] = [127, 0, 4, 1];

/// A development cluster's folder and nodes.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    home: PathBuf,
    settings: Settings,
    nodes: Vec<DevNode>,
    /// Nodes that the cluster has taken out: their names, folders and addresses are not given again.
    removed: Vec<DevNode>,
}

/// What can be chosen when a cluster is made; it keeps it.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Voters in zone a, in zone b, and 1 for a witness in a third place, for a cluster that is made now: 2+2+1, 1+1+1,
    /// 3+3+1. Two numbers that differ, such as 2+1, make a cluster of two places alone: the loss of the zone with more
    /// voters then stops changes until an operator recovers it.
    #[arg(long, default_value_t = Topology::default())]
    #[serde(default)]
    topology: Topology,
    /// Log entries between two snapshots, for a cluster that is made now.
    #[arg(long, default_value_t = Settings::default().snapshot_every)]
    snapshot_every: u64,
    /// What its nodes say in their messages, for a cluster that is made now: a filter as in `log.filter`.
    #[arg(long)]
    log_filter: Option<String>,
    /// Where its nodes send traces, for a cluster that is made now: as `tracing.otlp-endpoint`. Every call is
    /// traced then.
    #[arg(long)]
    otlp_endpoint: Option<String>,
    /// Length of freshness leases in milliseconds, for a cluster that is made now: as of `init`.
    #[arg(long, default_value_t = Settings::default().freshness_lease_ms)]
    #[serde(default)]
    freshness_lease_ms: u32,
    /// How long a preferred zone has to be steady before the lead goes back to it, in milliseconds, for a cluster that
    /// is made now: as `leadership.fail-back-after`.
    #[arg(long, default_value_t = Settings::default().fail_back_after_ms)]
    #[serde(default = "fail_back_after_ms")]
    fail_back_after_ms: u32,
    /// Beginning of the names of the network namespaces that its nodes run in, for a cluster that is made now: `n` for
    /// `n-a`, `n-b` and `n-w`, with the addresses 10.66.1.0/24, 10.66.2.0/24 and 10.66.3.0/24. They must be there, and
    /// be reached from where this runs.
    #[arg(long, hide = true, value_name = "BEGINNING")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespaces: Option<String>,
}

fn fail_back_after_ms() -> u32 {
    Settings::default().fail_back_after_ms
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            topology: Topology::default(),
            snapshot_every: 20_000,
            log_filter: None,
            otlp_endpoint: None,
            freshness_lease_ms: 5_000,
            fail_back_after_ms: 30_000,
            namespaces: None,
        }
    }
}

impl Settings {
    /// Returns the address of a host in one of the three vSwitches.
    fn address(&self, net: u8, host: u8) -> [u8; 4] {
        match self.namespaces {
            Some(_) => [10, 66, net, host],
            None => [127, 0, net, host],
        }
    }

    /// Chooses the three ports of every node.
    fn ports(&self) -> anyhow::Result<([u16; 3], Held)> {
        match self.namespaces {
            // Nobody else is there.
            Some(_) => Ok((PORTS, Held(Vec::new()))),
            None => free_ports(),
        }
    }
}

/// Ports that no other cluster is given as long as this is kept.
#[derive(Debug)]
pub(crate) struct Held(
    #[expect(dead_code, reason = "they are held by being open")] Vec<TcpListener>,
);

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
    /// Where it shows its metrics; not of clusters that were made by an older version.
    pub(crate) metrics_address: Option<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LayoutFile {
    #[serde(flatten)]
    settings: Settings,
    node: Vec<DevNode>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<DevNode>,
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
        let LayoutFile { settings, node, removed } = file;
        Ok(Some(Self { home: home.to_owned(), settings, nodes: node, removed }))
    }

    /// Lays out a new cluster on free ports, which are to be held until its nodes listen there.
    pub(crate) fn create(home: &Path, settings: Settings) -> anyhow::Result<(Self, Held)> {
        let (ports, held) = settings.ports()?;
        let nodes = settings.topology.nodes().into_iter();
        let nodes = nodes
            .map(|(name, zone, net, host)| node(&name, zone, settings.address(net, host), ports));
        let nodes = nodes.collect();
        std::fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
        let layout = Self { home: home.to_owned(), settings, nodes, removed: Vec::new() };
        layout.save()?;
        Ok((layout, held))
    }

    /// Describes one more data node of a zone, on the address behind the last one there.
    pub(crate) fn beside(&self, name: &str, zone: &str) -> anyhow::Result<DevNode> {
        if self.removed.iter().any(|node| node.name == name) {
            bail!("a node {name} was removed, and no name is given twice; take another");
        }
        if self.nodes.iter().any(|node| node.name == name) {
            bail!("there is a node {name} already");
        }
        self.zone(zone)?;
        let all = self.nodes.iter().chain(&self.removed);
        let beside = all.filter(|node| node.zone == zone && !node.witness);
        let last = beside.max_by_key(|node| node.client_address);
        let last = last.with_context(|| format!("zone {zone} has no data nodes; name a or b"))?;
        let (mut client, mut peer) = (last.client_address, last.peer_address);
        let mut metrics = last.metrics_address;
        let std::net::IpAddr::V4(ip) = client.ip() else {
            bail!("the cluster has no IPv4 addresses")
        };
        let mut octets = ip.octets();
        octets[3] = octets[3].checked_add(1).context("the zone has no address left")?;
        client.set_ip(octets.into());
        peer.set_ip(octets.into());
        metrics.iter_mut().for_each(|address| address.set_ip(octets.into()));
        Ok(DevNode {
            name: name.to_owned(),
            zone: zone.to_owned(),
            witness: false,
            client_address: client,
            peer_address: peer,
            metrics_address: metrics,
        })
    }

    /// Adds a node that has joined.
    pub(crate) fn add(&mut self, node: DevNode) -> anyhow::Result<()> {
        self.nodes.push(node);
        self.save()
    }

    /// Notes that the cluster has taken a node out for ever. Its folder stays.
    pub(crate) fn retire(&mut self, name: &str) -> anyhow::Result<()> {
        let gone = self.nodes.extract_if(.., |node| node.name == name);
        self.removed.extend(gone);
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        let Self { settings, nodes, removed, .. } = self.clone();
        let targets = serde_json::to_string_pretty(&self.targets())?;
        std::fs::write(self.path(TARGETS), targets).context("cannot write Prometheus' targets")?;
        let text = toml::to_string(&LayoutFile { settings, node: nodes, removed })?;
        std::fs::write(self.path("layout.toml"), text).context("cannot write layout.toml")
    }

    /// Returns the nodes as Prometheus wants them told: see `file_sd_config` in its manual.
    fn targets(&self) -> Vec<serde_json::Value> {
        let shown = self.nodes.iter().filter_map(|node| Some((node, node.metrics_address?)));
        let target = |(node, address): (&DevNode, SocketAddr)| {
            let labels = serde_json::json!({ "node": node.name, "zone": node.zone });
            serde_json::json!({ "targets": [address.to_string()], "labels": labels })
        };
        shown.map(target).collect()
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

    /// Returns the zone that may hold a majority of the voters.
    pub(crate) fn preferred_zone(&self) -> Option<&'static str> {
        self.settings.topology.preferred_zone()
    }

    /// Returns the length of the cluster's freshness leases, in milliseconds.
    pub(crate) fn freshness_lease_ms(&self) -> u32 {
        self.settings.freshness_lease_ms
    }

    /// Returns the command that runs the node binary where a node belongs.
    pub(crate) fn program(&self, node: &DevNode, twinkeepd: &Path) -> Command {
        let Some(beginning) = &self.settings.namespaces else { return Command::new(twinkeepd) };
        // It becomes the node's process, under the same id.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{beginning}-{}", node.zone)).arg("--").arg(twinkeepd);
        command
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
        let [first, second, third, _] = match node.client_address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets(),
            std::net::IpAddr::V6(_) => [0; 4],
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
             cidr = \"{first}.{second}.{third}.0/24\"\n\
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
             kept-entries = {kept}\n\
             \n\
             [leadership]\n\
             fail-back-after = \"{fail_back}ms\"\n",
            fail_back = self.settings.fail_back_after_ms,
            every = self.settings.snapshot_every,
            kept = self.settings.snapshot_every / 2,
            data = quoted(folder.join("data")),
            client = node.client_address,
            peer = node.peer_address,
            pass = quoted(folder.join("pass.toml")),
        );
        if let Some(address) = node.metrics_address {
            text += &format!("\n[metrics]\naddress = \"{address}\"\n");
        }
        if let Some(filter) = &self.settings.log_filter {
            text += &format!("\n[log]\nfilter = {}\n", toml::Value::String(filter.clone()));
        }
        if let Some(endpoint) = &self.settings.otlp_endpoint {
            let endpoint = toml::Value::String(endpoint.clone());
            text += &format!("\n[tracing]\notlp-endpoint = {endpoint}\nsample-ratio = 1.0\n");
        }
        if !node.witness {
            let file = std::path::absolute(self.path("passphrase")).unwrap_or_default();
            text += &format!("\n[unseal]\npassphrase-file = {}\n", quoted(file));
        }
        text
    }
}

fn node(name: &str, zone: &str, ip: [u8; 4], ports: [u16; 3]) -> DevNode {
    DevNode {
        name: name.to_owned(),
        zone: zone.to_owned(),
        witness: zone == "w",
        client_address: SocketAddr::from((ip, ports[0])),
        peer_address: SocketAddr::from((ip, ports[1])),
        metrics_address: Some(SocketAddr::from((ip, ports[2]))),
    }
}

/// Finds three ports that are free on every address of the three ranges that nodes will use.
fn free_ports() -> anyhow::Result<([u16; 3], Held)> {
    if let Some(held) = hold(PORTS) {
        return Ok((PORTS, held));
    }
    for _ in 0..PORT_TRIES {
        let port = TcpListener::bind("127.0.1.1:0")?.local_addr()?.port();
        let Some(last) = port.checked_add(2) else { continue };
        let ports = [port, port + 1, last];
        if let Some(held) = hold(ports) {
            return Ok((ports, held));
        }
    }
    bail!("no three neighbouring ports are free on 127.0.1.1 to 127.0.4.1; stop what listens there")
}

/// Holds three ports, if they are free.
///
/// Nodes listen one after the other, seconds after their ports were chosen. Held first and looked at then: who
/// looks at the addresses of nodes takes them for a moment, and no node of a cluster that is being made may
/// find its own taken.
fn hold(ports: [u16; 3]) -> Option<Held> {
    let bind = |ip: [u8; 4], port| TcpListener::bind(SocketAddr::from((ip, port))).ok();
    let held = ports.into_iter().map(|port| bind(HOLD, port)).collect::<Option<_>>()?;
    let free = |port| {
        let mut nets = 1..=3;
        nets.all(|net| (1..=4).all(|host| bind([127, 0, net, host], port).is_some()))
    };
    ports.into_iter().all(free).then_some(Held(held))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Two clusters that were made at the same time chose the same ports, and the nodes of one did not start.
    #[test]
    fn clusters_that_are_made_at_the_same_time_get_ports_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let make = |number: usize| {
            let home = folder.path().join(number.to_string());
            std::thread::spawn(move || Layout::create(&home, Settings::default()).unwrap())
        };
        let making: Vec<_> = (0..8).map(make).collect();
        let made: Vec<_> = making.into_iter().map(|thread| thread.join().unwrap()).collect();
        let addresses = made.iter().flat_map(|(layout, _)| layout.nodes()).flat_map(|node| {
            [Some(node.client_address), Some(node.peer_address), node.metrics_address]
        });
        let addresses: Vec<_> = addresses.collect();
        let distinct: HashSet<_> = addresses.iter().collect();
        assert_eq!(distinct.len(), addresses.len());
    }

    #[test]
    fn node_in_a_namespace_runs_there_on_an_address_of_its_zone() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { namespaces: Some("test-1".to_owned()), ..Settings::default() };
        let (layout, _) = Layout::create(folder.path(), settings).unwrap();
        let layout = Layout::load(folder.path()).unwrap().unwrap_or(layout);
        let node = layout.nodes().iter().find(|node| node.name == "b2").unwrap();
        assert_eq!(node.client_address.ip().to_string(), "10.66.2.2");
        assert!(layout.config(node).contains("cidr = \"10.66.2.0/24\""));
        let command = layout.program(node, Path::new("/bin/twinkeepd"));
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(words, ["--net=/run/netns/test-1-b", "--", "/bin/twinkeepd"]);
    }

    #[test]
    fn removed_node_stays_known_and_its_name_and_address_are_not_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut layout, _) = Layout::create(folder.path(), Settings::default()).unwrap();
        layout.retire("b2").unwrap();
        let layout = Layout::load(folder.path()).unwrap().unwrap();
        assert_eq!(layout.nodes().len(), 4);
        assert!(layout.beside("b2", "b").unwrap_err().to_string().contains("was removed"));
        let new = layout.beside("b3", "b").unwrap();
        assert_eq!(new.client_address.ip().to_string(), "127.0.2.3");
    }
}
