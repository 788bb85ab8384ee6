//! Asking the others, until this node takes part by Raft's own rules.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::NodeRole;
use twinkeep_proto::peer::v1 as pb;

use super::company::Company;
use super::floor::{Verdict, judge};
use super::phase::Phase;
use super::shown::{Acknowledged, Shown, Start};
use crate::node::Shared;
use crate::transport::{Purpose, acknowledged_in, membership_in, shown_in, start_out};
use crate::types::StoredMembership;

/// Pause between two attempts with a node that does not answer.
const RETRY: Duration = Duration::from_millis(20);
/// How long one attempt may take.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// How often a node that takes part above a floor looks whether it has reached it.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Pause before a node that has answered is asked again, while company is missing.
const COMPANY_INTERVAL: Duration = Duration::from_millis(100);
/// How long a node waits for company before it says so.
const COMPANY_PATIENCE: Duration = Duration::from_secs(2);
/// How long a node that hears from a quorum less itself alone waits for more: a zone may be lost.
const BARE_PATIENCE: Duration = Duration::from_secs(1);

/// What one node said.
struct Answer {
    node: u64,
    /// The newest start of this node that it knows of.
    newest: u64,
    shown: Shown,
    acknowledged: Option<Acknowledged>,
    membership: Option<StoredMembership>,
    /// Whether it takes part itself.
    vouches: bool,
}

/// What has been heard since this start was announced under its present number.
#[derive(Default)]
struct Heard {
    answers: BTreeMap<u64, Shown>,
    /// Memberships that are newer than this node's own, by the data nodes that have them.
    newer: BTreeMap<u64, StoredMembership>,
    /// Since when a quorum less this node has answered.
    bare_since: Option<Instant>,
    company: Company,
}

impl Heard {
    /// Returns the sets of voters that have to answer.
    fn sets<'a>(&'a self, own: &'a StoredMembership) -> Vec<&'a BTreeSet<u64>> {
        let newer = self.newer.values();
        [own].into_iter().chain(newer).flat_map(|m| m.membership().get_joint_config()).collect()
    }
}

impl Shared {
    /// Takes this node from its start to full part in the group. Ends when it is there, or refused.
    pub(crate) async fn take_part(self: Arc<Self>) {
        if let Err(error) = self.announce_until_full().await {
            // The failure of the log ends the node, and is told there.
            tracing::error!(%error, "the handshake cannot go on");
        }
    }

    async fn announce_until_full(&self) -> io::Result<()> {
        let began = Instant::now();
        let Some(own) = self.known_membership().await else { return Ok(()) };
        let is_alone = own.membership().voter_ids().all(|node| node == self.me.node.get());
        if is_alone || super::is_off() {
            // Before its first entry a node has nothing that it could have forgotten; what others remember of
            // it comes with the first heartbeat.
            self.enter(Phase::Full);
            return Ok(());
        }
        let mut heard = self.heard_nobody();
        let mut asked: BTreeSet<u64> = BTreeSet::new();
        let mut asking = FuturesUnordered::new();
        loop {
            for node in voters(&heard.sets(&own)) {
                if node != self.me.node.get() && asked.insert(node) {
                    asking.push(self.ask_until_answered(node, &own, Duration::ZERO));
                }
            }
            let answer = tokio::select! {
                Some(answer) = asking.next() => Some(answer),
                () = sleep(LOOK_INTERVAL) => None,
            };
            if let Some(answer) = answer {
                let own_start = self.boot.ledger.own();
                if let Some(held) = lost(&answer, &own_start) {
                    self.boot.refuse(held, answer.node);
                    return Ok(());
                }
                if answer.newest > own_start.number {
                    // Those who answered before know of a lower number than the one to come.
                    self.boot.ledger.rise_above(answer.newest, own_start.shown);
                    (heard, asked) = (self.heard_nobody(), BTreeSet::new());
                    asking.clear();
                    continue;
                }
                heard.answers.insert(answer.node, answer.shown);
                if let Some(record) = self.roster.living(answer.node).filter(is_data) {
                    heard.company.meet(record.placement.zone, answer.vouches);
                }
                if !self.has_company(&heard, &own) {
                    asking.push(self.ask_until_answered(answer.node, &own, COMPANY_INTERVAL));
                }
                let is_newer = |m: &StoredMembership| m.log_id() > own.log_id();
                if let Some(newer) = answer.membership.filter(is_newer) {
                    heard.newer.insert(answer.node, newer);
                }
            }
            if self.look(&mut heard, &own, began)? {
                return Ok(());
            }
        }
    }

    /// Moves this node on by what has been heard; tells whether it takes part fully now.
    fn look(&self, heard: &mut Heard, own: &StoredMembership, began: Instant) -> io::Result<bool> {
        // This node may have promised its vote to the leader that it followed before.
        if began.elapsed() < self.config.election_max {
            return Ok(false);
        }
        let verdict = judge(heard.sets(own), self.me.node.get(), &heard.answers);
        let floor = match verdict {
            Verdict::TooFew => return Ok(false),
            Verdict::Enough(floor) => floor,
            Verdict::Bare(floor) => {
                let since = *heard.bare_since.get_or_insert_with(Instant::now);
                if since.elapsed() < BARE_PATIENCE {
                    return Ok(false);
                }
                floor
            }
        };
        if !self.has_company(heard, own) {
            self.say_that_company_is_missing(began);
            return Ok(false);
        }
        let is_full = floor.is_reached_by(&self.boot.shown()?);
        self.enter(if is_full { Phase::Full } else { Phase::Above(floor) });
        Ok(is_full)
    }

