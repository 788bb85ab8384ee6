//! openraft's calls, sent over the peer's channels.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};
use twinkeep_proto::peer::v1 as pb;

use super::links::NoChannel;
use super::{Links, Peer, Purpose, snapshot_out, wire};
use crate::boot::Uncounted;
use crate::codec::Malformed;
use crate::snapshot::{Snapshot, SnapshotData};
use crate::types::{Contact, TypeConfig, Vote};

type Error = RPCError<TypeConfig>;

/// How long a peer may take to answer a run of entries on an open stream, its sync included.
///
/// Keep-alive finds dead connections far sooner; this finds a peer that lives and does not work.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the clients that openraft asks for.
pub(crate) struct Network {
    pub(crate) links: Arc<Links>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Contact) -> Client {
        Client::new(&self.links, target, node, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Contact) -> Client {
        Client::new(&self.links, target, node, Purpose::Votes)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Contact) -> Client {
        Client::new(&self.links, target, node, Purpose::Snapshots)
    }
}

/// Calls to one peer. Votes and transfers always take the channel of votes.
pub(crate) struct Client {
    me: u64,
    peer: Arc<Peer>,
    purpose: Purpose,
}

impl Client {
    fn new(links: &Arc<Links>, target: u64, node: &Contact, purpose: Purpose) -> Self {
        let me = links.me.node.get();
        Self { me, peer: links.peer(target, Some(node)), purpose }
    }

    /// Runs a call under a deadline.
    async fn within<T>(
        &self,
        action: RPCTypes,
        limit: Duration,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        match timeout(limit, call).await {
            Ok(answer) => answer.map_err(|status| self.refused(status)),
            Err(_) => Err(self.late(action, limit)),
        }
    }

    /// Learns from a refusal why it was one.
    fn refused(&self, status: Status) -> Error {
        if status.code() == Code::Aborted
            && let Err(error) = self.peer.hear_starts(status.details())
        {
            return error.into();
        }
        rpc_error(status)
    }

    fn late(&self, action: RPCTypes, timeout: Duration) -> Error {
        Timeout { action, id: self.me, target: self.peer.node, timeout }.into()
    }

    async fn ask_vote(
        &self,
        kind: pb::VoteKind,
        request: VoteRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let (mut client, _) = self.peer.client(Purpose::Votes)?;
        let header = self.peer.header_of_log()?;
        let call = client.request_vote(wire::vote_request_out(header, kind, &request));
        let answer = self.within(RPCTypes::Vote, option.soft_ttl(), call).await?.into_inner();
        self.peer.count(answer.start, &request.vote, None)?;
        Ok(wire::vote_answer_in(answer)?)
    }

    /// Returns the answers to runs of entries, in order, each once its entries are on the peer's disk.
    ///
    /// The first run is taken before the peer is called: openraft waits between attempts inside its
    /// stream of requests, so a failure that does not ask for one would be tried again at once, for
    /// ever.
    fn append_session<S>(
        &self,
        input: S,
        option: RPCOption,
    ) -> BoxStream<'_, Result<StreamAppendResult<TypeConfig>, Error>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let limit = option.soft_ttl();
        let session = Session::Waiting(input);
        Box::pin(futures::stream::try_unfold(session, move |session| async move {
            let mut open = match session {
                Session::Open(open) => open,
                Session::Waiting(mut input) => {
                    let Some(first) = input.next().await else { return Ok(None) };
                    let vote = first.vote;
                    let input = futures::stream::once(async { first }).chain(input);
                    self.open_session(vote, input, limit).await?
                }
            };
            let answer = self.next_answer(&mut open).await?;
            Ok(answer.map(|answer| (answer, Session::Open(open))))
        }))
    }

    async fn open_session(
        &self,
        vote: Vote,
        input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + 'static,
        limit: Duration,
    ) -> Result<OpenSession, Error> {
        let (mut client, _) = self.peer.client(Purpose::Entries)?;
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let peer = Arc::clone(&self.peer);
        // Ends when this node is stopping.
        let requests = input.scan((), move |(), request| {
            counter.fetch_add(1, Ordering::Relaxed);
            let header = peer.header_of_log().ok();
            let lease = peer.grant();
            let message = header.map(|h| wire::append_out(h, &request, lease, Vec::new()));
            std::future::ready(message)
        });
        let call = client.stream_append(requests);
        let answers = self.within(RPCTypes::AppendEntries, limit, call).await?.into_inner();
        Ok(OpenSession { vote, answers, sent, answered: 0 })
    }

    /// Reads an answer to entries or a heartbeat, if it counts.
    fn take_answer(
        &self,
        vote: &Vote,
        answer: pb::AppendEntriesResponse,
    ) -> Result<StreamAppendResult<TypeConfig>, Error> {
        let (start, clock_ms) = (answer.start, answer.clock_ms);
        let answer = wire::append_answer_in(answer)?;
        self.peer.count(start, vote, answer.as_ref().ok().copied())?;
        self.peer.note_answer(clock_ms);
        Ok(answer)
    }

    /// Waits for an answer; `None` at the end of the session. Without a run under way there is nothing
    /// to wait for, and no deadline.
    async fn next_answer(
        &self,
        open: &mut OpenSession,
    ) -> Result<Option<StreamAppendResult<TypeConfig>>, Error> {
        loop {
            tokio::select! {
                answer = open.answers.message() => {
                    let answer = answer.map_err(|status| self.refused(status))?;
                    let Some(answer) = answer else { return Ok(None) };
                    open.answered += 1;
                    return self.take_answer(&open.vote, answer).map(Some);
                }
                () = sleep(ANSWER_TIMEOUT) => {
                    if open.sent.load(Ordering::Relaxed) > open.answered {
                        return Err(self.late(RPCTypes::AppendEntries, ANSWER_TIMEOUT));
                    }
                }
            }
        }
    }
}

