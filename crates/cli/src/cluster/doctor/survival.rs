//! What the cluster can lose right now: for each loss, what becomes of changes, of the use of keys, and of what was
//! acknowledged.

use serde::Serialize;

use super::facts::{Facts, Mode, Node};

/// A loss and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Survival {
    /// What is lost.
    pub(super) loss: String,
    /// Whether changes go on by themselves.
    pub(super) changes: bool,
    /// Voters that may be lost on top before changes stop; 0 where they have.
    pub(super) slack: usize,
    /// Whether keys go on being used.
    pub(super) keys: bool,
    /// Whether nothing is lost that was acknowledged.
    pub(super) durable: bool,
    /// All that in one sentence.
    pub(super) sentence: String,
}

/// Judges each loss: any node, each zone with data, the witness, each zone together with the witness.
pub(super) fn survivals(facts: &Facts) -> Vec<Survival> {
    let mut all = vec![any_node(facts)];
    let zones = facts.data_zones();
    let witness = facts.witness();
    for zone in &zones {
        all.push(judged(facts, format!("zone {zone}"), |node| node.zone == **zone));
    }
    if let Some(witness) = witness {
        all.push(judged(facts, "the witness".to_owned(), |node| node.id == witness.id));
        for zone in &zones {
            let loss = format!("zone {zone} and the witness");
            all.push(judged(facts, loss, |node| node.zone == **zone || node.is_witness));
        }
    }
    all
}

/// Judges the worst node to lose of those that are there.
fn any_node(facts: &Facts) -> Survival {
    let worst = facts
        .nodes
        .iter()
        .filter(|node| node.counts())
        .map(|lost| judged(facts, format!("node {}", lost.id), |node| node.id == lost.id));
    let worst = worst.min_by_key(|s| (s.durable, s.changes, s.keys, s.slack));
    match worst {
        // No worse than any other: it need not be named.
        Some(worst) if worst.changes && worst.keys && worst.durable => {
            named(facts, Survival { loss: "any one node".to_owned(), ..worst })
        }
        Some(worst) => worst,
        None => judged(facts, "any one node".to_owned(), |_| false),
    }
}

fn judged(facts: &Facts, loss: String, is_lost: impl Fn(&Node) -> bool) -> Survival {
    let left: Vec<_> = facts.nodes.iter().filter(|node| node.counts() && !is_lost(node)).collect();
    let votes = left.iter().filter(|node| node.is_voter).count();
    let can_lead = left.iter().any(|node| node.is_voter && !node.is_witness && node.serves());
    let majority = facts.majority();
    let changes = votes >= majority && can_lead;
    let survival = Survival {
        loss,
        changes,
        slack: if changes { votes - majority } else { 0 },
        keys: left.iter().any(|node| node.serves()),
        durable: is_durable(facts, &is_lost),
        sentence: String::new(),
    };
    named(facts, survival)
}

/// Whether everything that was acknowledged is left.
///
/// An acknowledged change is on disk at a majority of the voters. In sync it is in each zone besides.
fn is_durable(facts: &Facts, is_lost: &impl Fn(&Node) -> bool) -> bool {
    let lost_votes = facts.voters().filter(|node| is_lost(node)).count();
    if lost_votes < facts.majority() {
        return true;
    }
    let zones = facts.data_zones();
    let is_whole =
        |zone: &&str| !facts.nodes.iter().any(|node| node.zone == **zone && is_lost(node));
    match &facts.mode {
        Mode::Sync => zones.iter().any(is_whole),
        Mode::None => false,
        Mode::Degraded(missing) | Mode::Recovering(missing) => {
            zones.iter().filter(|zone| **zone != missing).any(is_whole)
        }
    }
}

/// Writes the sentence.
fn named(facts: &Facts, mut survival: Survival) -> Survival {
    let Survival { changes, slack, keys, durable, .. } = survival;
    let changes = match (changes, slack) {
        (true, 0) => "changes go on, and one more node lost stops them".to_owned(),
        (true, 1) => "changes go on, and one more node may be lost".to_owned(),
        (true, slack) => format!("changes go on, and {slack} more nodes may be lost"),
        (false, _) => "changes stop until it is back".to_owned(),
    };
    let keys = match (keys, survival.changes) {
        (true, true) => "keys go on being used",
        (true, false) => "keys go on being used for their grace, and those that fail closed stop",
        (false, _) => "no key can be used",
    };
    let durable = match durable {
        true => "nothing that was acknowledged is lost".to_owned(),
        false => match facts.mode.missing() {
            Some(_) if !facts.mode_since.is_empty() => {
                format!("what was changed since {} may be lost", facts.mode_since)
            }
            _ => "acknowledged changes may be lost".to_owned(),
        },
    };
    survival.sentence = format!("{changes}; {keys}; {durable}");
    survival
}
