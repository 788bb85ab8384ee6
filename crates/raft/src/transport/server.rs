//! The peer service: what other nodes may ask of this one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::Stream;
use openraft::errors::RaftError;
use openraft::raft::{VoteRequest, VoteResponse};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming, async_trait};
use twinkeep_proto::peer::v1 as pb;
use twinkeep_proto::peer::v1::peer_service_server::{PeerService, PeerServiceServer};

use super::admission::{self, Admission, malformed};
use super::append::stopped;
use super::snapshot_in::{self, Receptions};
use super::{snapshot_out, wire};
use crate::config::MESSAGE_BYTES_MAX;
use crate::node::{FORWARDED_PROPOSAL_TIMEOUT, ReadError, Shared, Ungated, answer_proposal};
use crate::observe::observe;
use crate::types::TypeConfig;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Longest that a leader is kept waiting for an entry to be applied; it asks again.
const AWAIT_APPLIED_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers peers.
#[derive(Clone)]
pub(crate) struct PeerServer {
    pub(super) admission: Admission,
    pub(super) shared: Arc<Shared>,
    pub(super) receptions: Receptions,
    /// Index of the last entry that was told to name a stranger.
    pub(super) stranger_told: Arc<AtomicU64>,
}

impl PeerServer {
    /// Returns the service to put on the peer port.
    pub(crate) fn service(
        wire: Arc<dyn super::Wire>,
        shared: Arc<Shared>,
    ) -> PeerServiceServer<Self> {
        let admission = Admission { me: shared.me, wire, roster: Arc::clone(&shared.roster) };
        let (receptions, stranger_told) = (Receptions::default(), Arc::default());
        PeerServiceServer::new(Self { admission, shared, receptions, stranger_told })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn hello_answer(&self) -> pb::HelloResponse {
        let sealed = self.shared.signer.is_sealed();
        observe(&self.shared.raft, |metrics| pb::HelloResponse {
            unix_ms: self.shared.clock.unix_ms(),
            applied_index: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.as_ref().map(wire::log_id_out),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sealed,
        })
    }
}

impl PeerServer {
    /// Asks Raft for this node's vote.
    async fn ask_raft(
        &self,
        is_pre_vote: bool,
        asked: &VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, Status> {
        let raft = &self.shared.raft;
        let answer = match is_pre_vote {
            true => raft.pre_vote(asked.clone()).await,
            false => raft.vote(asked.clone()).await,
        };
        answer.map_err(|error| match error {
            RaftError::Fatal(fatal) => stopped(&fatal),
            RaftError::APIError(never) => match never {},
        })
    }
}

#[async_trait]
impl PeerService for PeerServer {
    type StreamAppendStream = Answers<pb::AppendEntriesResponse>;
    type FetchSnapshotStream = Answers<pb::FetchSnapshotResponse>;

    async fn announce_start(
        &self,
        request: Request<pb::AnnounceStartRequest>,
    ) -> Result<Response<pb::AnnounceStartResponse>, Status> {
        let (connection, message) = parts(request);
        let from = self.admission.admit(&connection, message.header.as_ref())?;
        self.announced(from, message.start).map(Response::new)
    }

    async fn hello(
        &self,
        request: Request<pb::HelloRequest>,
    ) -> Result<Response<pb::HelloResponse>, Status> {
        let (connection, message) = parts(request);
        self.admission.admit(&connection, message.header.as_ref())?;
        Ok(Response::new(self.hello_answer()))
    }

    async fn request_vote(
        &self,
        request: Request<pb::RequestVoteRequest>,
    ) -> Result<Response<pb::RequestVoteResponse>, Status> {
        let (connection, message) = parts(request);
        let from = self.admission.admit(&connection, message.header.as_ref())?;
        let asked = wire::vote_request_in(&message).map_err(|e| malformed(e.to_string()))?;
        admission::vote(from, &asked)?;
        let is_pre_vote = match message.kind() {
            pb::VoteKind::PreVote => true,
            pb::VoteKind::Vote => false,
            pb::VoteKind::Unspecified => return Err(malformed("the kind of vote is missing")),
        };
        let heard = self.hear(message.header.as_ref())?;
        let answer = match self.candidate_below(&asked)? {
            Some(answer) => answer,
            None => self.ask_raft(is_pre_vote, &asked).await?,
        };
        if self.shared.roster.is_data(from) {
            self.shared.refusals.note(&asked, &answer);
        }
        self.hear_again(heard)?;
        let start = self.shared.boot.ledger.own().number;
        Ok(Response::new(wire::vote_answer_out(&answer, start)))
    }

    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
        let (connection, message) = parts(request);
        self.append(&connection, message).await.map(Response::new)
    }

