//! The node's configuration: one typed tree, unknown fields refused.
//!
//! The doc comments are the manual: [`example()`] prints `deploy/twinkeepd.example.toml` from them, and
//! a test compares. Secrets are file paths, never values.

mod example;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use twinkeep_core::id::ClusterId;
use twinkeep_core::name::{VpcName, VswitchName, ZoneName};
use twinkeep_core::topology::{NodeRole, Placement};

pub(crate) use example::example;

/// A node's configuration.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// What the node is and where it stands.
    pub(crate) node: NodeConfig,
    /// How the node joins a cluster; without it a fresh node waits for `twinkeep init`.
    #[serde(default)]
    pub(crate) join: JoinConfig,
    /// How the node unseals itself.
    #[serde(default)]
    pub(crate) unseal: UnsealConfig,
    /// What callers reach.
    #[serde(default)]
    pub(crate) api: ApiConfig,
    /// Certificates that the node renews by itself.
    #[serde(default)]
    pub(crate) certificates: CertificatesConfig,
    /// The audit log.
    #[serde(default)]
    pub(crate) audit: AuditConfig,
    /// Snapshots of the replicated state.
    #[serde(default)]
    pub(crate) snapshot: SnapshotConfig,
    /// Which node leads. `twinkeep zone prefer` names the zone; this is the same on all nodes.
    #[serde(default)]
    pub(crate) leadership: LeadershipConfig,
    /// What the node says on standard error.
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// Metrics for Prometheus.
    #[serde(default)]
    pub(crate) metrics: MetricsConfig,
    /// Traces of calls, for an OpenTelemetry collector.
    #[serde(default)]
    pub(crate) tracing: TracingConfig,
}

/// What the node is and where it stands. Joining is refused when any of this is wrong.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct NodeConfig {
    /// Folder of the node's files: log, state, snapshots, audit, certificates. Mode 0700.
    pub(crate) data_dir: PathBuf,
    /// `data` serves callers and holds keys; `witness` votes and holds none.
    pub(crate) role: Role,
    /// The zone, a place that can be lost as a whole.
    pub(crate) zone: String,
    /// The VPC, the same for all nodes.
    pub(crate) vpc: String,
    /// The vSwitch, an address range of the zone.
    pub(crate) vswitch: String,
    /// The vSwitch's address range; both addresses below have to lie in it.
    #[schemars(with = "String")]
    pub(crate) cidr: IpNet,
    /// Where callers reach the node.
    pub(crate) client_address: SocketAddr,
    /// Where other nodes reach the node.
    pub(crate) peer_address: SocketAddr,
    /// The cluster's id, as `twinkeep cluster status` shows it. A node that is started on the volume of
    /// another cluster is refused at once. Default: any.
    pub(crate) cluster_id: Option<String>,
}

/// What a node does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Serves callers and holds keys.
    Data,
    /// Votes and holds no key.
    Witness,
}

impl From<Role> for NodeRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Data => Self::Data,
            Role::Witness => Self::Witness,
        }
    }
}

/// How the node joins a cluster.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct JoinConfig {
    /// The pass that `twinkeep cluster admit` wrote for this node. Needed once.
    pub(crate) pass_file: Option<PathBuf>,
}

/// How the node unseals itself. Without anything here, operators unseal it with their shares.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct UnsealConfig {
    /// A file with the passphrase of a dev cluster, mode 0600.
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// What callers reach.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct ApiConfig {
    /// DNS names, beside the address, that the endpoint's certificate is good for. Default: none.
    pub(crate) dns_names: Vec<String>,
    /// Lets clients list the services by gRPC reflection. Default `false`.
    pub(crate) reflection: bool,
    /// Most open connections of callers. Default 4096.
    pub(crate) connections_max: usize,
    /// Threads that serve callers. Default 0: one for each core that the process may use.
    pub(crate) threads: usize,
}

impl ApiConfig {
    /// Returns how many threads serve callers.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given => given,
        }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { dns_names: Vec::new(), reflection: false, connections_max: 4096, threads: 0 }
    }
}

/// Certificates that the node renews by itself: its own, which other nodes see and which is good for a year,
/// and its endpoint's, which callers see and which is good for ninety days.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct CertificatesConfig {
    /// A certificate that is good for less than this is replaced. Default `30days`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) renew_before: Duration,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        Self { renew_before: Duration::from_secs(30 * 24 * 3600) }
    }
}

