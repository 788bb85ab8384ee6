//! What the leader has sent to each other node, as it counts it itself: `twinkeep_raft_sent_bytes_total`, which goes on
//! where a connection breaks and is made anew.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use twinkeep_tests::{Node, prometheus};

/// The metric.
const METRIC: &str = "twinkeep_raft_sent_bytes_total{";

/// Bytes by the receiver's id, at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sent(BTreeMap<u64, u64>);

impl Sent {
    /// Asks a node what it has sent.
    pub(crate) fn by(node: &Node) -> anyhow::Result<Self> {
        let text = prometheus::get(node.metrics_address, "/metrics")?;
        let sent = Self::of(&text)?;
        ensure!(!sent.0.is_empty(), "node {} does not count what it sends", node.name);
        Ok(sent)
    }

    fn of(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(METRIC));
        let read = |line: &str| {
            let (labels, bytes) = line.split_once("} ")?;
            let peer = labels.split(',').find_map(|label| label.strip_prefix("peer=\""))?;
            Some((peer.strip_suffix('"')?.parse().ok()?, bytes.trim().parse().ok()?))
        };
        let sent = lines.map(|line| read(line).with_context(|| format!("not understood: {line}")));
        Ok(Self(sent.collect::<anyhow::Result<_>>()?))
    }

    /// Returns how many bytes were sent to a node after `before`.
    pub(crate) fn since(&self, before: &Self, to: u64) -> u64 {
        let bytes = |at: &Self| at.0.get(&to).copied().unwrap_or(0);
        bytes(self).saturating_sub(bytes(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_to_each_peer_are_found_among_other_metrics() {
        let text = |two: u64| {
            format!(
                "# TYPE twinkeep_raft_sent_bytes_total counter\n\
                 twinkeep_raft_sent_bytes_total{{peer=\"2\"}} {two}\n\
                 twinkeep_raft_sent_bytes_total{{peer=\"13\"}} 5\n\
                 twinkeep_raft_term 3\n"
            )
        };
        let (before, after) = (Sent::of(&text(100)).unwrap(), Sent::of(&text(130)).unwrap());
        assert_eq!((after.since(&before, 2), after.since(&before, 13)), (30, 0));
        assert_eq!(after.since(&before, 4), 0);
        assert!(Sent::of("twinkeep_raft_sent_bytes_total{peer=\"x\"} 1\n").is_err());
    }
}
