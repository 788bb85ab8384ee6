//! The leader's gate: answers wait until what they tell of is as durable as the replication mode asks for.
//!
//! Raft commits with any majority. Here that is made stricter, never weaker: an entry that is committed and
//! applied at the leader is acknowledged once the zones hold it ([`crate::zones`]). Three tasks of a data
//! node work while it leads:
//!
//! - one judges, whenever openraft's metrics move, how far acknowledgements may go;
//! - one proposes the marker that lets new key versions be used, one at a time, so that whatever gathers
//!   meanwhile shares the next;
//! - one proposes the replication mode that the zones' silence or return asks for.
//!
//! All three rest on what this leader was told by its voters. An old leader that does not know of the next
//! one yet tells no lies by it: what was on a disk then is there still, and it can commit nothing.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Histogram, histogram};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use twinkeep_core::command::{Batch, Command, Proposal};
use twinkeep_core::outcome::Outcome;
use twinkeep_core::replication::{Durability, Mode};
use twinkeep_core::topology::{NodeRole, Standing as RecordStanding};
use twinkeep_proto::peer::v1 as pb;
use twinkeep_storage::Note;

use super::Shared;
use crate::blocking::blocking;
use crate::lease::{Answer, Grant, LEASE};
use crate::metrics::{self, ZONE_WAIT_SECONDS};
use crate::observe::observe;
use crate::signing::sign_batch;
use crate::transport::{Purpose, reached_in};
use crate::types::SignedBytes;
use crate::zones::{Change, Judged, Led, View, Watch, judge};

/// How often the leader looks whether a zone has fallen silent.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// How often notes are written down.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a proposal of the gate that did not succeed, and before a leader is asked again. Part of how long changes
/// stop when the lead is handed over.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How long a proposal of the gate is waited for. One more of the same does no harm: a mode is proposed for a
/// revision, and a marker only moves forward.
const GROUP_PROPOSAL_MAX: Duration = Duration::from_secs(1);
/// Pause after a proposal that this node could not sign.
const SEALED_PAUSE: Duration = Duration::from_millis(200);

/// How far an acknowledged entry reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// A node that has applied this entry shows the change, and lets new key versions be used.
    pub(crate) index: u64,
    /// What was reached; `None` in a cluster at a version without replication modes.
    pub(crate) durability: Option<Durability>,
}

/// Why an entry that is applied is not acknowledged here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ungated {
    /// This node does not lead any more; the next leader knows.
    NotLeader,
    /// It was not durable in time.
    Late,
}

/// A leadership of this node, and how far it may acknowledge now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    led: Led,
    judged: Judged,
}

/// What the leader may acknowledge.
pub(super) struct Gate {
    /// Times the wait of those who ask.
    wait: Histogram,
    /// `None` while this node does not lead.
    judged: watch::Sender<Option<Standing>>,
}

impl Default for Gate {
    fn default() -> Self {
        metrics::count_mode_changes();
        Self { wait: histogram!(ZONE_WAIT_SECONDS), judged: watch::Sender::new(None) }
    }
}

impl Shared {
    /// Waits until an applied entry may be acknowledged, on the node that leads. One that tells of keys waits for
    /// the marker of all versions that were created so far, too.
    pub(crate) async fn acknowledge_here(
        &self,
        index: u64,
        needs_marker: bool,
        deadline: Instant,
    ) -> Result<Reached, Ungated> {
        if !self.replication.applied().borrow().has_modes {
            return Ok(Reached { index, durability: None });
        }
        let waited = timeout_at(deadline, async {
            let mut judged = self.gate.judged.subscribe();
            let may = |standing: &Option<Standing>| {
                standing.is_none_or(|standing| standing.judged.durable >= Some(index))
            };
            // Closed only with the node itself.
            let Ok(judged) = judged.wait_for(may).await.map(|judged| *judged) else { return None };
            let durability = Some(judged?.judged.durability);
            if !needs_marker {
                return Some(Reached { index, durability });
            }
            let unmarked = *self.replication.unmarked().borrow();
            self.marked(unmarked)
                .await
                .map(|shown_by| Reached { index: shown_by.max(index), durability })
        });
        let began = Instant::now();
        match waited.await {
            Ok(Some(reached)) => {
                self.gate.wait.record(began.elapsed());
                Ok(reached)
            }
            Ok(None) => Err(Ungated::NotLeader),
            Err(_) => Err(Ungated::Late),
        }
    }

