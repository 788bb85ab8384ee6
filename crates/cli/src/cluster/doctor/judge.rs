//! What is wrong or may go wrong: facts in, findings out. Nothing here asks anybody.

use serde::Serialize;

use super::facts::{Certificate, Facts, Mode, Node, Own};
use super::survival::survivals;
use crate::output::time;

/// Clocks that lie further apart are told of.
const CLOCK_APART_MS: u64 = 1_000;
/// Clocks that lie further apart are not believed: a leader with such a clock lets the cluster's time stand still.
const CLOCK_BOUND_MS: u64 = 5_000;
/// Fewer syncs say nothing of the slowest in a hundred.
const SYNCS_MIN: u64 = 100;
/// A disk with a smaller share free is told of, in percent: as the alert `disk-fills`.
const FREE_PERCENT_MIN: u64 = 10;
/// An election has to have room for so many round trips.
const ROUND_TRIPS_IN_ELECTION: u64 = 5;
/// Entries that a node may lack before it is told of: as the alert `node-behind`.
const BEHIND_MAX: u64 = 1_000;
/// People who have to hold the recovery bundle.
const OPERATORS_MIN: u32 = 2;

/// A reading of a peer that is older tells of the past.
const READ_AGO_MAX_MS: u64 = 5_000;

const DAY_S: u64 = 24 * 3600;

/// Something to look at, or to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// Names the kind of finding, for programs.
    pub(super) code: &'static str,
    /// What it is.
    pub(super) text: String,
    /// What to do.
    pub(super) way_out: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Level {
    /// Something has to be done.
    Warning,
    /// It is as it was set up, and has a price.
    Note,
}

fn warning(code: &'static str, text: impl Into<String>, way_out: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, code, text: text.into(), way_out: way_out.into() }
}

fn note(code: &'static str, text: impl Into<String>, way_out: impl Into<String>) -> Finding {
    Finding { level: Level::Note, code, text: text.into(), way_out: way_out.into() }
}

/// Returns all findings, warnings first.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(leader(facts));
    all.extend(facts.nodes.iter().flat_map(|node| of_node(facts, node)));
    all.extend(slack(facts));
    all.extend(replication(facts));
    all.extend(leadership(facts));
    all.extend(topology(facts));
    all.extend(clocks(facts));
    all.extend(links(facts));
    all.extend(versions(facts));
    all.extend(facts.certificates.iter().filter_map(|c| certificate(c, None, facts.now_unix)));
    all.extend(operators(facts));
    all.sort_by_key(|finding| finding.level);
    all
}

fn leader(facts: &Facts) -> Option<Finding> {
    let is_missing = facts.leader.is_none();
    is_missing.then(|| {
        let way_out = "see who does not answer, and runbook.md, no-leader";
        warning(
            "no-leader",
            "nobody leads: keys can be used for their grace, changes wait",
            way_out,
        )
    })
}

fn of_node(facts: &Facts, node: &Node) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(silence(facts, node));
    if let Some(behind) = node.behind.filter(|behind| *behind > BEHIND_MAX) {
        let text = format!("node {} lacks {behind} committed entries", node.id);
        found.push(warning("node-behind", text, "see runbook.md, node-behind"));
    }
    if let Some(own) = &node.own {
        found.extend(of_machine(node.id, own));
        found.extend(
            own.certificates.iter().filter_map(|c| certificate(c, Some(node.id), facts.now_unix)),
        );
    }
    found
}

fn silence(facts: &Facts, node: &Node) -> Option<Finding> {
    let id = node.id;
    if node.is_up.is_none() {
        let text = format!("nobody who answered knows how node {id} is");
        return Some(warning("node-unknown", text, "ask again once there is a leader"));
    }
    if node.is_up == Some(true) {
        let is_deaf = !node.is_witness && node.own.is_none();
        return is_deaf.then(|| {
            let text = format!("node {id} is heard by its peers and does not answer callers");
            warning(
                "node-deaf",
                text,
                format!("read what it says on its machine: `journalctl -u twinkeepd` on node {id}"),
            )
        });
    }
    let heard = facts.nodes.iter().filter_map(|other| other.own.as_ref());
    let reading = heard.flat_map(|own| &own.peers).filter(|peer| peer.node == id);
    let since = reading.map(|peer| peer.read_ago_ms / 1000).min();
    let since = since.map(|s| format!(", last heard {s} s ago")).unwrap_or_default();
    let (all, counted) =
        (facts.voters().count(), facts.voters().filter(|node| node.counts()).count());
    Some(match node.is_voter {
        true => warning(
            "dead-voter",
            format!(
                "node {id} is silent{since}, and still counts: {counted} of {all} voters are there"
            ),
            format!(
                "start it again; if it is gone for good, `twinkeep cluster remove {id} --yes` and admit another one"
            ),
        ),
        false => warning(
            "node-silent",
            format!("node {id}, a serving learner, is silent{since}"),
            format!("start it again, or `twinkeep cluster remove {id} --yes`"),
        ),
    })
}