/// The audit log.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct AuditConfig {
    /// Disk space kept back for the log, in MiB, so that a full disk gives warning. Default 256.
    pub(crate) reserve_mib: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { reserve_mib: 256 }
    }
}

/// Snapshots of the replicated state.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct SnapshotConfig {
    /// Log entries between two snapshots. Default 20000.
    pub(crate) every_entries: u64,
    /// Log entries kept beside a snapshot, so that a node that was away for a short time catches up
    /// by entries. Default 10000.
    pub(crate) kept_entries: u64,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { every_entries: 20_000, kept_entries: 10_000 }
    }
}

/// Which node leads. `twinkeep zone prefer` names the zone; this is the same on all nodes.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct LeadershipConfig {
    /// How long the preferred zone has to be in sync, with a node that could take over at once, before the lead goes
    /// back to it. Doubles, up to ten minutes, each time that the lead did not stay there. Default `30s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) fail_back_after: Duration,
}

impl LeadershipConfig {
    /// Less would move the lead at every hiccup.
    const FAIL_BACK_AFTER_MIN: Duration = Duration::from_millis(500);
}

impl Default for LeadershipConfig {
    fn default() -> Self {
        Self { fail_back_after: Duration::from_secs(30) }
    }
}

/// What the node says on standard error.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct LogConfig {
    /// Which messages, in the syntax of `tracing`'s filters. Default `info,openraft=error`.
    pub(crate) filter: String,
    /// `text` for people, `json` for programs. Default `text`.
    pub(crate) format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info,openraft=error".to_owned(), format: LogFormat::Text }
    }
}

/// Metrics for Prometheus; docs/observability.md has them all.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct MetricsConfig {
    /// Where `GET /metrics` is answered over plain HTTP, to whoever asks: a loopback address, or one in the
    /// vSwitch. Default: nowhere, and nothing is counted.
    #[schemars(with = "Option<String>")]
    pub(crate) address: Option<SocketAddr>,
}

impl MetricsConfig {
    fn problem(&self, node: &NodeConfig) -> Option<String> {
        let address = self.address?;
        let ip = address.ip();
        if !ip.is_loopback() && !node.cidr.contains(&ip) {
            let cidr = node.cidr;
            return Some(format!("metrics.address {address} is neither loopback nor in {cidr}"));
        }
        let taken = [node.client_address, node.peer_address].contains(&address);
        taken.then(|| format!("metrics.address {address} is taken by [node]"))
    }
}

/// Traces of calls, for an OpenTelemetry collector. They hold names of calls and ids of requests, nodes and
/// traces; no key, no caller, no payload.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct TracingConfig {
    /// Where spans are sent by OTLP over gRPC without TLS: `http://127.0.0.1:4317` is a collector beside the
    /// node. Default: nowhere, and no spans are made.
    pub(crate) otlp_endpoint: Option<String>,
    /// Share of calls that are traced, from 0 to 1. The node draws, whether a call comes with a trace or not.
    /// Default 0.01.
    pub(crate) sample_ratio: f64,
    /// Whether calls are traced besides whose `traceparent` says that their caller traces them. Whoever reaches
    /// the endpoint can then have the collector flooded. Default false.
    pub(crate) trust_callers: bool,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 0.01, trust_callers: false }
    }
}

