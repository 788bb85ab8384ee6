//! What the runs' file holds: one line for each run.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::load::spectrum::Spectrum;

/// What was done in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Both nodes of the leader's zone were killed.
    LeaderKilled,
    /// No packet came to or from the leader's zone any more.
    LeaderSilent,
    /// Both nodes of the zone without the leader were killed.
    OtherKilled,
    /// No packet came to or from the zone without the leader any more.
    OtherSilent,
    /// The zones were cut from each other, the leader's wrote with the witness alone, and was killed then.
    WitnessNewest,
    /// All five nodes were restarted, one after the other.
    Rolling,
    /// etcd's leader was killed, with the timers that etcd comes with.
    EtcdDefault,
    /// The same with shorter timers.
    EtcdTuned,
}

impl Kind {
    /// The losses of a zone; they are measured in turns.
    pub(crate) const LOSSES: [Self; 5] = [
        Self::LeaderKilled,
        Self::LeaderSilent,
        Self::OtherKilled,
        Self::OtherSilent,
        Self::WitnessNewest,
    ];
    /// All of them, in the order in which they are measured.
    pub(crate) const ALL: [Self; 8] = [
        Self::LeaderKilled,
        Self::LeaderSilent,
        Self::OtherKilled,
        Self::OtherSilent,
        Self::WitnessNewest,
        Self::Rolling,
        Self::EtcdDefault,
        Self::EtcdTuned,
    ];

    /// Returns the name that `--only` looks at.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader-killed",
            Self::LeaderSilent => "leader-silent",
            Self::OtherKilled => "other-killed",
            Self::OtherSilent => "other-silent",
            Self::WitnessNewest => "witness-newest",
            Self::Rolling => "rolling",
            Self::EtcdDefault => "etcd-default",
            Self::EtcdTuned => "etcd-tuned",
        }
    }
}

/// As it is called in the report.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LeaderKilled => "leader's zone killed",
            Self::LeaderSilent => "leader's zone silent",
            Self::OtherKilled => "other zone killed",
            Self::OtherSilent => "other zone silent",
            Self::WitnessNewest => "witness is newest",
            Self::Rolling => "rolling restart",
            Self::EtcdDefault => "etcd, default timers",
            Self::EtcdTuned => "etcd, tuned timers",
        })
    }
}

/// One run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    /// What was done.
    pub(crate) kind: Kind,
    /// Counts the runs of this kind from 1.
    pub(crate) number: u32,
    /// When it ended, in milliseconds since 1970: where to look in the nodes' messages.
    pub(crate) ended_unix_ms: u64,
    /// How long all of it took, in seconds.
    pub(crate) took_s: f64,
    /// What came of it.
    pub(crate) result: Outcome,
}

/// What came of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// A zone was lost.
    Loss(LossRun),
    /// All nodes were restarted.
    Rolling(RollingRun),
    /// etcd lost its leader.
    Etcd(EtcdRun),
    /// It could not be carried out: something did not come back.
    Broken(String),
}

/// A call that failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Failure {
    /// When it was sent, in milliseconds after the fault; negative before it.
    pub(crate) at_ms: f64,
    /// How long it took to fail, in milliseconds.
    pub(crate) took_ms: f64,
    /// Which call, and where from.
    pub(crate) what: String,
    /// What the client library said.
    pub(crate) error: String,
}

/// The crypto calls of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Calls {
    /// All of them, from before the fault until all was well again.
    pub(crate) sent: usize,
    /// Those that failed.
    pub(crate) failures: Vec<Failure>,
    /// How long those took that were sent within two seconds after the fault; in a rolling restart all.
    pub(crate) during: Spectrum,
}

/// The control writes of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Writes {
    /// How many were acknowledged.
    pub(crate) acknowledged: usize,
    /// Those that failed.
    pub(crate) failures: Vec<Failure>,
    /// Those that took long: when they were sent, in milliseconds after the fault, and how long they took.
    pub(crate) slow_ms: Vec<(f64, f64)>,
    /// Acknowledged keys that could not be used afterwards, with what the node said.
    pub(crate) lost: Vec<String>,
}

/// A zone was lost.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LossRun {
    /// The node that led before.
    pub(crate) leader: String,
    /// The zone that was lost.
    pub(crate) lost_zone: String,
    /// The zone that the writer stood in.
    pub(crate) writer_zone: String,
    /// When the fault was injected, in milliseconds since 1970.
    pub(crate) fault_unix_ms: u64,
    /// How long it took to inject it, in milliseconds; it counts from the beginning.
    pub(crate) injection_ms: f64,
    /// Time from the fault to the first acknowledgement that came of no earlier decision, in milliseconds; `None` if
    /// there was none in time.
    pub(crate) writes_again_ms: Option<f64>,
    /// The same to that of the first write that was sent after the fault.
    pub(crate) sent_after_ms: Option<f64>,
    /// Packets that the filters dropped, of both directions.
    pub(crate) dropped_packets: u64,
    /// Writes that the leader's zone made with the witness alone before it was killed.
    pub(crate) with_the_witness_alone: usize,
    /// The crypto calls.
    pub(crate) calls: Calls,
    /// The control writes.
    pub(crate) writes: Writes,
    /// Share of the machine that the hypervisor took during the event.
    pub(crate) steal: f64,
    /// Share of the machine that others used during the event.
    pub(crate) foreign: f64,
}

/// A node was restarted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Restart {
    /// Which.
    pub(crate) node: String,
    /// Whether it led.
    pub(crate) led: bool,
    /// From being told to stop to the end of the process, in milliseconds.
    pub(crate) exit_ms: f64,
    /// From the start of the process until it was counted on again, in milliseconds.
    pub(crate) return_ms: f64,
    /// The longest time between two acknowledged writes while it stopped, beyond the usual, in milliseconds.
    pub(crate) stop_gap_ms: f64,
    /// The same while it came back.
    pub(crate) return_gap_ms: f64,
}

/// All nodes were restarted, one after the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RollingRun {
    /// The nodes in order.
    pub(crate) restarts: Vec<Restart>,
    /// The median time between two acknowledged writes, in milliseconds.
    pub(crate) usual_gap_ms: f64,
    /// The crypto calls.
    pub(crate) calls: Calls,
    /// The control writes.
    pub(crate) writes: Writes,
}

/// etcd lost its leader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct EtcdRun {
    /// The member that led.
    pub(crate) leader: String,
    /// Time from the kill to the answer to the first put that was sent after it, in milliseconds.
    pub(crate) recovery_ms: Option<f64>,
    /// Puts that were answered, and that failed.
    pub(crate) puts: (usize, usize),
}