fn of_machine(id: u64, own: &Own) -> Vec<Finding> {
    let mut found = Vec::new();
    if own.is_sealed {
        let text = format!("node {id} is sealed: it uses no key and cannot lead");
        found.push(warning("node-sealed", text, "`twinkeep unseal`"));
    }
    if !own.takes_part {
        let text = format!(
            "node {id} does not vote: since it started it has not met enough others, or none who was there all the time"
        );
        let way_out = "start the other zone; if that is lost and nobody has recovered the cluster without this node, on its \
                       machine `twinkeep recover override`, see operations.md, a zone and the witness";
        found.push(warning("takes-no-part", text, way_out));
    }
    if !own.is_fresh {
        let text = format!(
            "node {id} has heard from no leader for longer than a freshness lease: it does not learn what is disabled"
        );
        found.push(warning("state-old", text, "see runbook.md, state-old"));
    }
    // An answer to a vote waits for a sync, and a change for two.
    let sync_max_us = 2 * own.heartbeat_ms * 1000;
    if own.log_syncs >= SYNCS_MIN && own.log_sync_p99_us > sync_max_us {
        let (p99, max, election) =
            (own.log_sync_p99_us / 1000, sync_max_us / 1000, own.election_min_ms);
        let text = format!(
            "the disk of node {id} is slow for the timers: one in a hundred syncs of the log takes {p99} ms or more, \
             over {max} ms, where elections begin after {election} ms"
        );
        found.push(warning(
            "slow-disk",
            text,
            "give the log a disk of its own; see runbook.md, log-sync-slow",
        ));
    }
    let (size, free) = own.disk;
    if size > 0 && free < size / 100 * FREE_PERCENT_MIN {
        let text =
            format!("the disk of node {id} fills: {} of {} MiB are free", free >> 20, size >> 20);
        found.push(warning("disk-fills", text, "see runbook.md, disk-fills"));
    }
    found
}

/// Says what could be survived and is not, and where nothing may be lost on top.
fn slack(facts: &Facts) -> Vec<Finding> {
    let (all, majority) = (facts.voters().count(), facts.majority());
    let counted = facts.voters().filter(|node| node.counts()).count();
    if facts.leader.is_none() || counted < majority {
        return Vec::new();
    }
    if counted == majority && all > 1 {
        let text = format!(
            "nothing is left to lose: {counted} of {all} voters are there, and {majority} are needed"
        );
        return vec![warning("no-slack", text, "bring the others back before anything else")];
    }
    let mut found = Vec::new();
    let zones = facts.data_zones();
    for survival in survivals(facts) {
        let is_zone = zones.iter().any(|zone| survival.loss == format!("zone {zone}"));
        let is_meant = facts
            .majority_zone
            .as_ref()
            .is_some_and(|zone| survival.loss == format!("zone {zone}"));
        if is_zone && !survival.changes && !is_meant && zones.len() > 1 {
            let text = format!("{} cannot be lost now: {}", survival.loss, survival.sentence);
            found.push(warning(
                "zone-needed",
                text,
                "bring back the nodes that are missing elsewhere",
            ));
        } else if is_zone && survival.changes && survival.slack == 0 {
            let text = format!(
                "without {} nothing more may be lost: changes then need every node that is left",
                survival.loss
            );
            let way_out = "it is so with any two zones and a witness: look after the nodes that are left first";
            found.push(note("survivor-no-slack", text, way_out));
        }
    }
    found
}

