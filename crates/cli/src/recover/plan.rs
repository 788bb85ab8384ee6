//! `twinkeep recover plan`: asks what is left, refuses where there is no need, and writes the order.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::future::join_all;
use serde::Serialize;
use time::OffsetDateTime;
use twinkeep_client::{Client, v1};
use twinkeep_core::id::{Incarnation, NodeId};
use twinkeep_core::recovery::{LastEntry, RecoveryOrder, Survivor};
use twinkeep_pki::{PublicKey, RecoveryOrderFile};

use super::statement::{Candidate, Statement};
use crate::context::Context;
use crate::output::{Format, Show, Sink, show, time};

/// How long each node has for its answer.
const NODE_LIMIT: Duration = Duration::from_secs(2);
/// A node that was heard more lately is not powered off.
const SILENCE_MIN_MS: u64 = 3_000;
/// New node ids begin after the next multiple of this: no id that the lost side may have given meanwhile is given
/// again.
const ID_STEP: u64 = 100;

/// Who goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The zone that goes on. Its data nodes that answer do; every other node is lost for good.
    #[arg(long)]
    zone: String,
    /// How long the operators have, from now on.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(60..=RecoveryOrder::LIFE_MAX_MS / 1000 - 60),
        default_value_t = 4 * 3600
    )]
    lifetime: u64,
    #[command(flatten)]
    sink: Sink,
}

impl Plan {
    /// Looks, judges, and writes the order.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client()?.any_state();
        let seen = Seen::of(&client).await?;
        seen.refuse_while_others_live(&self.zone)?;
        let (file, statement) = seen.order(&self.zone, self.lifetime)?;
        let text = file.to_text();
        let format = context.format();
        if self.sink.is_file() || !format.is_document() {
            self.sink.write(text.as_bytes(), false)?;
        }
        let order = (!self.sink.is_file() && format.is_document()).then_some(text);
        let planned = Planned {
            statement,
            lost: file.order().lost.iter().map(|node| node.get()).collect(),
            go_on: file.order().survivors.iter().map(|survivor| survivor.former.get()).collect(),
            approvals_min: seen.status.approvals_min,
            expires: time(file.order().expires_ms),
            order,
        };
        match format {
            // Standard output has the order itself.
            Format::Table => Ok(planned.table(&mut io::stderr())?),
            _ => show(format, &planned),
        }
    }
}

/// What is planned.
#[derive(Debug, Serialize)]
struct Planned {
    statement: Statement,
    /// The nodes that have to be powered off for good.
    lost: Vec<u64>,
    /// The nodes that go on; the first one brings the state.
    go_on: Vec<u64>,
    approvals_min: u32,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<String>,
}

impl Show for Planned {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let list = |nodes: &[u64]| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", node ")
        };
        writeln!(out, "{}", self.statement.says)?;
        writeln!(
            out,
            "Lost for good: node {}. Be sure that they are powered off.",
            list(&self.lost)
        )?;
        writeln!(out, "Go on: node {}. The first one brings the state.", list(&self.go_on))?;
        writeln!(
            out,
            "{} operators have to approve the order until {}, each with\n  \
             twinkeep operator approve --key FILE --name NAME ORDER\n\
             then stop the nodes that go on, and type on each of them, on the first one last,\n  \
             twinkeep recover apply --config FILE ORDER --approval TEXT --approval TEXT",
            self.approvals_min, self.expires
        )
    }
}

/// What the nodes that answer say.
struct Seen {
    status: v1::GetStatusResponse,
    /// Of each data node that answers.
    nodes: BTreeMap<u64, (v1::GetStatusResponse, v1::DiagnoseResponse)>,
}

impl Seen {
    async fn of(client: &Client) -> anyhow::Result<Self> {
        let request = v1::GetStatusRequest::default();
        let status = client.get_status(request).await.context("no node answers")?;
        let answers = join_all(status.members.iter().map(|member| answer(client, member))).await;
        let nodes = status.members.iter().zip(answers);
        let nodes = nodes.filter_map(|(member, answer)| Some((member.node_id, answer?))).collect();
        Ok(Self { status, nodes })
    }