impl TracingConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            problems.push(format!("tracing.sample-ratio {} is not from 0 to 1", self.sample_ratio));
        }
        let endpoint = self.otlp_endpoint.as_deref().unwrap_or("http://none");
        let uri = endpoint.parse::<http::Uri>().ok();
        if !uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some()) {
            problems
                .push(format!("tracing.otlp-endpoint `{endpoint}` is no `http://address:port`"));
        }
        problems
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads and checks a configuration file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let config: Self = toml::from_str(&text)
            .with_context(|| format!("the configuration {} is not valid", path.display()))?;
        config
            .check()
            .with_context(|| format!("the configuration {} is not sound", path.display()))?;
        Ok(config)
    }

    /// Checks what no single field shows, and reports all problems together.
    fn check(&self) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        match self.placement() {
            Ok(placement) => {
                problems.extend(placement.check().err().map(|e| e.to_string()));
            }
            Err(error) => problems.push(format!("{error:#}")),
        }
        if self.node.client_address == self.node.peer_address {
            problems.push("node.client-address and node.peer-address must differ".to_owned());
        }
        if self.node.role == Role::Witness && self.unseal.passphrase_file.is_some() {
            problems.push(
                "unseal.passphrase-file: a witness holds no key and is never unsealed; remove it"
                    .to_owned(),
            );
        }
        if let Err(error) = self.cluster_id() {
            problems.push(format!("{error:#}"));
        }
        if self.snapshot.every_entries == 0 {
            problems.push("snapshot.every-entries must be at least 1".to_owned());
        }
        if self.leadership.fail_back_after < LeadershipConfig::FAIL_BACK_AFTER_MIN {
            problems.push("leadership.fail-back-after must be at least 500ms".to_owned());
        }
        problems.extend(self.metrics.problem(&self.node));
        problems.extend(self.tracing.problems());
        if problems.is_empty() { Ok(()) } else { bail!(problems.join("; ")) }
    }

    /// Returns the cluster that the data folder must belong to, if it is said.
    pub(crate) fn cluster_id(&self) -> anyhow::Result<Option<ClusterId>> {
        self.node.cluster_id.as_ref().map(|id| id.parse().context("node.cluster-id")).transpose()
    }

    /// Returns where the node stands.
    pub(crate) fn placement(&self) -> anyhow::Result<Placement> {
        let node = &self.node;
        Ok(Placement {
            zone: ZoneName::parse(&node.zone).context("node.zone")?,
            vpc: VpcName::parse(&node.vpc).context("node.vpc")?,
            vswitch: VswitchName::parse(&node.vswitch).context("node.vswitch")?,
            cidr: node.cidr,
            client_address: node.client_address,
            peer_address: node.peer_address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../../deploy/twinkeepd.example.toml");

    fn problem(text: &str) -> String {
        match toml::from_str::<Config>(text) {
            Ok(config) => config.check().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn example_is_generated_from_the_comments() {
        assert_eq!(
            example(),
            GOOD,
            "run `twinkeepd config-example > deploy/twinkeepd.example.toml`"
        );
    }

    #[test]
    fn example_is_sound() {
        toml::from_str::<Config>(GOOD).unwrap().check().unwrap();
    }

    #[test]
    fn unknown_field_is_refused_by_name() {
        let text = GOOD.replacen("role =", "rolle =", 1);
        assert!(problem(&text).contains("unknown field `rolle`"), "{}", problem(&text));
    }

    #[test]
    fn all_problems_are_reported_together() {
        let text = GOOD
            .replacen("client-address = \"10.66.1.11", "client-address = \"10.66.2.11", 1)
            .replacen("fail-back-after = \"30s\"", "fail-back-after = \"499ms\"", 1)
            .replacen("every-entries = 20000", "every-entries = 0", 1);
        let problem = problem(&text);
        assert!(problem.contains("is not in the CIDR 10.66.1.0/24"), "{problem}");
        assert!(problem.contains("snapshot.every-entries"), "{problem}");
        assert!(problem.contains("leadership.fail-back-after"), "{problem}");
    }

    #[test]
    fn metrics_are_not_served_to_other_networks() {
        let with =
            |address| GOOD.replacen("# address = \"\"", &format!("address = \"{address}\""), 1);
        for address in ["0.0.0.0:9100", "10.66.2.11:9100", "[::]:9100"] {
            assert!(problem(&with(address)).contains("neither loopback nor in"), "{address}");
        }
        assert!(problem(&with("10.66.1.11:7100")).contains("is taken"));
        for address in ["127.0.0.1:9100", "[::1]:9100", "10.66.1.11:9100"] {
            toml::from_str::<Config>(&with(address)).unwrap().check().unwrap();
        }
    }

    #[test]
    fn traces_go_to_an_address_in_a_share_of_calls() {
        let text = GOOD
            .replacen("# otlp-endpoint = \"\"", "otlp-endpoint = \"https://far\"", 1)
            .replacen("sample-ratio = 0.01", "sample-ratio = 1.5", 1);
        let problem = problem(&text);
        assert!(problem.contains("`https://far` is no") && problem.contains("1.5"), "{problem}");
    }

    #[test]
    fn witness_with_a_passphrase_is_refused() {
        let text = GOOD.replacen("role = \"data\"", "role = \"witness\"", 1).replacen(
            "# passphrase-file = \"\"",
            "passphrase-file = \"/etc/x\"",
            1,
        );
        assert!(problem(&text).contains("a witness holds no key"), "{}", problem(&text));
    }
}
