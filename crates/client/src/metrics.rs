//! What the client did: counters for each node and for the whole, to be looked at or shown to Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows. It costs a call one atomic addition, without order.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened at one node.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) attempts: Counter,
    pub(crate) retries: Counter,
    pub(crate) hedges: Counter,
    pub(crate) hedges_won: Counter,
    pub(crate) out_hedged: Counter,
    pub(crate) failures: Counter,
    pub(crate) ejections: Counter,
    pub(crate) readmissions: Counter,
    pub(crate) failed_probes: Counter,
    pub(crate) spilled: Counter,
    pub(crate) warming: Counter,
}

/// What happened that belongs to no node.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) failed_calls: Counter,
    pub(crate) budget_refusals: Counter,
}

/// What a client did since it was built; [`Client::activity`](crate::Client::activity) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// Calls that ended with an error, whatever it was.
    pub failed_calls: u64,
    /// Second attempts that were not made, since the retry budget was empty.
    pub budget_refusals: u64,
    /// Second attempts that the budget of calls that use keys or read has left.
    pub budget_left: u64,
    /// The same of changes, which have a budget of their own.
    pub change_budget_left: u64,
    /// The newest incarnation of the cluster that was met; 0 before the first connection.
    pub incarnation: u64,
    /// The nodes that the client knows now. Those that left the cluster are gone, with their counts.
    pub nodes: Vec<NodeActivity>,
}

/// What a client did at one node. An attempt is one sending of a call to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeActivity {
    /// The node's `address:port`, as it was given or learnt.
    pub address: String,
    /// Its zone, if it is known.
    pub zone: Option<String>,
    /// Whether it is avoided now: it failed lately, or says that it does not serve.
    pub is_ejected: bool,
    /// Attempts that are under way.
    pub open_attempts: u32,
    /// Attempts, of which retries and hedges are a part.
    pub attempts: u64,
    /// Attempts after another one of the same call failed.
    pub retries: u64,
    /// Attempts while another one of the same call was silent.
    pub hedges: u64,
    /// Hedges that were answered first.
    pub hedges_won: u64,
    /// Attempts here that a hedge elsewhere was faster than.
    pub out_hedged: u64,
    /// Attempts that failed by the node: no connection, a broken one, or it could not serve. Those that were
    /// out-hedged count too.
    pub failures: u64,
    /// How often the node began to be avoided.
    pub ejections: u64,
    /// How often it was taken back.
    pub readmissions: u64,
    /// Health probes without a good answer.
    pub failed_probes: u64,
    /// Calls from another zone that came here first because their own zone was short of healthy nodes.
    pub spilled_calls: u64,
    /// Calls from another zone that came here first to keep this one warm.
    pub warming_calls: u64,
}