    fn heard_nobody(&self) -> Heard {
        let own = self.roster.living(self.me.node.get()).filter(is_data);
        let company = Company::of(own.map(|record| record.placement.zone));
        Heard { company, ..Heard::default() }
    }

    /// Tells whether this node has met whom it has to.
    fn has_company(&self, heard: &Heard, own: &StoredMembership) -> bool {
        let voters = voters(&heard.sets(own));
        let records = voters.into_iter().filter_map(|node| self.roster.living(node));
        let zones = records.filter(is_data).map(|record| record.placement.zone).collect();
        heard.company.suffices(&zones) || self.boot.may_go_alone() || !self.needs_company()
    }

    fn say_that_company_is_missing(&self, began: Instant) {
        if began.elapsed() > COMPANY_PATIENCE && self.boot.says_it_once() {
            tracing::warn!(
                "this node does not take part: since it started it has met no data node of another zone, and none of \
                 its own that has been going on; start the other zone, or, if it is lost and nobody has recovered the \
                 cluster without this node, type `twinkeep recover override --socket <data folder>/admin.sock`"
            );
        }
    }

    fn enter(&self, phase: Phase) {
        if self.boot.enter(phase.clone()) {
            tracing::info!(?phase, after = ?self.opened.elapsed(), "boot handshake");
        }
        self.allow_elections();
    }

    /// Returns the membership that this node's log ends with; `None` once Raft has stopped.
    async fn known_membership(&self) -> Option<StoredMembership> {
        let read = self.raft.with_raft_state(|state| {
            let effective = state.membership_state.effective();
            StoredMembership::new(*effective.log_id(), effective.membership().clone())
        });
        read.await.ok()
    }

    fn ask_until_answered<'a>(
        &'a self,
        node: u64,
        own: &StoredMembership,
        after: Duration,
    ) -> impl Future<Output = Answer> + use<'a> {
        let contact = own.membership().get_node(&node).cloned();
        async move {
            sleep(after).await;
            let peer = self.links.peer(node, contact.as_ref());
            loop {
                if let Ok(Some(answer)) = timeout(ANSWER_MAX, self.ask(&peer)).await {
                    return answer;
                }
                sleep(RETRY).await;
            }
        }
    }

    /// Announces this start to a node; `None` when it does not answer, or not sensibly.
    async fn ask(&self, peer: &crate::transport::Peer) -> Option<Answer> {
        let (mut client, header) = peer.client(Purpose::Votes).ok()?;
        let (node, me) = (peer.node(), self.me.node.get());
        let start = start_out(me, &self.boot.ledger.own());
        let request = pb::AnnounceStartRequest { header: Some(header), start: Some(start) };
        let answer = match client.announce_start(request).await {
            Ok(answer) => answer.into_inner(),
            // Software before the handshake knows nothing. That is enough until an operator says otherwise.
            Err(status) if status.code() == Code::Unimplemented && !self.has_handshake() => {
                let (newest, shown) = (0, Shown::default());
                let (acknowledged, membership, vouches) = (None, None, false);
                return Some(Answer { node, newest, shown, acknowledged, membership, vouches });
            }
            Err(status) => {
                tracing::debug!(peer = node, %status, "no answer to the announced start");
                return None;
            }
        };
        self.read(node, answer)
            .inspect_err(|error| tracing::warn!(peer = node, %error, "malformed answer"))
            .ok()
    }

    fn read(
        &self,
        node: u64,
        answer: pb::AnnounceStartResponse,
    ) -> Result<Answer, crate::codec::Malformed> {
        let acknowledged = answer.acknowledged.map(acknowledged_in).transpose()?;
        let acknowledged = acknowledged.map(|(_, known)| known);
        // The witness cannot make this node wait for voters that do not exist.
        let membership = if self.roster.is_data(node) {
            Some(membership_in(&answer.membership, answer.membership_log_id)?)
        } else {
            None
        };
        let shown = shown_in(answer.shown)?;
        let (newest, vouches) = (answer.newest, answer.vouches);
        Ok(Answer { node, newest, shown, acknowledged, membership, vouches })
    }
}

fn is_data(record: &NodeRecord) -> bool {
    record.role == NodeRole::Data
}

fn voters(sets: &[&BTreeSet<u64>]) -> BTreeSet<u64> {
    sets.iter().flat_map(|set| set.iter().copied()).collect()
}

/// Returns what this node acknowledged in an earlier life, if its disk did not show it at this start.
fn lost(answer: &Answer, own: &Start) -> Option<Shown> {
    let known = answer.acknowledged?;
    (known.start != own.number && known.held > own.shown).then_some(known.held)
}
