//! The timing and the limits of the Raft group.
//!
//! Heartbeat and election times are the same on **all** nodes, the witness included: openraft's
//! leader lease is the election maximum of the node that is asked for a vote, so a longer maximum
//! on one voter delays every failover that needs its vote.

use std::time::Duration;

use openraft::SnapshotPolicy;
use twinkeep_core::command::Batch;

/// Longest signed batch that fits into one entry, in bytes: a full batch and its signature.
pub const BATCH_BYTES_MAX: usize = Batch::BYTES_MAX + (4 << 10);
/// Longest message between peers, in bytes: a full run of entries, and room for its frame.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Most entries in one message.
pub const ENTRIES_PER_MESSAGE_MAX: u64 = 256;
/// Bytes of entries after which a message is full; the first entry always fits.
pub const ENTRY_BYTES_PER_MESSAGE: usize = 4 << 20;

/// Timing and limits. [`Config::default`] is what production runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// How often a leader shows that it lives. Default 50 ms.
    pub heartbeat: Duration,
    /// Shortest wait for an election. Default 150 ms.
    pub election_min: Duration,
    /// Longest wait for an election, and the leader lease. Default 300 ms.
    pub election_max: Duration,
    /// Longest pause while a snapshot is sent, and longest installation. Default 60 s.
    pub snapshot_timeout: Duration,
    /// How long the preferred zone has to be steady before the lead goes back to it, at first. Default 30 s.
    pub fail_back_after: Duration,
    /// Entries between two snapshots of a data node. Default 20 000.
    pub snapshot_every: u64,
    /// Entries that stay in the log although a snapshot holds them, so that a node that was away for
    /// a short time catches up by entries. Default 10 000.
    pub log_kept: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            snapshot_timeout: Duration::from_secs(60),
            fail_back_after: Duration::from_secs(30),
            snapshot_every: 20_000,
            log_kept: 10_000,
        }
    }
}

/// A timing that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("raft timing: {0}")]
pub struct InvalidConfig(String);

impl Config {
    /// Returns what openraft runs with.
    ///
    /// # Errors
    /// [`InvalidConfig`] when the times contradict each other.
    pub(crate) fn openraft(&self) -> Result<openraft::Config, InvalidConfig> {
        let config = openraft::Config {
            cluster_name: "twinkeep".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.snapshot_timeout),
            max_payload_entries: ENTRIES_PER_MESSAGE_MAX,
            // A follower that lags by less is sent entries as long as the log still has them.
            replication_lag_threshold: self.log_kept.max(self.snapshot_every) + self.snapshot_every,
            // The keeper makes or fetches snapshots and then says so.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.log_kept,
            // A candidate that cannot win must not raise the term: a zone that comes back would
            // otherwise depose the leader each time.
            enable_pre_vote: Some(true),
            // A leader restarted on an old disk would go on in its term and acknowledge other
            // entries at the same places.
            enable_leader_restore: Some(false),
            // A follower whose log went back has lost copies that were counted.
            allow_log_reversion: Some(false),
            // Nobody stands for election before its boot handshake; afterwards a data node may, and the
            // watchdog decides when the witness does.
            enable_elect: false,
            backoff: "50ms 100ms 200ms ..500ms".to_owned(),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| InvalidConfig(error.to_string()))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returning_zone_cannot_raise_the_term_and_a_leader_is_never_restored() {
        let config = Config::default().openraft().unwrap();
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.allow_log_reversion, Some(false));
        assert!(!config.enable_elect, "nobody stands before the boot handshake");
        assert!(config.install_snapshot_timeout >= 30_000);
        assert!(config.max_in_snapshot_log_to_keep >= 10_000);
    }

    #[test]
    fn an_election_faster_than_the_heartbeat_is_refused() {
        let config = Config { election_min: Duration::from_millis(20), ..Config::default() };
        config.openraft().unwrap_err();
    }
}
