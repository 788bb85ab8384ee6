//! What the doctor knows: from every node that answers, and from the leader of those that do not.

/// The cluster as it was found.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The leader; `None` if nobody who answered knows one.
    pub(super) leader: Option<u64>,
    pub(super) nodes: Vec<Node>,
    pub(super) mode: Mode,
    /// Since when the mode holds, in words; empty before the first change.
    pub(super) mode_since: String,
    pub(super) preferred_zone: Option<String>,
    pub(super) drained_zone: Option<String>,
    /// Since when it is drained, in words.
    pub(super) drained_since: String,
    /// The zone that may hold a majority of the voters.
    pub(super) majority_zone: Option<String>,
    pub(super) cluster_version: u32,
    /// Operators of the cluster; `None` if no node said.
    pub(super) operators: Option<u32>,
    /// Whether it is a cluster for trying things out.
    pub(super) dev: bool,
    /// The authorities' certificates and the caller's own.
    pub(super) certificates: Vec<Certificate>,
    /// The time, unix seconds.
    pub(super) now_unix: u64,
}

/// What is promised of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// The cluster is at a version without replication modes.
    None,
    /// Every zone holds them.
    Sync,
    /// All but one zone hold them.
    Degraded(String),
    /// A zone catches up.
    Recovering(String),
}

impl Mode {
    /// Returns the zone that may lack changes.
    pub(super) fn missing(&self) -> Option<&str> {
        match self {
            Self::None | Self::Sync => None,
            Self::Degraded(zone) | Self::Recovering(zone) => Some(zone),
        }
    }
}

/// A member.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) zone: String,
    pub(super) is_witness: bool,
    pub(super) is_voter: bool,
    /// Whether it answers callers or is heard by the leader; `None` if nobody can know.
    pub(super) is_up: Option<bool>,
    /// Committed entries that it lacks, if that is known.
    pub(super) behind: Option<u64>,
    /// What it says of itself; `None` for a witness and for a node that does not answer.
    pub(super) own: Option<Own>,
}

/// What a node says of itself, and of its peers.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) is_sealed: bool,
    pub(super) is_fresh: bool,
    /// Whether it votes and acknowledges: it has met whom it has to since it started.
    pub(super) takes_part: bool,
    pub(super) version: String,
    /// The newest cluster version that it understands.
    pub(super) cluster_version_max: u32,
    /// Whether a hypervisor may pause it without its clocks knowing.
    pub(super) may_be_paused: bool,
    pub(super) heartbeat_ms: u64,
    pub(super) election_min_ms: u64,
    /// How many syncs of the log `log_sync_p99_us` is about.
    pub(super) log_syncs: u64,
    pub(super) log_sync_p99_us: u64,
    /// Size and free room of the disk under its data, bytes; zeros if it does not know.
    pub(super) disk: (u64, u64),
    pub(super) peers: Vec<Peer>,
    pub(super) certificates: Vec<Certificate>,
}

/// What a node has heard of another one.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) node: u64,
    /// Time since it was last heard.
    pub(super) read_ago_ms: u64,
    pub(super) round_trip_us: u64,
    /// How far its clock is ahead.
    pub(super) clock_ahead_ms: i64,
    pub(super) version: String,
}

/// A certificate and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Whose, in words: `the node certificate`, `the authority of callers`.
    pub(super) whose: String,
    /// Last second of its validity, unix seconds.
    pub(super) not_after_unix: u64,
    /// How long before its end something has to be done, in days.
    pub(super) notice_days: u64,
    /// What has to be done.
    pub(super) way_out: &'static str,
}

impl Facts {
    pub(super) fn voters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_voter)
    }

    pub(super) fn majority(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    /// Returns the zones with data, by name.
    pub(super) fn data_zones(&self) -> Vec<&str> {
        let mut zones: Vec<_> =
            self.nodes.iter().filter(|n| !n.is_witness).map(|n| n.zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    pub(super) fn witness(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.is_witness)
    }

    pub(super) fn zone_of(&self, id: u64) -> Option<&str> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.zone.as_str())
    }
}

impl Node {
    /// Whether it counts as there: a witness that nobody was asked about does.
    pub(super) fn counts(&self) -> bool {
        self.is_up.unwrap_or(self.is_witness)
    }

    /// Whether it can use keys now.
    pub(super) fn serves(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.is_sealed)
    }
}
