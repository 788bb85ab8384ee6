//! Entries from the leader: checked, cut where they name a stranger, handed to Raft, answered.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Status, Streaming};
use twinkeep_proto::peer::v1 as pb;

use super::admission::{self, malformed};
use super::hearing::Heard;
use super::{server::PeerServer, wire};
use crate::codec::Applied;
use crate::observe::observe;
use crate::types::{Membership, Payload, TypeConfig, Vote};

/// Pause before an answer that says that nothing was taken.
const IN_VAIN_PAUSE: Duration = Duration::from_millis(10);
/// Answers that wait for the network.
const ANSWERS_MAX: usize = 64;

/// A run of entries that passed the checks.
struct Admitted {
    from: u64,
    request: AppendEntriesRequest<TypeConfig>,
    /// Whether entries were cut off the end.
    is_cut: bool,
    heard: Heard,
    /// A vote that the leader lies below: it is told so, and nothing is taken.
    below: Option<Vote>,
}

/// What was heard with each run of a stream that is not answered yet, oldest first.
type Unanswered = Arc<Mutex<VecDeque<Heard>>>;

impl PeerServer {
    fn admit_append(
        &self,
        connection: &Extensions,
        mut message: pb::AppendEntriesRequest,
    ) -> Result<Admitted, Status> {
        let from = self.admission.admit(connection, message.header.as_ref())?;
        let lease = message.sync_lease;
        let header = message.header.take();
        let acknowledged = std::mem::take(&mut message.acknowledged);
        let mut request = wire::append_in(message).map_err(|e| malformed(e.to_string()))?;
        admission::append(from, &request)?;
        let heard = self.hear(header.as_ref())?;
        self.remember(from, acknowledged)?;
        let below = self.leader_below(&request.vote)?;
        let is_cut = self.cut_at_stranger(&mut request)?;
        // The witness promises nothing: it does not know what is acknowledged. What an old leader promised while
        // it led stays true.
        if let Some(lease) = lease.filter(|_| self.shared.roster.is_data(from)) {
            self.shared.take_lease(wire::lease_in(lease));
        }
        Ok(Admitted { from, request, is_cut, heard, below })
    }

    /// Writes an answer, if the leader may count it.
    fn answer(
        &self,
        answer: &StreamAppendResult<TypeConfig>,
        heard: Heard,
    ) -> Result<pb::AppendEntriesResponse, Status> {
        self.hear_again(heard)?;
        let start = self.shared.boot.ledger.own().number;
        Ok(wire::append_answer_out(answer, self.shared.clock.elapsed(), start))
    }

    /// Cuts a run of entries in front of a membership that names a node which no signed command has
    /// recorded, and which was no member before either.
    ///
    /// Such an entry is a forgery, or this node has not yet applied the command that records the
    /// node. The leader is told how far its entries were taken and sends the rest again.
    ///
    /// A new leader sends old entries again. Those that are applied here are let through: they may name
    /// nodes that were removed since, and they can change nothing any more.
    fn cut_at_stranger(
        &self,
        request: &mut AppendEntriesRequest<TypeConfig>,
    ) -> Result<bool, Status> {
        let applied_index = self.shared.applied_index();
        let mut known = None;
        let mut stranger = None;
        for (at, entry) in request.entries.iter().enumerate() {
            let Payload::Membership(members) = &entry.payload else { continue };
            if Some(entry.log_id.index) <= applied_index {
                continue;
            }
            if known.is_none() {
                known = Some(self.present_memberships()?);
            }
            let present = known.as_ref().expect("set just above");
            let unrecorded = self.shared.roster.unrecorded(entry.log_id.index, members, present);
            if let Some(node) = unrecorded {
                self.tell_of_stranger(node, entry.log_id.index);
                stranger = Some(at);
                break;
            }
        }
        request.entries.truncate(stranger.unwrap_or(request.entries.len()));
        Ok(stranger.is_some())
    }

