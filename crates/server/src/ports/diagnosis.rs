//! What a node knows of its machine and of its peers, for `twinkeep doctor`.

use std::path::Path;
use std::sync::{Arc, Weak};

use twinkeep_api::ports::{Certificate, Diagnosis, PeerDiagnosis};
use twinkeep_core::clock::Clock;
use twinkeep_core::id::NodeId;
use twinkeep_pki::Credential;
use twinkeep_raft::Node;
use twinkeep_storage::LogDb;

use crate::telemetry::Disk;

/// What is asked when a node is diagnosed.
pub(crate) struct Diagnostics {
    /// Raft's, which closes with Raft.
    pub(crate) log: Weak<LogDb>,
    pub(crate) disk: Disk,
    /// What other nodes see.
    pub(crate) node: Arc<Credential>,
    /// What callers see.
    pub(crate) endpoint: Arc<Credential>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Diagnostics {
    /// Says how the node's machine is, and what it has heard of the others.
    pub(super) fn diagnose(&self, node: &Node) -> Diagnosis {
        let config = node.config();
        let syncs = self.log.upgrade().map(|log| log.recent_syncs()).unwrap_or_default();
        let certificate = |kind, credential: &Credential| Certificate {
            kind,
            not_after_unix: credential.facts().not_after_unix,
        };
        Diagnosis {
            unix_ms: self.clock.unix_ms(),
            virtual_machine: is_virtual_machine(),
            heartbeat: config.heartbeat,
            election_min: config.election_min,
            election_max: config.election_max,
            log_syncs: syncs.count,
            log_sync_p99: syncs.p99,
            disk: self.disk.size_and_free(),
            peers: peers(node),
            certificates: vec![
                certificate("node", &self.node),
                certificate("endpoint", &self.endpoint),
            ],
            // A log that cannot be read ends the node, and is told there.
            log_end: node.end().ok().flatten().map(|end| end.last),
            takes_part: node.takes_part(),
            public_key: self.node.public_key().map(|key| key.spki()).unwrap_or_default(),
        }
    }
}

fn peers(node: &Node) -> Vec<PeerDiagnosis> {
    let me = node.id();
    let members = node.status().members.into_iter().filter(|member| member.node != me);
    let peer = |member: twinkeep_raft::Member| {
        let read = member.read?;
        Some(PeerDiagnosis {
            node: NodeId::new(member.node).ok()?,
            read_ago: read.ago,
            round_trip: read.round_trip,
            clock_ahead_ms: member.clock_ahead_ms.unwrap_or(0),
            sealed: read.is_sealed,
            software_version: member.version.unwrap_or_default(),
        })
    };
    members.filter_map(peer).collect()
}

/// Tells whether the machine runs on a hypervisor, which may pause it without its clocks knowing: nothing here reads
/// a clock of the hypervisor.
fn is_virtual_machine() -> bool {
    let cpu_says_so =
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| says_virtual(&text));
    cpu_says_so
        || ["/sys/hypervisor/type", "/proc/device-tree/hypervisor"]
            .iter()
            .any(|p| Path::new(p).exists())
}

/// The flag that CPUs show to guests (x86; others tell by files).
fn says_virtual(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.any(|line| line.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_is_known_by_its_flag_alone() {
        assert!(says_virtual("model name\t: X\nflags\t\t: fpu sse hypervisor lahf_lm\n"));
        assert!(!says_virtual("model name\t: hypervisor\nflags\t\t: fpu sse\n"));
    }
}