    /// Refuses a recovery that nobody needs, and one that could leave two clusters.
    fn refuse_while_others_live(&self, zone: &str) -> anyhow::Result<()> {
        let members = || living(&self.status.members);
        ensure!(
            members().any(|member| place(member).zone == zone && is_data(member)),
            "no data node stands in zone {zone}"
        );
        for member in members().filter(|member| !self.goes_on(member, zone)) {
            let (node, at) = (member.node_id, place(member));
            ensure!(
                !self.nodes.contains_key(&node),
                "node {node} of zone {} answers: it would have to be powered off for good. A cluster that can reach its \
                 quorum needs no recovery; see `twinkeep doctor`",
                at.zone
            );
            let heard = self.nodes.values().flat_map(|(_, said)| &said.peers);
            let last = heard.filter(|peer| peer.node_id == node).map(|peer| peer.read_ago_ms).min();
            if let Some(ago) = last.filter(|ago| *ago < SILENCE_MIN_MS) {
                bail!(
                    "node {node} of zone {} was heard {ago} ms ago: it would have to be powered off for good. If it just \
                     was, try again in {} s",
                    at.zone,
                    SILENCE_MIN_MS / 1000
                );
            }
        }
        let voters =
            || members().filter(|member| member.standing == i32::from(v1::Standing::Voter));
        let (all, left) =
            (voters().count(), voters().filter(|member| self.goes_on(member, zone)).count());
        ensure!(
            2 * left <= all,
            "{left} of {all} voters answer: they are a quorum, and the cluster goes on by itself"
        );
        Ok(())
    }

    fn goes_on(&self, member: &v1::Member, zone: &str) -> bool {
        is_data(member) && place(member).zone == zone && self.nodes.contains_key(&member.node_id)
    }

    fn order(&self, zone: &str, lifetime: u64) -> anyhow::Result<(RecoveryOrderFile, Statement)> {
        let (going, lost): (Vec<_>, Vec<_>) =
            living(&self.status.members).partition(|member| self.goes_on(member, zone));
        let is_voter = |member: &v1::Member| member.standing == i32::from(v1::Standing::Voter);
        let candidates: Vec<_> = going
            .iter()
            .filter_map(|member| {
                let (status, said) = self.nodes.get(&member.node_id)?;
                let end = said.log_end?;
                Some(Candidate {
                    node: member.node_id,
                    end: (end.term, end.leader_node_id, end.index),
                    is_voter: is_voter(member),
                    complete_until_ms: complete_until_ms(status),
                })
            })
            .collect();
        let missing = lost
            .iter()
            .filter(|member| is_voter(member) && is_data(member) && place(member).zone == zone);
        let missing: Vec<_> = missing.map(|member| member.node_id).collect();
        let statement = Statement::of(&candidates, &missing, &elsewhere(&lost, zone))
            .with_context(|| format!("no voter of zone {zone} answers"))?;
        let first = statement.state_from;
        let end = self.nodes[&first].1.log_end.context("the newest log is empty")?;
        let highest = self.status.members.iter().map(|member| member.node_id).max().unwrap_or(0);
        let base = highest.next_multiple_of(ID_STEP);
        let (mut survivors, mut keys) = (Vec::new(), Vec::new());
        let mut nodes: Vec<_> = going.iter().map(|member| member.node_id).collect();
        nodes.sort_by_key(|node| (*node != first, *node));
        for (node, new) in nodes.iter().zip(base + 1..) {
            let key = PublicKey::from_spki(&self.nodes[node].1.node_public_key)
                .with_context(|| format!("node {node} names no public key"))?;
            let (former, node) = (NodeId::new(*node)?, NodeId::new(new)?);
            survivors.push(Survivor { former, node, spki_sha256: key.sha256() });
            keys.push(key);
        }
        let expires = OffsetDateTime::now_utc() + Duration::from_secs(lifetime);
        let order = RecoveryOrder {
            cluster: self.status.cluster_id.parse()?,
            ends: Incarnation::new(self.status.incarnation)?,
            last: LastEntry { term: end.term, leader: end.leader_node_id, index: end.index },
            complete_until_ms: statement.complete_until_ms,
            expires_ms: u64::try_from(expires.unix_timestamp())? * 1000,
            survivors,
            lost: lost.iter().map(|m| NodeId::new(m.node_id)).collect::<Result<_, _>>()?,
        };
        Ok((RecoveryOrderFile::new(order, keys)?, statement))
    }
}

/// Names where the lost nodes stand.
fn elsewhere(lost: &[&v1::Member], zone: &str) -> String {
    let mut zones: Vec<_> =
        lost.iter().map(|member| place(member).zone).filter(|other| other != zone).collect();
    zones.sort_unstable();
    zones.dedup();
    format!("zone {}", zones.join(" with zone "))
}

fn complete_until_ms(status: &v1::GetStatusResponse) -> u64 {
    status.replication.as_ref().map_or(0, |replication| replication.zone_complete_until_unix_ms)
}