    /// Returns the membership that is applied and the one that counts already: the second may be one
    /// that never gets committed, and then the next entry follows the first.
    fn present_memberships(&self) -> Result<[Membership; 2], Status> {
        let unreadable = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "the applied membership cannot be read");
            Status::internal("the applied membership cannot be read")
        };
        let marker = self.shared.state.applied().map_err(|error| unreadable(&error))?;
        let applied = marker.map(|marker| Applied::decode(&marker.meta)).transpose();
        let applied = applied.map_err(|error| unreadable(&error))?.unwrap_or_default();
        let counting =
            observe(&self.shared.raft, |metrics| metrics.membership_config.membership().clone());
        Ok([applied.membership.membership().clone(), counting])
    }

    /// Says it once for an entry, which the leader sends again and again.
    fn tell_of_stranger(&self, node: u64, index: u64) {
        if self.stranger_told.swap(index, Ordering::Relaxed) != index {
            tracing::info!(node, index, "a membership names a node that is not recorded here yet");
        }
    }

    /// Notes that a node leads, if this node follows it.
    fn note_leader(&self, from: u64, answer: &StreamAppendResult<TypeConfig>) {
        if !matches!(answer, Err(StreamAppendError::HigherVote(_))) {
            self.shared.note_leader(from);
        }
    }

    /// Answers one run of entries.
    pub(super) async fn append(
        &self,
        connection: &Extensions,
        message: pb::AppendEntriesRequest,
    ) -> Result<pb::AppendEntriesResponse, Status> {
        let admitted = self.admit_append(connection, message)?;
        let Admitted { from, request, is_cut, heard, below } = admitted;
        if let Some(greater) = below {
            return self.answer(&Err(StreamAppendError::HigherVote(greater)), heard);
        }
        pause_if_in_vain(is_cut, &request).await;
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let prev = request.prev_log_id;
        let answer = match self.shared.raft.append_entries(request).await {
            Ok(AppendEntriesResponse::Success) => Ok(last),
            Ok(AppendEntriesResponse::PartialSuccess(matched)) => Ok(matched),
            Ok(AppendEntriesResponse::Conflict) => {
                let prev = prev.ok_or_else(|| Status::internal("a conflict at the log's start"))?;
                Err(StreamAppendError::Conflict(prev))
            }
            Ok(AppendEntriesResponse::HigherVote(vote)) => Err(StreamAppendError::HigherVote(vote)),
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal)),
            Err(RaftError::APIError(never)) => match never {},
        };
        self.note_leader(from, &answer);
        self.answer(&answer, heard)
    }

    /// Answers runs of entries as they become durable, without waiting for one before the next.
    pub(super) fn append_stream(
        self,
        connection: Extensions,
        messages: Streaming<pb::AppendEntriesRequest>,
    ) -> ReceiverStream<Result<pb::AppendEntriesResponse, Status>> {
        let (answers, answered) = mpsc::channel(ANSWERS_MAX);
        // openraft's stream of answers borrows its handle, so a task holds both.
        tokio::spawn(async move {
            let raft = self.shared.raft.clone();
            // Why the requests ended, if it was not the leader who ended them.
            let refusal = Arc::new(Mutex::new(None));
            let from = self.admission.proven(&connection);
            let unanswered = Unanswered::default();
            let hearing = Arc::clone(&unanswered);
            let refused = Arc::clone(&refusal);
            let requests = self.clone().requests(connection, messages, hearing, refused);
            let mut matched = pin!(raft.stream_append(requests));
            while let Some(answer) = matched.next().await {
                // There is one answer for each run, in their order.
                let heard = unanswered.lock().pop_front();
                let answer = match (answer, heard) {
                    (Ok(answer), Some(heard)) => {
                        self.note_leader(from.unwrap_or(0), &answer);
                        self.answer(&answer, heard)
                    }
                    (Ok(_), None) => Err(Status::internal("an answer to nothing")),
                    (Err(fatal), _) => Err(stopped(&fatal)),
                };
                let is_last = answer.is_err();
                if answers.send(answer).await.is_err() || is_last {
                    return;
                }
            }
            let refusal = refusal.lock().take();
            if let Some(status) = refusal {
                // The leader may be gone, and then nobody needs to know.
                let _ = answers.send(Err(status)).await;
            }
        });
        ReceiverStream::new(answered)
    }

    /// Returns the runs of entries that pass the checks, up to the first that does not.
    fn requests(
        self,
        connection: Extensions,
        messages: Streaming<pb::AppendEntriesRequest>,
        unanswered: Unanswered,
        refusal: Arc<Mutex<Option<Status>>>,
    ) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
        let state = Some((self, connection, messages));
        futures::stream::unfold(state, move |state| {
            let (refusal, unanswered) = (Arc::clone(&refusal), Arc::clone(&unanswered));
            async move {
                let (server, connection, mut messages) = state?;
                let message = messages.message().await.ok()??;
                match server.admit_append(&connection, message) {
                    Ok(Admitted { below: Some(_), .. }) => {
                        // The next heartbeat tells the leader which vote it lies below.
                        let status =
                            Status::unavailable("this node may have followed a later leader");
                        *refusal.lock() = Some(status);
                        None
                    }
                    Ok(Admitted { request, is_cut, heard, .. }) => {
                        unanswered.lock().push_back(heard);
                        pause_if_in_vain(is_cut, &request).await;
                        let next = (!is_cut).then_some((server, connection, messages));
                        Some((request, next))
                    }
                    Err(status) => {
                        *refusal.lock() = Some(status);
                        None
                    }
                }
            }
        })
    }
}

/// Lets some time pass where nothing could be taken: the leader sends the rest again at once.
async fn pause_if_in_vain(is_cut: bool, request: &AppendEntriesRequest<TypeConfig>) {
    if is_cut && request.entries.is_empty() {
        sleep(IN_VAIN_PAUSE).await;
    }
}

/// Tells a peer that this node takes part no more.
pub(super) fn stopped(fatal: &Fatal<TypeConfig>) -> Status {
    tracing::debug!(%fatal, "a peer called while raft is stopped");
    Status::unavailable("this node is stopping")
}