/// Runs of entries to a peer, before and after it was called.
#[expect(clippy::large_enum_variant, reason = "one lives on the stack per replication stream")]
enum Session<S> {
    Waiting(S),
    Open(OpenSession),
}

struct OpenSession {
    /// The leadership that sends.
    vote: Vote,
    answers: Streaming<pb::AppendEntriesResponse>,
    /// Runs that were sent.
    sent: Arc<AtomicU64>,
    /// Runs that were answered.
    answered: u64,
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let (mut client, _) = self.peer.client(self.purpose)?;
        let header = self.peer.header_of_log()?;
        let is_heartbeat = request.entries.is_empty();
        let acknowledged =
            if is_heartbeat { self.peer.acknowledged(&request.vote) } else { Vec::new() };
        let message = wire::append_out(header, &request, self.peer.grant(), acknowledged);
        let call = client.append_entries(message);
        let answer = self.within(RPCTypes::AppendEntries, option.soft_ttl(), call).await?;
        Ok(match self.take_answer(&request.vote, answer.into_inner())? {
            Ok(matched) if matched == last => AppendEntriesResponse::Success,
            Ok(matched) => AppendEntriesResponse::PartialSuccess(matched),
            Err(StreamAppendError::Conflict(id)) if request.prev_log_id == Some(id) => {
                AppendEntriesResponse::Conflict
            }
            Err(StreamAppendError::Conflict(_)) => {
                return Err(network_error("a conflict where none can be"));
            }
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Error>>, Error>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        match self.purpose {
            Purpose::Entries => {
                let answers = self.append_session(input, option);
                Box::pin(async { Ok(answers) })
            }
            Purpose::Votes | Purpose::Snapshots => stream_append_sequential(self, input, option),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ask_vote(pb::VoteKind::Vote, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ask_vote(pb::VoteKind::PreVote, request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (client, _) = self.peer.client(Purpose::Snapshots).map_err(Error::from)?;
        let header = self.peer.header_of_log().map_err(Error::from)?;
        let limit = option.soft_ttl();
        let held = snapshot.meta.last_log_id;
        let Some(stored) = snapshot.snapshot.stored().cloned() else {
            return Err(network_error("there is no snapshot to send").into());
        };
        let send = snapshot_out::install(client, header, vote, stored, limit);
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = send => answer,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(snapshot_out::Failure::Late) => {
                return Err(self.late(RPCTypes::InstallSnapshot, limit).into());
            }
            Err(snapshot_out::Failure::Refused(status)) => return Err(self.refused(status).into()),
        };
        let theirs = wire::vote_in(answer.vote).map_err(Error::from)?;
        let held = (theirs == vote).then_some(held);
        self.peer.count(answer.start, &vote, held).map_err(Error::from)?;
        Ok(SnapshotResponse::new(theirs))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        let (mut client, _) = self.peer.client(Purpose::Votes)?;
        let header = self.peer.header_of_log()?;
        let call = client.transfer_leader(wire::transfer_out(header, &request));
        let answer = self.within(RPCTypes::TransferLeader, option.soft_ttl(), call).await?;
        Ok(wire::transfer_answer_in(answer.into_inner(), &request)?)
    }
}

/// Sorts failures by what a retry at once would bring: `Unreachable` waits, `Network` does not.
fn rpc_error(status: Status) -> Error {
    match status.code() {
        Code::Unavailable
        // Refusals stay as they are until somebody acts.
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::Unimplemented => Unreachable::from_string(status).into(),
        _ => NetworkError::from_string(status).into(),
    }
}

fn network_error(why: &'static str) -> Error {
    NetworkError::from_string(why).into()
}

impl From<NoChannel> for Error {
    fn from(error: NoChannel) -> Self {
        Unreachable::new(&error).into()
    }
}

impl From<Uncounted> for Error {
    fn from(error: Uncounted) -> Self {
        Unreachable::new(&error).into()
    }
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        NetworkError::new(&error).into()
    }
}

#[cfg(test)]
mod tests;