fn living(members: &[v1::Member]) -> impl Iterator<Item = &v1::Member> {
    members.iter().filter(|member| member.standing != i32::from(v1::Standing::Removed))
}

fn is_data(member: &v1::Member) -> bool {
    member.role == i32::from(v1::NodeRole::Data)
}

fn place(member: &v1::Member) -> v1::Placement {
    member.placement.clone().unwrap_or_default()
}

/// What a data node says of itself; `None` for a witness and one that does not answer.
async fn answer(
    client: &Client,
    member: &v1::Member,
) -> Option<(v1::GetStatusResponse, v1::DiagnoseResponse)> {
    if !is_data(member) {
        return None;
    }
    let node = client.at(&place(member).client_address)?.any_state().with_deadline(NODE_LIMIT);
    let status = node.get_status(v1::GetStatusRequest::default()).await.ok()?;
    let said = node.diagnose(v1::DiagnoseRequest::default()).await.ok()?;
    Some((status, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinkeep_pki::PrivateKey;

    const DATA: i32 = v1::NodeRole::Data as i32;
    const WITNESS: i32 = v1::NodeRole::Witness as i32;

    fn member(node_id: u64, role: i32, zone: &str) -> v1::Member {
        let placement = v1::Placement { zone: zone.to_owned(), ..Default::default() };
        let (standing, placement) = (v1::Standing::Voter.into(), Some(placement));
        v1::Member { node_id, role, standing, placement, ..Default::default() }
    }

    fn seen(answering: &[(u64, u64)], heard: &[(u64, u64)]) -> Seen {
        let members = [(1, "a"), (2, "a"), (3, "b"), (4, "b")].map(|(id, z)| member(id, DATA, z));
        let members = [&members[..], &[member(5, WITNESS, "w")]].concat();
        let replication =
            v1::Replication { zone_complete_until_unix_ms: 9_000, ..Default::default() };
        let status = v1::GetStatusResponse {
            cluster_id: format!("clu-{}", "10".repeat(16)),
            incarnation: 1,
            members,
            replication: Some(replication),
            ..Default::default()
        };
        let peer = |(node_id, read_ago_ms): &(u64, u64)| v1::PeerDiagnosis {
            node_id: *node_id,
            read_ago_ms: *read_ago_ms,
            ..Default::default()
        };
        let said = |index| v1::DiagnoseResponse {
            log_end: Some(v1::LogEnd { term: 3, leader_node_id: 1, index }),
            node_public_key: PrivateKey::generate().unwrap().public_key().spki().into(),
            peers: heard.iter().map(peer).collect(),
            ..Default::default()
        };
        let nodes = answering.iter().map(|(node, index)| (*node, (status.clone(), said(*index))));
        Seen { nodes: nodes.collect(), status }
    }

    #[test]
    fn zone_that_is_left_goes_on_with_the_newest_log_first() {
        let seen = seen(&[(3, 70), (4, 77)], &[(1, 60_000), (5, 9_000)]);
        seen.refuse_while_others_live("b").unwrap();
        let (file, statement) = seen.order("b", 3600).unwrap();
        let order = file.order();
        let going: Vec<_> =
            order.survivors.iter().map(|s| (s.former.get(), s.node.get())).collect();
        assert_eq!(going, [(4, 101), (3, 102)]);
        assert_eq!(order.lost.iter().map(|n| n.get()).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!((order.last.index, order.complete_until_ms), (77, 9_000));
        assert!(statement.says.contains("If zone a with zone w was lost by then"), "{statement:?}");
    }

    #[test]
    fn node_of_the_zone_that_does_not_answer_is_lost_too_and_nothing_is_promised() {
        let seen = seen(&[(3, 70)], &[]);
        seen.refuse_while_others_live("b").unwrap();
        let (file, _) = seen.order("b", 3600).unwrap();
        assert_eq!(file.order().lost.iter().map(|n| n.get()).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert_eq!(file.order().complete_until_ms, 0);
    }

    #[test]
    fn recovery_is_refused_while_anybody_else_lives() {
        let refused =
            |seen: Seen, zone| seen.refuse_while_others_live(zone).unwrap_err().to_string();
        let answers = refused(seen(&[(1, 7), (3, 7), (4, 7)], &[]), "b");
        assert!(answers.starts_with("node 1 of zone a answers"), "{answers}");
        let witness = refused(seen(&[(3, 7), (4, 7)], &[(5, 400)]), "b");
        assert!(witness.starts_with("node 5 of zone w was heard 400 ms ago"), "{witness}");
        assert!(refused(seen(&[(3, 7)], &[]), "c").starts_with("no data node stands in zone c"));
    }
}