    /// Waits until the marker covers an entry, and returns one that shows it; `None` when this node stops
    /// leading before.
    async fn marked(&self, index: u64) -> Option<u64> {
        let mut applied = self.replication.applied();
        let mut judged = self.gate.judged.subscribe();
        let marked = applied.wait_for(|applied| applied.usable_up_to >= index);
        let deposed = judged.wait_for(Option::is_none);
        tokio::select! {
            marked = marked => marked.ok().map(|applied| applied.as_of.max(index)),
            _ = deposed => None,
        }
    }

    /// Waits until an entry that was applied at a leader may be acknowledged, by whichever node leads now.
    ///
    /// The entry is committed, so every later leader has it.
    pub(crate) async fn acknowledge(
        &self,
        index: u64,
        needs_marker: bool,
        deadline: Instant,
    ) -> Result<Reached, Ungated> {
        loop {
            let asked = match self.answering_leader() {
                Some(leader) if leader != self.me.node.get() => {
                    self.ask_to_acknowledge(leader, index, needs_marker, deadline).await
                }
                _ => self.acknowledge_here(index, needs_marker, deadline).await.ok(),
            };
            if let Some(reached) = asked {
                return Ok(reached);
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(Ungated::Late);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn ask_to_acknowledge(
        &self,
        leader: u64,
        index: u64,
        needs_marker: bool,
        deadline: Instant,
    ) -> Option<Reached> {
        let (mut client, header) = self.peer(leader).client(Purpose::Entries).ok()?;
        let header = Some(header);
        let request = pb::AwaitDurableRequest { header, index, needs_marker };
        let mut request = tonic::Request::new(request);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let asked = client.await_durable(request);
        let answer = self.ask_leader(leader, deadline, asked).await?.ok()?;
        match answer.into_inner().result? {
            pb::await_durable_response::Result::Reached(reached) => Some(reached_in(&reached)),
            pb::await_durable_response::Result::NotLeader(_) => None,
        }
    }

    /// Judges for as long as Raft runs, each time that something moved.
    pub(super) async fn judge_durability(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        let mut applied = self.replication.applied();
        let mut own_applied = self.applied.clone();
        let mut led = None;
        loop {
            if self.follow_lead(&mut led) && led.is_some() {
                // A leader before this one may have fallen between an entry and its marker.
                self.replication.await_marker(self.last_index());
            }
            let judged = led.map(|led| {
                let judged = match self.view(&led) {
                    Some(view) => judge(&view, &applied.borrow_and_update()),
                    None => Judged::BLIND,
                };
                Standing { led, judged }
            });
            self.gate.judged.send_if_modified(|shown| {
                let moved = *shown != judged;
                *shown = judged;
                moved
            });
            let alive = tokio::select! {
                changed = metrics.changed() => changed.is_ok(),
                changed = applied.changed() => changed.is_ok(),
                changed = own_applied.changed() => changed.is_ok(),
                // A voter may become one that is not waited for by nothing but time.
                () = sleep(LOOK_INTERVAL), if led.is_some() => true,
            };
            if !alive {
                self.gate.judged.send_replace(None);
                return;
            }
        }
    }

    /// Proposes markers for as long as the node lives.
    pub(super) async fn mark_durable(self: Arc<Self>) {
        let mut judged = self.gate.judged.subscribe();
        let mut unmarked = self.replication.unmarked();
        loop {
            // Marked as seen before it is looked at: what comes in between wakes this task again.
            unmarked.mark_unchanged();
            let due =
                judged.borrow_and_update().and_then(|standing| self.due_marker(&standing.judged));
            if let Some(command) = due {
                self.propose_for_the_group(command).await;
                continue;
            }
            let alive = tokio::select! {
                changed = judged.changed() => changed.is_ok(),
                changed = unmarked.changed() => changed.is_ok(),
            };
            if !alive {
                return;
            }
        }
    }

    fn due_marker(&self, judged: &Judged) -> Option<Command> {
        let applied = self.replication.applied();
        let applied = applied.borrow();
        let upto = judged.durable?;
        let is_due = applied.has_modes
            && applied.usable_up_to < upto
            && applied.usable_up_to < *self.replication.unmarked().borrow();
        is_due.then_some(Command::ZoneDurable { upto, judged_under: judged.revision })
    }

    /// Proposes replication modes for as long as Raft runs.
    pub(super) async fn keep_mode(self: Arc<Self>) {
        let (mut led, mut watch) = (None, Watch::default());
        let mut judged = self.gate.judged.subscribe();
        while observe(&self.raft, |metrics| metrics.running_state.is_ok()) {
            // A new leader begins to wait for the zones at once: after the loss of one, that wait is part of how long
            // changes stop.
            let term = |standing: &Option<Standing>| standing.map(|standing| standing.led.term);
            let seen = term(&judged.borrow_and_update());
            let moved = async { judged.wait_for(|standing| term(standing) != seen).await.is_ok() };
            tokio::select! {
                () = sleep(LOOK_INTERVAL) => {}
                true = moved => {}
            }
            if self.follow_lead(&mut led) {
                watch = Watch::default();
            }
            self.hold_own_lease();
            let applied = self.replication.applied().borrow().clone();
            let view = led.and_then(|led| self.view(&led)).filter(|_| applied.has_modes);
            let Some(view) = view else { continue };
            if let Some(Change { to, why }) = watch.look(&view, &applied.mode, Instant::now()) {
                if let Mode::Degraded { zone } = &to
                    && self.leases.granted_until(zone).is_some_and(|end| end > Instant::now())
                {
                    continue;
                }
                let (from, mode) = (applied.mode, to.to_string());
                let expected = applied.revision;
                let command = Command::SetReplicationMode { to: to.clone(), expected };
                if self.propose_for_the_group(command).await {
                    metrics::mode_changed(&to);
                    tracing::warn!(%from, %mode, why, "the replication mode has changed");
                }
                watch.look_anew();
            }
        }
    }

    /// Writes down, once a second, the newest sync lease, when the state was last known to be new, and what others acknowledged, for as
    /// long as Raft runs.
    pub(super) async fn write_notes(self: Arc<Self>) {
        let mut written = [None, None, None];
        while observe(&self.raft, |metrics| metrics.running_state.is_ok()) {
            sleep(WRITE_INTERVAL).await;
            let stamp = self.fresh.stamp().map(|stamp| stamp.encode());
            // Commits to the state are not synced. A power cut must not leave a state that is older than the
            // stamp says.
            if let Err(error) = blocking(|| self.state.flush()) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the state is not on disk; its age is not written down");
                continue;
            }
            let acknowledged = self.boot.ledger.take_unwritten();
            let notes = [
                (Note::SyncLease, self.leases.holder.held().map(|lease| lease.encode())),
                (Note::Freshness, stamp),
                (Note::Acknowledged, acknowledged.map(|bytes| bytes.to_vec())),
            ];
            for ((note, bytes), written) in notes.into_iter().zip(&mut written) {
                let Some(bytes) = bytes.filter(|bytes| written.as_ref() != Some(bytes)) else {
                    continue;
                };
                *written = Some(bytes.clone());
                if let Err(error) = self.disk.save_note_then(note, bytes.into(), Box::new(|_| ())) {
                    // The failure of the log ends the node, and is told there.
                    return tracing::debug!(%error, "a note was not written down");
                }
            }
        }
    }

    /// Proposes a command that no caller asked for, and tells whether it was applied. Waits a little when it
    /// was not, so that it can be tried again.
    async fn propose_for_the_group(&self, command: Command) -> bool {
        let proposal = Proposal { actor: None, token: None, command };
        let not_after_ms = self.clock.unix_ms() + Batch::LIFE_MS;
        let batch = Batch { not_after_ms, commands: vec![proposal] };
        let Some(signed) = sign_batch(self.me, &*self.signer, &batch) else {
            // A sealed leader can promise nothing. One that can takes over, if there is one.
            tracing::debug!("this leader is sealed and cannot vouch for what is durable");
            self.yield_to_unsealed().await;
            sleep(SEALED_PAUSE).await;
            return false;
        };
        self.stamp_clock_if_due().await;
        let entry = SignedBytes(signed.to_bytes().into());
        match timeout(GROUP_PROPOSAL_MAX, self.raft.client_write(entry)).await {
            Ok(Ok(done)) if matches!(done.data.outcomes.as_slice(), [Outcome::Applied(_)]) => {
                return true;
            }
            Ok(Ok(done)) => tracing::debug!(outcomes = ?done.data.outcomes, "judged too late"),
            Ok(Err(error)) => tracing::debug!(%error, "no quorum for what the zones ask for"),
            Err(_) => tracing::debug!("no quorum in time for what the zones ask for"),
        }
        sleep(RETRY_PAUSE).await;
        false
    }

    /// Returns the term that this node leads in.
    fn led_term(&self) -> Option<u64> {
        observe(&self.raft, |metrics| {
            let leads = metrics.state.is_leader() && metrics.running_state.is_ok();
            leads.then_some(metrics.current_term)
        })
    }

    fn last_index(&self) -> u64 {
        observe(&self.raft, |metrics| metrics.last_log_index).unwrap_or(0)
    }

    /// Notes whether this node leads now, and tells whether that is another leadership than before.
    fn follow_lead(&self, led: &mut Option<Led>) -> bool {
        let term = self.led_term();
        if led.map(|led| led.term) == term {
            return false;
        }
        let by_transfer = self.leases.was_asked_to_lead();
        *led = term.map(|term| Led { term, since: Instant::now(), by_transfer });
        true
    }

    /// Returns since when this node leads.
    pub(crate) fn led_since(&self) -> Option<Instant> {
        let led = self.gate.judged.borrow().map(|standing| standing.led)?;
        // The task that judges may not have noticed yet that another term began.
        (self.led_term() == Some(led.term)).then_some(led.since)
    }

    fn view(&self, led: &Led) -> Option<View> {
        let applied = self.applied_index();
        observe(&self.raft, |metrics| {
            // What Raft's metrics show of a voter may be gone.
            let is_halted = self.boot.ledger.is_halted(&metrics.vote);
            if is_halted { None } else { View::read(metrics, &self.roster, applied, led) }
        })
    }

    /// Returns until when this node can grant sync leases: it leads, every zone is complete, and it does not
    /// hand over.
    fn lease_end(&self) -> Option<Instant> {
        let is_complete =
            self.gate.judged.borrow().is_some_and(|standing| standing.judged.is_complete);
        if !is_complete || !self.leases.may_grant() {
            return None;
        }
        let acked = observe(&self.raft, |metrics| {
            metrics.last_quorum_acked.filter(|_| metrics.state.is_leader())
        })?;
        Some(Instant::now() - openraft::Instant::elapsed(&*acked) + LEASE)
    }

    /// Grants a peer a lease with the next message, if it stands for a zone and answers.
    pub(crate) fn grant(&self, node: u64, answer: &Answer) -> Option<Grant> {
        let end = self.lease_end()?;
        let record = self.roster.living(node)?;
        if record.role != NodeRole::Data || record.standing != RecordStanding::Voter {
            return None;
        }
        let grant = Grant::until(end, answer, Instant::now())?;
        self.leases.note_granted(record.placement.zone, end);
        Some(grant)
    }

    /// A leader has applied all that it acknowledges: its own zone is as complete as any.
    fn hold_own_lease(&self) {
        let (at, clock) = (Instant::now(), self.clock.elapsed());
        let grant = self.lease_end().and_then(|end| Grant::until(end, &Answer { clock, at }, at));
        if let Some(grant) = grant {
            self.take_lease(grant);
        }
    }

    /// Holds a lease that was granted.
    pub(crate) fn take_lease(&self, grant: Grant) {
        self.leases.holder.take(grant, self.clock.elapsed(), self.clock.unix_ms());
    }
}
