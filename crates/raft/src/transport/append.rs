//! Entries from the leader: checked, cut where they name a stranger, handed to Raft, answered.

use std::pin::pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Status, Streaming};
use twinkeep_proto::peer::v1 as pb;

use super::admission::{self, malformed};
use super::{server::PeerServer, wire};
use crate::types::{Payload, TypeConfig};

/// Answers that wait for the network.
const ANSWERS_MAX: usize = 64;

/// A run of entries that passed the checks.
struct Admitted {
    from: u64,
    request: AppendEntriesRequest<TypeConfig>,
    /// Whether entries were cut off the end.
    is_cut: bool,
}

impl PeerServer {
    fn admit_append(
        &self,
        connection: &Extensions,
        message: pb::AppendEntriesRequest,
    ) -> Result<Admitted, Status> {
        let from = self.admission.admit(connection, message.header.as_ref())?;
        let mut request = wire::append_in(message).map_err(|e| malformed(e.to_string()))?;
        admission::append(from, &request)?;
        let is_cut = self.cut_at_stranger(&mut request);
        Ok(Admitted { from, request, is_cut })
    }

    /// Cuts a run of entries in front of a membership that names a node which no signed command has
    /// recorded, and which was no member before either.
    ///
    /// Such an entry is a forgery, or this node has not yet applied the command that records the
    /// node. The leader is told how far its entries were taken and sends the rest again.
    fn cut_at_stranger(&self, request: &mut AppendEntriesRequest<TypeConfig>) -> bool {
        let mut metrics = None;
        let stranger = request.entries.iter().position(|entry| {
            let Payload::Membership(members) = &entry.payload else { return false };
            let metrics = metrics.get_or_insert_with(|| {
                self.shared.raft.metrics().borrow_watched().membership_config.clone()
            });
            let present = metrics.membership();
            let unrecorded = self.shared.roster.unrecorded(entry.log_id.index, members, present);
            if let Some(node) = unrecorded {
                tracing::warn!(node, entry = %entry.log_id, "membership names an unrecorded node");
            }
            unrecorded.is_some()
        });
        request.entries.truncate(stranger.unwrap_or(request.entries.len()));
        stranger.is_some()
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
        let Admitted { from, request, .. } = self.admit_append(connection, message)?;
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
        Ok(wire::append_answer_out(&answer))
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
            let requests = self.clone().requests(connection, messages, Arc::clone(&refusal));
            let mut matched = pin!(raft.stream_append(requests));
            while let Some(answer) = matched.next().await {
                let answer = match answer {
                    Ok(answer) => {
                        self.note_leader(from.unwrap_or(0), &answer);
                        Ok(wire::append_answer_out(&answer))
                    }
                    Err(fatal) => Err(stopped(&fatal)),
                };
                if answers.send(answer).await.is_err() {
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
        refusal: Arc<Mutex<Option<Status>>>,
    ) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
        let state = Some((self, connection, messages));
        futures::stream::unfold(state, move |state| {
            let refusal = Arc::clone(&refusal);
            async move {
                let (server, connection, mut messages) = state?;
                let message = messages.message().await.ok()??;
                match server.admit_append(&connection, message) {
                    Ok(Admitted { request, is_cut, .. }) => {
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

/// Tells a peer that this node takes part no more.
pub(super) fn stopped(fatal: &Fatal<TypeConfig>) -> Status {
    tracing::debug!(%fatal, "a peer called while raft is stopped");
    Status::unavailable("this node is stopping")
}
