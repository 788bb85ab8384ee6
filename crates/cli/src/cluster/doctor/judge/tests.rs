//! Each finding on its own: a healthy cluster has none, and one thing that is wrong makes exactly that one.

use super::super::facts::{Mode, Peer};
use super::super::survival::Survival;
use super::*;

pub(in super::super) const NOW: u64 = 1_800_000_000;

fn peer(node: u64, version: &str) -> Peer {
    Peer {
        node,
        read_ago_ms: 500,
        round_trip_us: 800,
        clock_ahead_ms: 3,
        version: version.to_owned(),
    }
}

fn own() -> Own {
    Own {
        is_sealed: false,
        is_fresh: true,
        takes_part: true,
        version: "0.1.0".to_owned(),
        cluster_version_max: 2,
        may_be_paused: false,
        heartbeat_ms: 50,
        election_min_ms: 150,
        log_syncs: 1024,
        log_sync_p99_us: 5_000,
        disk: (100 << 30, 50 << 30),
        peers: (1..=5).map(|id| peer(id, "0.1.0")).collect(),
        certificates: vec![end("the node certificate", 200, 14)],
    }
}

fn end(whose: &str, days: u64, notice_days: u64) -> Certificate {
    let not_after_unix = NOW + days * DAY_S;
    Certificate { whose: whose.to_owned(), not_after_unix, notice_days, way_out: "renew it" }
}

fn data(id: u64, zone: &str) -> Node {
    let mut own = own();
    own.peers.retain(|peer| peer.node != id);
    let zone = zone.to_owned();
    let (is_up, behind) = (Some(true), Some(0));
    Node { id, zone, is_witness: false, is_voter: true, is_up, behind, own: Some(own) }
}

fn witness(id: u64) -> Node {
    Node { is_witness: true, own: None, ..data(id, "w") }
}

pub(in super::super) fn two_two_one() -> Vec<Node> {
    vec![data(1, "a"), data(2, "a"), data(3, "b"), data(4, "b"), witness(5)]
}

pub(in super::super) fn facts(nodes: Vec<Node>) -> Facts {
    Facts {
        leader: Some(1),
        nodes,
        mode: Mode::Sync,
        mode_since: String::new(),
        preferred_zone: None,
        drained_zone: None,
        drained_since: String::new(),
        majority_zone: None,
        cluster_version: 2,
        operators: Some(2),
        dev: false,
        certificates: vec![end("the authority of node certificates", 3_000, 180)],
        now_unix: NOW,
    }
}

fn healthy() -> Facts {
    facts(two_two_one())
}

/// The codes of all warnings, and of all notes behind a `-`.
fn codes(facts: &Facts) -> Vec<String> {
    let code = |finding: Finding| match finding.level {
        Level::Warning => finding.code.to_owned(),
        Level::Note => format!("-{}", finding.code),
    };
    findings(facts).into_iter().map(code).collect()
}

/// What 2+2+1 costs, as a note for each zone.
const INHERENT: [&str; 2] = ["-survivor-no-slack"; 2];

/// Changes a healthy cluster, and returns what is found beside the notes that it has anyway.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut facts = healthy();
    change(&mut facts);
    let mut codes = codes(&facts);
    for inherent in INHERENT {
        let place = codes.iter().position(|code| code == inherent);
        if let Some(place) = place {
            codes.remove(place);
        }
    }
    codes
}

fn text(facts: &Facts, code: &str) -> String {
    findings(facts).into_iter().find(|finding| finding.code == code).unwrap().text
}

fn silence(node: &mut Node) {
    (node.is_up, node.own) = (Some(false), None);
}

fn of(facts: &mut Facts, id: u64) -> &mut Node {
    facts.nodes.iter_mut().find(|node| node.id == id).unwrap()
}

fn own_of(facts: &mut Facts, id: u64) -> &mut Own {
    of(facts, id).own.as_mut().unwrap()
}

#[test]
fn healthy_cluster_has_no_warning_and_is_told_what_its_topology_costs() {
    assert_eq!(codes(&healthy()), INHERENT);
    let text = text(&healthy(), "survivor-no-slack");
    assert!(text.starts_with("without zone a nothing more may be lost"), "{text}");
    // Of three voters in each zone and a witness, a zone that is lost leaves just as many as are needed, too.
    let mut nodes = two_two_one();
    nodes.extend([data(6, "a"), data(7, "b")]);
    assert_eq!(codes(&facts(nodes)), INHERENT);
}