/// Name, kind, meaning and value of one metric of a node.
type OfNode = (&'static str, &'static str, &'static str, fn(&NodeActivity) -> u64);
/// The same of the whole client.
type OfClient = (&'static str, &'static str, &'static str, fn(&Activity) -> u64);

const OF_CLIENT: [OfClient; 5] = [
    (
        "twinkeep_client_failed_calls_total",
        "counter",
        "Calls that ended with an error, whatever it was",
        |all| all.failed_calls,
    ),
    (
        "twinkeep_client_budget_refusals_total",
        "counter",
        "Second attempts that were not made, since the retry budget was empty",
        |all| all.budget_refusals,
    ),
    (
        "twinkeep_client_budget_attempts",
        "gauge",
        "Second attempts that the budget of calls that use keys or read has left, 1,500 at most",
        |all| all.budget_left,
    ),
    (
        "twinkeep_client_change_budget_attempts",
        "gauge",
        "The same of changes, which have a budget of their own",
        |all| all.change_budget_left,
    ),
    (
        "twinkeep_client_newest_incarnation",
        "gauge",
        "The newest incarnation of the cluster that was met; 0 before the first connection",
        |all| all.incarnation,
    ),
];

const OF_NODE: [OfNode; 13] = [
    (
        "twinkeep_client_attempts_total",
        "counter",
        "Calls sent to a node, each sending once, retries and hedges among them",
        |node| node.attempts,
    ),
    (
        "twinkeep_client_retries_total",
        "counter",
        "Attempts after another one of the same call failed",
        |node| node.retries,
    ),
    (
        "twinkeep_client_hedges_total",
        "counter",
        "Attempts while another one of the same call was silent",
        |node| node.hedges,
    ),
    ("twinkeep_client_hedges_won_total", "counter", "Hedges that were answered first", |node| {
        node.hedges_won
    }),
    (
        "twinkeep_client_out_hedged_total",
        "counter",
        "Attempts that a hedge to another node was faster than",
        |node| node.out_hedged,
    ),
    (
        "twinkeep_client_failures_total",
        "counter",
        "Attempts that failed by the node or its connection, out-hedged ones among them",
        |node| node.failures,
    ),
    (
        "twinkeep_client_ejections_total",
        "counter",
        "How often a node began to be avoided",
        |node| node.ejections,
    ),
    ("twinkeep_client_readmissions_total", "counter", "How often a node was taken back", |node| {
        node.readmissions
    }),
    (
        "twinkeep_client_failed_probes_total",
        "counter",
        "Health probes of a node without a good answer",
        |node| node.failed_probes,
    ),
    (
        "twinkeep_client_spilled_calls_total",
        "counter",
        "Calls that went to another zone first because their own was short of healthy nodes",
        |node| node.spilled_calls,
    ),
    (
        "twinkeep_client_warming_calls_total",
        "counter",
        "Calls that went to another zone first to keep it warm",
        |node| node.warming_calls,
    ),
    ("twinkeep_client_is_ejected", "gauge", "1 while a node is avoided", |node| {
        u64::from(node.is_ejected)
    }),
    ("twinkeep_client_open_attempts", "gauge", "Attempts that are under way", |node| {
        u64::from(node.open_attempts)
    }),
];

impl Activity {
    /// Writes all of it in Prometheus' text format, for an application's own metrics endpoint. Labels are `peer`, a
    /// node's address, and `zone`, empty if it is not known. docs/clients.md has the list.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut out = String::new();
        for (name, kind, help, value) in OF_CLIENT {
            let value = value(self);
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
                .expect("a String takes every byte");
        }
        for (name, kind, help, value) in OF_NODE {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
                .expect("a String takes every byte");
            for node in &self.nodes {
                let (peer, zone) =
                    (label(&node.address), label(node.zone.as_deref().unwrap_or("")));
                writeln!(out, "{name}{{peer=\"{peer}\",zone=\"{zone}\"}} {}", value(node))
                    .expect("a String takes every byte");
            }
        }
        out
    }
}

/// Writes a label's value: addresses and zones come from the cluster.
fn label(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCS: &str = include_str!("../../../docs/clients.md");

    fn described() -> Vec<(&'static str, &'static str, &'static str)> {
        let client = OF_CLIENT.iter().map(|(name, kind, help, _)| (*name, *kind, *help));
        client.chain(OF_NODE.iter().map(|(name, kind, help, _)| (*name, *kind, *help))).collect()
    }

    #[test]
    fn names_are_of_this_crate_differ_and_counters_alone_are_totals() {
        let described = described();
        let names: BTreeSet<_> = described.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), described.len());
        for (name, kind, _) in described {
            assert!(name.starts_with("twinkeep_client_"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        }
    }

    #[test]
    fn documentation_has_exactly_these() {
        let rows: Vec<_> = described()
            .into_iter()
            .map(|(name, kind, help)| format!("| `{name}` | {kind} | {help} |"))
            .collect();
        let documented: Vec<_> =
            DOCS.lines().filter(|line| line.starts_with("| `twinkeep_client_")).collect();
        assert_eq!(documented, rows, "docs/clients.md is to have:\n{}", rows.join("\n"));
    }

    #[test]
    fn text_is_prometheus_and_a_strange_address_stays_in_its_label() {
        let node = NodeActivity {
            address: "a\"} 1\nb\\".into(),
            zone: None,
            is_ejected: true,
            open_attempts: 2,
            attempts: 3,
            retries: 0,
            hedges: 0,
            hedges_won: 0,
            out_hedged: 0,
            failures: 0,
            ejections: 1,
            readmissions: 0,
            failed_probes: 0,
            spilled_calls: 0,
            warming_calls: 0,
        };
        let all = Activity {
            failed_calls: 7,
            budget_refusals: 0,
            budget_left: 500,
            change_budget_left: 500,
            incarnation: 1,
            nodes: vec![node],
        };
        let text = all.prometheus();
        assert!(text.contains("\ntwinkeep_client_failed_calls_total 7\n"), "{text}");
        let line = r#"twinkeep_client_attempts_total{peer="a\"} 1\nb\\",zone=""} 3"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("twinkeep_")));
    }
}
