//! One sentence on the whole cluster: whether anything is wrong, and what may still go wrong.

use serde::Serialize;

use super::replication::Replication;
use super::status::{Node, Zone};
use crate::screen::Paint;

/// How the cluster is as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Health {
    /// How bad it is.
    pub(super) level: Level,
    /// What is wrong, or what is not known.
    pub(super) summary: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Level {
    /// Every node is up, and any one zone may be lost.
    Healthy,
    /// It works, and something should be looked at.
    Degraded,
    /// No changes are possible, or no data node can use keys.
    Down,
}

impl Level {
    /// The colour that says it.
    pub(super) fn paint(self) -> Paint {
        match self {
            Self::Healthy => Paint::Good,
            Self::Degraded => Paint::Warning,
            Self::Down => Paint::Bad,
        }
    }
}

impl Health {
    pub(super) fn of(
        zones: &[Zone],
        leader_node_id: u64,
        replication: Option<&Replication>,
    ) -> Self {
        let all = || zones.iter().flat_map(|zone| &zone.nodes);
        let ids = |which: &dyn Fn(&Node) -> bool| {
            let ids: Vec<_> =
                all().filter(|node| which(node)).map(|n| n.node_id.to_string()).collect();
            (!ids.is_empty()).then(|| ids.join(", "))
        };
        let sealed = |node: &Node| node.own.as_ref().is_some_and(|own| own.sealed);
        let mut wrong = Vec::new();
        wrong.extend(ids(&|node| node.is_up() == Some(false)).map(|ids| format!("silent: {ids}")));
        wrong.extend(ids(&sealed).map(|ids| format!("sealed: {ids}")));
        let deaf =
            |node: &Node| !node.is_witness() && node.own.is_none() && node.is_up() != Some(false);
        wrong.extend(ids(&deaf).map(|ids| format!("no answer to callers: {ids}")));
        wrong.extend(
            ids(&|node| node.is_witness() && node.is_up().is_none())
                .map(|ids| format!("not known here: {ids}")),
        );

        // A leader that lost its majority goes on calling itself one.
        let minority = minority(zones);
        let open = all().any(|node| node.own.as_ref().is_some_and(|own| !own.sealed));
        if leader_node_id == 0 {
            wrong.insert(0, "no leader: keys can be used, changes wait".to_owned());
        } else if let Some(minority) = &minority {
            wrong.insert(0, minority.clone());
        } else {
            let needed = zones.iter().filter(|zone| !survives(zones, &zone.zone));
            let needed: Vec<_> = needed.map(|zone| zone.zone.as_str()).collect();
            if !needed.is_empty() {
                wrong.push(format!("changes would stop without zone {}", needed.join(" or ")));
            }
        }
        wrong.extend(replication.and_then(Replication::trouble));
        if !open {
            wrong.insert(0, "no node can use keys: see `twinkeep unseal`".to_owned());
        }
        let level = match () {
            () if leader_node_id == 0 || minority.is_some() || !open => Level::Down,
            () if wrong.is_empty() => Level::Healthy,
            () => Level::Degraded,
        };
        let summary = match wrong.is_empty() {
            true => "every node is up, and any one zone may be lost".to_owned(),
            false => wrong.join("; "),
        };
        Self { level, summary }
    }
}

/// Says that changes have stopped, when so many voters are silent that the others are no majority.
fn minority(zones: &[Zone]) -> Option<String> {
    let voters = || zones.iter().flat_map(|zone| &zone.nodes).filter(|n| n.standing == "VOTER");
    let (all, silent) = (voters().count(), voters().filter(|n| n.is_up() == Some(false)).count());
    let (heard, needed) = (all - silent, all / 2 + 1);
    (heard < needed).then(|| {
        format!(
            "no majority: {heard} of {all} voters are up and {needed} are needed; keys can be used, changes wait"
        )
    })
}