#[test]
fn nobody_leads() {
    assert_eq!(found(|facts| facts.leader = None), ["no-leader"]);
}

#[test]
fn dead_voter_lingers_and_costs_a_zone() {
    let found = found(|facts| silence(of(facts, 4)));
    assert_eq!(found, ["dead-voter", "zone-needed"]);
    let mut facts = healthy();
    silence(of(&mut facts, 4));
    own_of(&mut facts, 1).peers.iter_mut().find(|p| p.node == 4).unwrap().read_ago_ms = 180_000;
    for id in [2, 3] {
        own_of(&mut facts, id).peers.retain(|peer| peer.node != 4);
    }
    let text = text(&facts, "dead-voter");
    assert_eq!(
        text,
        "node 4 is silent, last heard 180 s ago, and still counts: 4 of 5 voters are there"
    );
}

#[test]
fn nothing_is_left_to_lose() {
    let found = found(|facts| {
        silence(of(facts, 3));
        silence(of(facts, 4));
    });
    assert_eq!(found, ["dead-voter", "dead-voter", "no-slack"]);
}

#[test]
fn learner_that_is_silent_costs_no_vote() {
    let found = found(|facts| {
        let mut learner = Node { is_voter: false, ..data(6, "b") };
        silence(&mut learner);
        facts.nodes.push(learner);
    });
    assert_eq!(found, ["node-silent"]);
}

#[test]
fn node_that_only_its_peers_hear() {
    assert_eq!(found(|facts| of(facts, 2).own = None), ["node-deaf"]);
}

#[test]
fn node_that_nobody_knows_of() {
    assert_eq!(found(|facts| of(facts, 5).is_up = None), ["node-unknown"]);
}

#[test]
fn sealed_node() {
    assert_eq!(found(|facts| own_of(facts, 2).is_sealed = true), ["node-sealed"]);
}

#[test]
fn node_that_waits_for_company() {
    assert_eq!(found(|facts| own_of(facts, 2).takes_part = false), ["takes-no-part"]);
}

#[test]
fn node_whose_state_is_old() {
    assert_eq!(found(|facts| own_of(facts, 2).is_fresh = false), ["state-old"]);
}

#[test]
fn node_that_lags() {
    assert_eq!(found(|facts| of(facts, 2).behind = Some(1_000)), [] as [&str; 0]);
    assert_eq!(found(|facts| of(facts, 5).behind = Some(1_001)), ["node-behind"]);
}

#[test]
fn disk_that_is_slow_for_the_timers() {
    let slow = |syncs, us| {
        found(|facts| {
            let own = own_of(facts, 3);
            (own.log_syncs, own.log_sync_p99_us) = (syncs, us);
        })
    };
    assert_eq!(slow(100, 100_001), ["slow-disk"]);
    assert_eq!(slow(100, 100_000), [] as [&str; 0]);
    assert_eq!(slow(99, 900_000), [] as [&str; 0], "too few to tell");
}

#[test]
fn disk_that_fills() {
    let disk = |free: u64| found(|facts| own_of(facts, 3).disk = (100 << 30, free));
    assert_eq!(disk((10 << 30) - 1), ["disk-fills"]);
    assert_eq!(disk(10 << 30), [] as [&str; 0]);
    assert_eq!(found(|facts| own_of(facts, 3).disk = (0, 0)), [] as [&str; 0], "not known");
}

#[test]
fn cluster_without_one_of_its_zones() {
    let degraded = |facts: &mut Facts| {
        facts.mode = Mode::Degraded("b".to_owned());
        facts.mode_since = "noon".to_owned();
    };
    assert_eq!(found(degraded), ["degraded"]);
    let mut facts = healthy();
    degraded(&mut facts);
    assert!(text(&facts, "degraded").contains("without zone b since noon"));
    assert_eq!(found(|facts| facts.mode = Mode::Recovering("b".to_owned())), ["recovering"]);
    assert_eq!(found(|facts| facts.mode = Mode::None), ["no-modes"]);
}