fn replication(facts: &Facts) -> Option<Finding> {
    let since = match facts.mode_since.as_str() {
        "" => String::new(),
        since => format!(" since {since}"),
    };
    match &facts.mode {
        Mode::Sync => None,
        Mode::None => Some(warning(
            "no-modes",
            "the cluster is at a version without replication modes: a change may be in one zone alone",
            "raise the cluster's version once every node runs this software",
        )),
        Mode::Degraded(zone) => Some(warning(
            "degraded",
            format!(
                "changes are kept without zone {zone}{since}: what is changed meanwhile is in one zone"
            ),
            "bring the zone back; see runbook.md, zone-not-counted-on",
        )),
        Mode::Recovering(zone) => Some(warning(
            "recovering",
            format!("zone {zone} catches up{since}, and is not counted on yet"),
            "wait; see runbook.md, zone-not-counted-on, if that takes minutes",
        )),
    }
}

fn leadership(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let leads_in = facts.leader.and_then(|leader| facts.zone_of(leader));
    if let Some(zone) = &facts.drained_zone {
        let where_to =
            if leads_in == Some(zone) { ", and the lead is there all the same" } else { "" };
        let text = format!("zone {zone} is drained since {}{where_to}", facts.drained_since);
        found.push(warning(
            "zone-drained",
            text,
            format!("`twinkeep zone undrain {zone}` once its machines are back"),
        ));
    }
    let home =
        facts.preferred_zone.as_ref().filter(|zone| facts.drained_zone.as_ref() != Some(*zone));
    if let (Some(home), Some(leads_in)) = (home, leads_in)
        && leads_in != home
    {
        let text = format!("zone {home} is preferred, and the leader stands in zone {leads_in}");
        let way_out = "it goes back once both zones were in sync for a while; if not, see who is missing there";
        found.push(warning("preferred-not-leading", text, way_out));
    }
    found
}

fn topology(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let zones = facts.data_zones();
    if facts.witness().is_none() && zones.len() > 1 {
        let text = match &facts.majority_zone {
            Some(zone) => format!(
                "two zones and no third place: manual failover for the preferred zone. When zone {zone} is lost, \
                 changes stop until an operator recovers the cluster; keys go on being used for their grace"
            ),
            None => {
                "two zones and no third place: when either is lost, changes may stop".to_owned()
            }
        };
        found.push(note(
            "two-places",
            text,
            "a witness in a third place makes the loss of either zone pass by itself",
        ));
    }
    for zone in zones {
        let mut voters = facts.voters().filter(|node| node.zone == zone && !node.is_witness);
        if let (Some(only), None) = (voters.next(), voters.next()) {
            let text = format!(
                "zone {zone} has one voter, node {}: restarting it takes the zone out of sync",
                only.id
            );
            found.push(note("lone-voter", text, "a second data node in the zone spares that"));
        }
    }
    found
}

fn clocks(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (one, other, apart_ms) in pairs(facts, |peer| peer.clock_ahead_ms.unsigned_abs()) {
        if apart_ms <= CLOCK_APART_MS {
            continue;
        }
        let seconds = apart_ms / 1000;
        let bound = CLOCK_BOUND_MS / 1000;
        let effect = match apart_ms > CLOCK_BOUND_MS {
            true => format!(
                "over {bound} s: a leader with a wrong clock lets the cluster's time stand still, and nothing expires or falls due"
            ),
            false => format!("and at {bound} s the cluster's time may stand still"),
        };
        let text = format!("the clocks of nodes {one} and {other} lie {seconds} s apart, {effect}");
        found.push(warning(
            "clocks-apart",
            text,
            "have both machines follow the same time servers (chrony)",
        ));
    }
    let paused = facts.nodes.iter().filter(|n| n.own.as_ref().is_some_and(|own| own.may_be_paused));
    let paused: Vec<_> = paused.map(|node| node.id.to_string()).collect();
    if !paused.is_empty() {
        let text = format!(
            "nodes on a hypervisor without a clock that knows of its pauses: {}. A node that is paused as a whole may use \
             a key by a state that is older than its freshness lease, until its wall clock is set",
            paused.join(", ")
        );
        let way_out =
            "do not suspend or migrate these machines while revocations have to be certain";
        found.push(note("pauses-unknown", text, way_out));
    }
    found
}

