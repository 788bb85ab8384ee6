//! What the runs' file holds: one line for each sample.

use serde::{Deserialize, Serialize};

use crate::load::sample::{count, mean};

/// One sample.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    /// Counts the rounds from 1.
    pub(crate) round: u32,
    /// Serving learners beside the five nodes.
    pub(crate) learners: u32,
    /// When it ended, in milliseconds since 1970.
    pub(crate) ended_unix_ms: u64,
    /// How long all of it took, in seconds.
    pub(crate) took_s: f64,
    /// What came of it.
    pub(crate) result: Outcome,
}

/// What came of a sample.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It was taken.
    Sample(Box<Sample>),
    /// It could not be taken.
    Broken(String),
}

/// A cluster, measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Sample {
    /// Terms that began meanwhile.
    pub(crate) elections: u64,
    /// All serving nodes under load, each with its quota.
    pub(crate) crypto: Crypto,
    /// Nobody calls.
    pub(crate) idle: Quiet,
    /// One writer creates a key every so often.
    pub(crate) paced: Control,
    /// One writer creates keys, one after the other.
    pub(crate) control: Control,
}

/// What the leader used and sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Quiet {
    /// The node that led when it began.
    pub(crate) leader: String,
    /// How long it lasted.
    pub(crate) seconds: f64,
    /// Processor time of the leader, in seconds.
    pub(crate) leader_cpu_s: f64,
    /// What each other node used, and what the leader sent to it.
    pub(crate) others: Vec<Other>,
}

/// Another node than the leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Other {
    /// Which.
    pub(crate) node: String,
    /// Whether it is a voter that serves, the witness, or a learner.
    pub(crate) part: Part,
    /// Its processor time, in seconds.
    pub(crate) cpu_s: f64,
    /// The bytes that the leader sent to it.
    pub(crate) bytes: u64,
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// It votes and serves.
    Voter,
    /// It votes alone.
    Witness,
    /// It serves alone.
    Learner,
}

/// All serving nodes under load.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Crypto {
    /// What the leader used and sent.
    pub(crate) leader: Quiet,
    /// Each of the nodes.
    pub(crate) nodes: Vec<Served>,
    /// Processor time of the load generator, in seconds.
    pub(crate) load_cpu_s: f64,
    /// Share of the machine that the hypervisor took.
    pub(crate) steal: f64,
    /// Share of the machine that others used.
    pub(crate) foreign: f64,
}

/// A node under load.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Served {
    /// Which.
    pub(crate) node: String,
    /// What it is for.
    pub(crate) part: Part,
    /// Items of batches that it answered.
    pub(crate) items: u64,
    /// Batches of which it refused an item or all.
    pub(crate) refused: u64,
    /// The 99th percentile of the time that a batch took, in milliseconds; most of it is the wait for the next period.
    pub(crate) p99_ms: f64,
    /// Its processor time, in seconds.
    pub(crate) cpu_s: f64,
    /// Periods of the quota, and those whose quota was used up.
    pub(crate) periods: (u64, u64),
}

/// One writer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Control {
    /// What the leader used and sent.
    pub(crate) leader: Quiet,
    /// Keys that were created.
    pub(crate) writes: u64,
    /// The median of the time that one took, in milliseconds.
    pub(crate) p50_ms: f64,
    /// The 99th percentile of it.
    pub(crate) p99_ms: f64,
    /// Share of the machine that the hypervisor took.
    pub(crate) steal: f64,
    /// Share of the machine that others used.
    pub(crate) foreign: f64,
}

impl Crypto {
    /// Returns the items that were answered a second by some of the nodes.
    pub(crate) fn rate(&self, of: impl Fn(&Served) -> bool) -> f64 {
        let items = self.nodes.iter().filter(|node| of(node)).map(|node| node.items).sum();
        count(items) / self.leader.seconds
    }

    /// Tells whether a node led.
    pub(crate) fn led(&self, node: &Served) -> bool {
        node.node == self.leader.leader
    }

    /// Returns how much of the same was answered by some of the nodes as by a voter that followed, on average.
    ///
    /// Followers pay nothing for learners, so that they tell how fast the machine was meanwhile.
    pub(crate) fn in_followers(&self, of: impl Fn(&Served) -> bool) -> f64 {
        let follows = |node: &Served| node.part == Part::Voter && !self.led(node);
        let followers = self.nodes.iter().filter(|node| follows(node)).count();
        self.rate(of) / (self.rate(follows) / count(followers as u64))
    }
}

impl Quiet {
    /// Returns the share of a core that the leader used.
    pub(crate) fn leader_busy(&self) -> f64 {
        self.leader_cpu_s / self.seconds
    }

    /// Returns the share of a core that a node of a kind used, on average; no number where there is none.
    pub(crate) fn busy(&self, part: Part) -> f64 {
        self.mean(part, |other| other.cpu_s)
    }

    /// Returns the bytes a second that the leader sent to a node of a kind, on average; no number where there is none.
    pub(crate) fn sent_to(&self, part: Part) -> f64 {
        self.mean(part, |other| count(other.bytes))
    }

    fn mean(&self, part: Part, figure: impl Fn(&Other) -> f64) -> f64 {
        let of_kind = self.others.iter().filter(|other| other.part == part);
        mean(&of_kind.map(|other| figure(other) / self.seconds).collect::<Vec<_>>())
    }
}