#[test]
fn zone_that_is_drained() {
    let drain = |zone: &'static str| {
        move |facts: &mut Facts| {
            facts.drained_zone = Some(zone.to_owned());
            facts.drained_since = "noon".to_owned();
        }
    };
    assert_eq!(found(drain("b")), ["zone-drained"]);
    let mut facts = healthy();
    drain("a")(&mut facts);
    assert!(text(&facts, "zone-drained").ends_with("the lead is there all the same"));
}

#[test]
fn preferred_zone_that_does_not_lead() {
    assert_eq!(found(|facts| facts.preferred_zone = Some("a".to_owned())), [] as [&str; 0]);
    assert_eq!(
        found(|facts| facts.preferred_zone = Some("b".to_owned())),
        ["preferred-not-leading"]
    );
    let drained = found(|facts| {
        facts.preferred_zone = Some("b".to_owned());
        facts.drained_zone = Some("b".to_owned());
    });
    assert_eq!(drained, ["zone-drained"], "one reason is enough");
}

#[test]
fn clocks_that_differ() {
    let apart = |one: i64, other: i64| {
        found(|facts| {
            let set = |facts: &mut Facts, of: u64, peer: u64, ahead| {
                let own = own_of(facts, of);
                own.peers.iter_mut().find(|p| p.node == peer).unwrap().clock_ahead_ms = ahead;
            };
            set(facts, 1, 4, one);
            set(facts, 4, 1, other);
        })
    };
    assert_eq!(apart(1_001, -1_001), ["clocks-apart"]);
    assert_eq!(apart(1_000, -1_000), [] as [&str; 0]);
    assert_eq!(apart(9_000, 3), [] as [&str; 0], "one of the two met a pause");
    let mut facts = healthy();
    for peer in &mut own_of(&mut facts, 1).peers {
        peer.clock_ahead_ms = if peer.node == 5 { 6_000 } else { 0 };
    }
    for id in 2..=4 {
        own_of(&mut facts, id).peers.retain(|peer| peer.node != 5);
    }
    assert!(text(&facts, "clocks-apart").contains("over 5 s"), "the witness's, seen from one node");
    // What was read long ago tells nothing of now.
    own_of(&mut facts, 1).peers.iter_mut().for_each(|peer| peer.read_ago_ms = 6_000);
    assert_eq!(codes(&facts), INHERENT);
}

#[test]
fn machine_that_may_be_paused_unnoticed() {
    assert_eq!(found(|facts| own_of(facts, 2).may_be_paused = true), ["-pauses-unknown"]);
}

#[test]
fn link_that_is_slow_for_the_timers() {
    let slow = |us: u64| {
        found(|facts| {
            for (of, peer) in [(2, 3), (3, 2)] {
                let own = own_of(facts, of);
                own.peers.iter_mut().find(|p| p.node == peer).unwrap().round_trip_us = us;
            }
        })
    };
    assert_eq!(slow(30_001), ["slow-link"]);
    assert_eq!(slow(30_000), [] as [&str; 0]);
}

#[test]
fn software_that_differs() {
    assert_eq!(found(|facts| own_of(facts, 2).version = "0.2.0".to_owned()), ["versions-differ"]);
    let witness = |facts: &mut Facts| {
        for id in 1..=4 {
            own_of(facts, id)
                .peers
                .iter_mut()
                .filter(|p| p.node == 5)
                .for_each(|p| p.version = "0.0.9".to_owned());
        }
    };
    assert_eq!(found(witness), ["versions-differ"]);
    let mut facts = healthy();
    witness(&mut facts);
    assert_eq!(
        text(&facts, "versions-differ"),
        "nodes run different software: 0.0.9 on 5; 0.1.0 on 1, 2, 3, 4"
    );
}

#[test]
fn cluster_version_that_can_be_raised() {
    assert_eq!(found(|facts| facts.cluster_version = 1), ["version-behind"]);
    let one_is_old = found(|facts| {
        facts.cluster_version = 1;
        own_of(facts, 4).cluster_version_max = 1;
    });
    assert_eq!(one_is_old, [] as [&str; 0]);
}