fn links(facts: &Facts) -> Vec<Finding> {
    let Some(own) = facts.nodes.iter().find_map(|node| node.own.as_ref()) else {
        return Vec::new();
    };
    let max_us = own.election_min_ms * 1000 / ROUND_TRIPS_IN_ELECTION;
    let slow =
        pairs(facts, |peer| peer.round_trip_us).into_iter().filter(|(_, _, us)| *us > max_us);
    slow.map(|(one, other, us)| {
        let text = format!(
            "the link between nodes {one} and {other} is slow for the timers: a round trip takes {} ms, and elections \
             have room for {} ms",
            us / 1000,
            max_us / 1000
        );
        warning("slow-link", text, "see what the network between them does; zones should be within a few milliseconds")
    })
    .collect()
}

/// Returns for each pair of nodes the smallest of what either read of the other: one reading may have met a pause.
fn pairs(facts: &Facts, read: impl Fn(&super::facts::Peer) -> u64) -> Vec<(u64, u64, u64)> {
    let mut pairs = std::collections::BTreeMap::new();
    for node in &facts.nodes {
        let peers = node.own.iter().flat_map(|own| &own.peers);
        for peer in peers.filter(|peer| peer.read_ago_ms <= READ_AGO_MAX_MS) {
            let pair = (node.id.min(peer.node), node.id.max(peer.node));
            let least = pairs.entry(pair).or_insert(u64::MAX);
            *least = read(peer).min(*least);
        }
    }
    pairs.into_iter().map(|((one, other), least)| (one, other, least)).collect()
}

fn versions(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut versions = std::collections::BTreeMap::<&str, std::collections::BTreeSet<u64>>::new();
    for node in &facts.nodes {
        let Some(own) = &node.own else { continue };
        versions.entry(&own.version).or_default().insert(node.id);
        // A witness tells its peers alone.
        for peer in &own.peers {
            let is_silent = facts.nodes.iter().any(|n| n.id == peer.node && n.own.is_none());
            if is_silent && !peer.version.is_empty() {
                versions.entry(&peer.version).or_default().insert(peer.node);
            }
        }
    }
    if versions.len() > 1 {
        let each = versions.iter().map(|(version, nodes)| {
            let nodes: Vec<_> = nodes.iter().map(u64::to_string).collect();
            format!("{version} on {}", nodes.join(", "))
        });
        let text = format!("nodes run different software: {}", each.collect::<Vec<_>>().join("; "));
        found.push(warning(
            "versions-differ",
            text,
            "finish the upgrade, one node after the other",
        ));
    }
    let understood =
        facts.nodes.iter().filter_map(|n| n.own.as_ref()).map(|own| own.cluster_version_max).min();
    let present = facts.cluster_version;
    if let Some(newest) = understood.filter(|newest| *newest > present && versions.len() == 1) {
        let text = format!(
            "the cluster behaves as version {present}, and every node that answers understands {newest}"
        );
        found.push(warning(
            "version-behind",
            text,
            "raise the cluster's version: what is newer is off until then",
        ));
    }
    found
}

fn certificate(certificate: &Certificate, node: Option<u64>, now_unix: u64) -> Option<Finding> {
    let Certificate { whose, not_after_unix, notice_days, way_out } = certificate;
    let left = not_after_unix.saturating_sub(now_unix);
    if left >= notice_days * DAY_S {
        return None;
    }
    let of = node.map(|id| format!(" of node {id}")).unwrap_or_default();
    let end = time(not_after_unix * 1000);
    let text = match left {
        0 => format!("{whose}{of} has ended: {end}"),
        left => format!("{whose}{of} ends in {} days: {end}", left / DAY_S),
    };
    Some(warning("certificate-ends", text, *way_out))
}

fn operators(facts: &Facts) -> Option<Finding> {
    let operators = facts.operators.filter(|operators| *operators < OPERATORS_MIN)?;
    let text = format!(
        "the cluster has {operators} operator: whoever loses that key loses the recovery bundle with it"
    );
    let way_out = "operators are named when a cluster begins: name two at least next time";
    Some(match facts.dev {
        true => note("few-operators", text, way_out),
        false => warning("few-operators", text, way_out),
    })
}

#[cfg(test)]
pub(super) mod tests;