/// Whether the voters that are up are still a majority without a zone.
fn survives(zones: &[Zone], lost: &str) -> bool {
    let voters = |zone: &&Zone| zone.nodes.iter().filter(|node| node.standing == "VOTER").count();
    // A witness that nobody was asked about is taken for up: it is listed as not known.
    let counts = |node: &&Node| node.is_up().unwrap_or(node.is_witness());
    let up = |zone: &Zone| {
        let voters = zone.nodes.iter().filter(|node| node.standing == "VOTER");
        voters.filter(counts).count()
    };
    let all: usize = zones.iter().map(|zone| voters(&zone)).sum();
    let left: usize = zones.iter().filter(|zone| zone.zone != lost).map(up).sum();
    left > all / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::picture::tests::{node, zone};

    fn cluster(b: [Option<(bool, u64)>; 2]) -> Vec<Zone> {
        let up = Some((false, 42));
        vec![
            zone("a", vec![node(1, "DATA", up), node(2, "DATA", up)]),
            zone("b", vec![node(3, "DATA", b[0]), node(4, "DATA", b[1])]),
            zone("w", vec![node(5, "WITNESS", None)]),
        ]
    }

    #[test]
    fn cluster_that_may_lose_any_zone_is_healthy() {
        let up = Some((false, 42));
        let health = Health::of(&cluster([up, up]), 1, None);
        assert_eq!(
            (health.level, health.summary.as_str()),
            (Level::Healthy, "every node is up, and any one zone may be lost")
        );
    }

    #[test]
    fn silent_and_sealed_nodes_are_named_with_what_may_not_happen_now() {
        let health = Health::of(&cluster([Some((true, 42)), None]), 1, None);
        assert_eq!(health.level, Level::Degraded);
        assert_eq!(health.summary, "silent: 4; sealed: 3; changes would stop without zone a");
    }

    #[test]
    fn without_a_leader_or_an_open_node_it_is_down() {
        let up = Some((false, 42));
        assert_eq!(Health::of(&cluster([up, up]), 0, None).level, Level::Down);
        let sealed = vec![zone("a", vec![node(1, "DATA", Some((true, 42)))])];
        let health = Health::of(&sealed, 1, None);
        assert_eq!(health.level, Level::Down);
        assert!(health.summary.contains("twinkeep unseal"), "{}", health.summary);
    }

    /// The leader that is left calls itself one, and said that changes *would* stop.
    #[test]
    fn leader_without_a_majority_does_not_hide_that_changes_have_stopped() {
        let up = Some((false, 42));
        let mut zones = cluster([None, None]);
        let health = Health::of(&zones, 1, None);
        assert_eq!(health.level, Level::Degraded, "{}", health.summary);
        zones[2].nodes[0].reachable = Some(false);
        let health = Health::of(&zones, 1, None);
        assert_eq!(health.level, Level::Down);
        let expected = "no majority: 2 of 5 voters are up and 3 are needed; keys can be used, changes wait; silent: 3, \
                        4, 5";
        assert_eq!(health.summary, expected);
        zones = cluster([up, None]);
        zones[2].nodes[0].reachable = Some(false);
        assert_eq!(Health::of(&zones, 1, None).level, Level::Degraded, "three of five are enough");
    }

    #[test]
    fn cluster_that_does_not_count_on_a_zone_says_so() {
        let up = Some((false, 42));
        let replication =
            Replication { mode: "RECOVERING", zone: "zone-b".to_owned(), since: None };
        let health = Health::of(&cluster([up, up]), 1, Some(&replication));
        assert_eq!((health.level, health.summary.as_str()), (Level::Degraded, "zone-b catches up"));
    }

    #[test]
    fn what_is_not_known_is_not_called_silent() {
        let up = Some((false, 42));
        let mut zones = cluster([up, up]);
        zones[2].nodes[0].reachable = None;
        let health = Health::of(&zones, 1, None);
        assert_eq!((health.level, health.summary.as_str()), (Level::Degraded, "not known here: 5"));
    }
}