#[test]
fn certificate_that_ends() {
    let node = |days| {
        found(|facts| own_of(facts, 2).certificates = vec![end("the node certificate", days, 14)])
    };
    assert_eq!(node(13), ["certificate-ends"]);
    assert_eq!(node(14), [] as [&str; 0]);
    let authority =
        |days| found(|facts| facts.certificates = vec![end("the authority", days, 180)]);
    assert_eq!(authority(179), ["certificate-ends"]);
    let mut facts = healthy();
    own_of(&mut facts, 2).certificates = vec![end("the node certificate", 3, 14)];
    assert_eq!(
        text(&facts, "certificate-ends"),
        "the node certificate of node 2 ends in 3 days: 2027-01-18T08:00:00Z"
    );
    facts.now_unix += 4 * DAY_S;
    assert!(text(&facts, "certificate-ends").contains("has ended"));
}

#[test]
fn operators_who_are_too_few() {
    assert_eq!(found(|facts| facts.operators = Some(1)), ["few-operators"]);
    let dev = found(|facts| (facts.operators, facts.dev) = (Some(1), true));
    assert_eq!(dev, ["-few-operators"]);
    assert_eq!(found(|facts| facts.operators = None), [] as [&str; 0]);
}

#[test]
fn two_zones_without_a_third_place_are_labelled() {
    let mut facts = facts(vec![data(1, "a"), data(2, "a"), data(3, "b")]);
    facts.majority_zone = Some("a".to_owned());
    assert_eq!(codes(&facts), ["-survivor-no-slack", "-two-places", "-lone-voter"]);
    let label = text(&facts, "two-places");
    assert!(
        label.contains("manual failover for the preferred zone. When zone a is lost"),
        "{label}"
    );
    // The loss of the preferred zone is what the label is about; any other need is a warning.
    let survivals = survivals(&facts);
    let zone = |name: &str| survivals.iter().find(|s| s.loss == name).unwrap();
    assert!(!zone("zone a").changes && zone("zone b").changes);
}

fn lost<'a>(survivals: &'a [Survival], loss: &str) -> &'a Survival {
    survivals.iter().find(|survival| survival.loss == loss).unwrap()
}

#[test]
fn what_two_two_one_survives() {
    let survivals = survivals(&healthy());
    let table: Vec<_> = survivals
        .iter()
        .map(|s| (s.loss.as_str(), s.changes, s.slack, s.keys, s.durable))
        .collect();
    assert_eq!(
        table,
        [
            ("any one node", true, 1, true, true),
            ("zone a", true, 0, true, true),
            ("zone b", true, 0, true, true),
            ("the witness", true, 1, true, true),
            ("zone a and the witness", false, 0, true, true),
            ("zone b and the witness", false, 0, true, true),
        ]
    );
    assert_eq!(
        lost(&survivals, "zone a").sentence,
        "changes go on, and one more node lost stops them; keys go on being used; nothing that was acknowledged is lost"
    );
    assert_eq!(
        lost(&survivals, "zone a and the witness").sentence,
        "changes stop until it is back; keys go on being used for their grace, and those that fail closed stop; nothing \
         that was acknowledged is lost"
    );
}

#[test]
fn what_is_acknowledged_without_a_zone_may_be_lost_with_the_other_and_the_witness() {
    let mut facts = healthy();
    facts.mode = Mode::Degraded("b".to_owned());
    facts.mode_since = "noon".to_owned();
    let survivals = survivals(&facts);
    assert!(lost(&survivals, "zone a").durable, "the witness has it");
    let both = lost(&survivals, "zone a and the witness");
    assert!(
        !both.durable && both.sentence.ends_with("what was changed since noon may be lost"),
        "{}",
        both.sentence
    );
    assert!(lost(&survivals, "zone b and the witness").durable, "zone a is whole");
}

#[test]
fn sealed_zone_can_neither_lead_nor_use_keys() {
    let mut facts = healthy();
    own_of(&mut facts, 3).is_sealed = true;
    own_of(&mut facts, 4).is_sealed = true;
    let survivals = survivals(&facts);
    let zone = lost(&survivals, "zone a");
    assert!(!zone.changes && !zone.keys, "{}", zone.sentence);
}

#[test]
fn worst_node_is_named_where_not_any_may_be_lost() {
    let mut facts = facts(vec![data(1, "a"), data(3, "b"), witness(5)]);
    assert_eq!(survivals(&facts)[0].loss, "any one node");
    silence(of(&mut facts, 3));
    let worst = &survivals(&facts)[0];
    assert_eq!((worst.loss.as_str(), worst.changes, worst.keys), ("node 1", false, false));
}