    async fn stream_append(
        &self,
        request: Request<Streaming<pb::AppendEntriesRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        let (connection, messages) = parts(request);
        let answers = self.clone().append_stream(connection, messages);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let (connection, message) = parts(request);
        let from = self.admission.admit(&connection, message.header.as_ref())?;
        let heard = self.hear(message.header.as_ref())?;
        let asked = wire::transfer_in(message).map_err(|e| malformed(e.to_string()))?;
        admission::leadership(from, asked.from_leader())?;
        if self.leader_below(asked.from_leader())?.is_some() || !self.shared.boot.may_stand() {
            return Err(Status::unavailable("this node cannot stand for election yet"));
        }
        // A witness that hands over has granted no leases.
        if self.shared.roster.is_data(from) {
            self.shared.leases.note_asked_to_lead();
        }
        let answer = self.shared.raft.handle_transfer_leader(asked).await;
        let answer = answer.map_err(|fatal| stopped(&fatal))?;
        self.hear_again(heard)?;
        Ok(Response::new(wire::transfer_answer_out(&answer)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let (connection, messages) = parts(request);
        let vote = snapshot_in::install(self, &connection, messages).await?;
        let (vote, start) = (Some(wire::vote_out(&vote)), self.shared.boot.ledger.own().number);
        Ok(Response::new(pb::InstallSnapshotResponse { vote, start }))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<pb::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let (connection, message) = parts(request);
        self.admission.admit(&connection, message.header.as_ref())?;
        let answers = snapshot_out::fetched(&self.shared)?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn propose(
        &self,
        request: Request<pb::ProposeRequest>,
    ) -> Result<Response<pb::ProposeResponse>, Status> {
        let (connection, message) = parts(request);
        let from = self.admission.admit(&connection, message.header.as_ref())?;
        let answer = match self.shared.check_forwarded(from, &message.batch) {
            Err(why) => {
                tracing::warn!(peer = from, why, "refused a forwarded batch");
                pb::ProposeResponse {
                    result: Some(pb::propose_response::Result::Refused(pb::Refused { why })),
                }
            }
            Ok(()) => {
                let deadline = Instant::now() + FORWARDED_PROPOSAL_TIMEOUT;
                answer_proposal(self.shared.propose_here(message.batch, deadline).await)
            }
        };
        Ok(Response::new(answer))
    }

    async fn await_durable(
        &self,
        request: Request<pb::AwaitDurableRequest>,
    ) -> Result<Response<pb::AwaitDurableResponse>, Status> {
        let (connection, message) = parts(request);
        self.admission.admit(&connection, message.header.as_ref())?;
        use pb::await_durable_response::Result as Answer;
        let deadline = Instant::now() + FORWARDED_PROPOSAL_TIMEOUT;
        let (index, needs_marker) = (message.index, message.needs_marker);
        let answer = match self.shared.acknowledge_here(index, needs_marker, deadline).await {
            Ok(reached) => Answer::Reached(wire::reached_out(reached)),
            Err(Ungated::NotLeader) => {
                Answer::NotLeader(pb::NotLeader { leader: self.shared.leader().unwrap_or(0) })
            }
            Err(Ungated::Late) => return Err(Status::deadline_exceeded("not durable yet")),
        };
        Ok(Response::new(pb::AwaitDurableResponse { result: Some(answer) }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let (connection, message) = parts(request);
        let from = self.admission.admit(&connection, message.header.as_ref())?;
        // Before the round begins: whatever index it gives, the asker's lease counts from an earlier moment.
        self.shared.note_asked(from);
        use pb::read_index_response::Result as Answer;
        let answer = match self.shared.read_index_here().await {
            Some(index) => Answer::Index(index),
            None => Answer::NotLeader(pb::NotLeader { leader: self.shared.leader().unwrap_or(0) }),
        };
        Ok(Response::new(pb::ReadIndexResponse { result: Some(answer) }))
    }

    async fn await_applied(
        &self,
        request: Request<pb::AwaitAppliedRequest>,
    ) -> Result<Response<pb::AwaitAppliedResponse>, Status> {
        let (connection, message) = parts(request);
        self.admission.admit(&connection, message.header.as_ref())?;
        let deadline = Instant::now() + AWAIT_APPLIED_TIMEOUT;
        match self.shared.wait_applied(message.index, deadline).await {
            Ok(()) => {
                self.shared.keep_applied()?;
                Ok(Response::new(pb::AwaitAppliedResponse {}))
            }
            Err(ReadError::Stopped) => Err(Status::unavailable("this node is stopping")),
            Err(_) => Err(Status::deadline_exceeded("not applied yet")),
        }
    }

    async fn await_everywhere(
        &self,
        request: Request<pb::AwaitEverywhereRequest>,
    ) -> Result<Response<pb::AwaitEverywhereResponse>, Status> {
        let (connection, message) = parts(request);
        self.admission.admit(&connection, message.header.as_ref())?;
        use pb::await_everywhere_response::Result as Answer;
        let deadline = Instant::now() + Duration::from_millis(message.timeout_ms.into());
        let answer = match self.shared.everywhere_by_leader(message.index, deadline).await {
            Some(laggards) => Answer::Laggards(pb::Laggards { nodes: laggards }),
            None => Answer::NotLeader(pb::NotLeader { leader: self.shared.leader().unwrap_or(0) }),
        };
        Ok(Response::new(pb::AwaitEverywhereResponse { result: Some(answer) }))
    }
}

/// Splits a request into what is known of its connection, and its message.
fn parts<T>(request: Request<T>) -> (tonic::Extensions, T) {
    let (_, connection, message) = request.into_parts();
    (connection, message)
}
