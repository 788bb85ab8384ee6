//! The channels to every peer, opened early and kept warm.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic::Extensions;
use tonic::transport::Channel;
use twinkeep_core::clock::Clock;
use twinkeep_core::id::NodeId;
use twinkeep_proto::peer::v1 as pb;
use twinkeep_proto::peer::v1::peer_service_client::PeerServiceClient;

use super::{Me, wire};
use crate::boot::{Boot, Uncounted};
use crate::codec::Malformed;
use crate::config::MESSAGE_BYTES_MAX;
use crate::lease::{Answer, Grant};
use crate::roster::Roster;
use crate::types::{Contact, LogId, Vote};

/// How often each channel is used when nothing else uses it.
const HELLO_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a channel that failed is tried again.
const HELLO_RETRY: Duration = Duration::from_millis(200);
/// How long a `Hello` may take; it has the time that a handshake needs.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// An address that cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address of a peer")]
pub struct InvalidAddress(pub String);

/// How connections between nodes are made and whose they are.
///
/// An implementation must prove both ends: a channel connects to `node` or not at all, and `peer`
/// names whoever the connection's certificate belongs to. It must notice a dead connection within
/// half an election lease.
pub trait Wire: Send + Sync + 'static {
    /// Returns a channel to a node that connects when it is first used and again when it broke.
    ///
    /// # Errors
    /// [`InvalidAddress`] when the address cannot be one.
    fn channel(&self, node: NodeId, address: &str) -> Result<Channel, InvalidAddress>;

    /// Returns the node at the other end of an incoming connection; `None` when it proved nothing.
    fn peer(&self, connection: &Extensions) -> Option<NodeId>;
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Heartbeats, votes, transfers: small, and late means an election.
    Votes = 0,
    /// Log entries and proposals.
    Entries = 1,
    /// Snapshots.
    Snapshots = 2,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Votes, Self::Entries, Self::Snapshots];
}

/// What a peer said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When the answer came.
    pub at: Instant,
    /// How long question and answer took.
    pub round_trip: Duration,
    /// How far the peer's wall clock is ahead of ours, in milliseconds; half the round trip is taken
    /// off.
    pub clock_ahead_ms: i64,
    /// The last entry that it has applied.
    pub applied_index: Option<u64>,
    /// The newest snapshot that it can hand on.
    pub snapshot: Option<LogId>,
    /// Version of its software.
    pub version: String,
    /// Whether it holds no keys.
    pub is_sealed: bool,
}

/// All peers that this node speaks to.
pub(crate) struct Links {
    pub(super) me: Me,
    wire: Arc<dyn Wire>,
    roster: Arc<Roster>,
    clock: Arc<dyn Clock>,
    boot: Arc<Boot>,
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    /// Says what this node promises a peer with the next message; unset until the node is put together.
    grants: OnceLock<Grants>,
}

/// Returns the lease that a peer gets, by its last answer.
type Grants = Box<dyn Fn(u64, &Answer) -> Option<Grant> + Send + Sync>;

impl Links {
    pub(crate) fn new(
        me: Me,
        wire: Arc<dyn Wire>,
        roster: Arc<Roster>,
        clock: Arc<dyn Clock>,
        boot: Arc<Boot>,
    ) -> Arc<Self> {
        let (peers, grants) = (Mutex::default(), OnceLock::new());
        Arc::new(Self { me, wire, roster, clock, boot, peers, grants })
    }

    /// Sets who says what this node promises its peers. Called once.
    pub(crate) fn grant_by(
        &self,
        grants: impl Fn(u64, &Answer) -> Option<Grant> + Send + Sync + 'static,
    ) {
        let is_first = self.grants.set(Box::new(grants)).is_ok();
        debug_assert!(is_first, "a node is put together once");
    }

    /// Returns the channels to a node; `contact` is where to find it while it has no record.
    pub(crate) fn peer(self: &Arc<Self>, node: u64, contact: Option<&Contact>) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        let peer = peers.entry(node).or_insert_with(|| {
            let peer = Arc::new(Peer {
                links: Arc::downgrade(self),
                node,
                contact: Mutex::default(),
                channels: Mutex::default(),
                reading: Mutex::default(),
                answer: Mutex::default(),
            });
            tokio::spawn(keep_warm(Arc::downgrade(&peer)));
            peer
        });
        if let Some(contact) = contact {
            *peer.contact.lock() = Some(contact.clone());
        }
        Arc::clone(peer)
    }

    /// Returns what each peer said last.
    pub(crate) fn readings(&self) -> BTreeMap<u64, Reading> {
        let peers = self.peers.lock();
        peers
            .iter()
            .filter_map(|(node, peer)| Some((*node, peer.reading.lock().clone()?)))
            .collect()
    }

    /// Closes the channels to nodes that were removed.
    pub(crate) fn close_removed(&self) {
        self.peers.lock().retain(|node, _| !self.roster.is_removed(*node));
    }

    fn address(&self, peer: &Peer) -> Option<String> {
        let recorded = self.roster.living(peer.node);
        recorded
            .map(|record| record.placement.peer_address.to_string())
            .or_else(|| peer.contact.lock().as_ref().map(|contact| contact.address.clone()))
    }
}

/// The channels to one peer.
pub(crate) struct Peer {
    links: Weak<Links>,
    pub(super) node: u64,
    contact: Mutex<Option<Contact>>,
    channels: Mutex<[Option<(String, Channel)>; 3]>,
    reading: Mutex<Option<Reading>>,
    /// Its last answer to a message of this node as leader.
    answer: Mutex<Option<Answer>>,
}

/// A peer that cannot be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoChannel {
    #[error("no address of node {0} is known")]
    NoAddress(u64),
    #[error(transparent)]
    InvalidAddress(#[from] InvalidAddress),
    #[error("this node is stopping")]
    Stopping,
}

impl Peer {
    /// Returns a client over the channel for `purpose`, and the header to speak with.
    pub(crate) fn client(
        &self,
        purpose: Purpose,
    ) -> Result<(PeerServiceClient<Channel>, pb::Header), NoChannel> {
        let links = self.links.upgrade().ok_or(NoChannel::Stopping)?;
        let address = links.address(self).ok_or(NoChannel::NoAddress(self.node))?;
        let channel = self.channel(&links, purpose, address)?;
        let client = PeerServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok((client, links.me.header(self.node)))
    }

    /// Returns the peer's id.
    pub(crate) fn node(&self) -> u64 {
        self.node
    }

    /// Returns the header of a message of the log: with the starts that this node knows of.
    pub(super) fn header_of_log(&self) -> Result<pb::Header, NoChannel> {
        let links = self.links.upgrade().ok_or(NoChannel::Stopping)?;
        let starts = links.boot.ledger.told();
        Ok(pb::Header { starts, ..links.me.header(self.node) })
    }

    /// Returns what goes with a heartbeat: who acknowledged what under a leadership of this node.
    pub(super) fn acknowledged(&self, vote: &Vote) -> Vec<pb::Acknowledged> {
        let Some(links) = self.links.upgrade() else { return Vec::new() };
        let counted = links.boot.acknowledged_under(vote);
        counted.iter().map(|(node, known)| wire::acknowledged_out(*node, known)).collect()
    }

    /// Lets an answer of the peer count, if it is of the life that this node knows.
    pub(super) fn count(
        &self,
        start: u64,
        vote: &Vote,
        held: Option<Option<LogId>>,
    ) -> Result<(), Uncounted> {
        let Some(links) = self.links.upgrade() else { return Ok(()) };
        links.boot.ledger.count(self.node, start, vote, held)
    }

    /// Takes over the starts that the peer knew of when it refused a message.
    pub(super) fn hear_starts(&self, told: &[u8]) -> Result<(), Malformed> {
        let Some(links) = self.links.upgrade() else { return Ok(()) };
        links.boot.note_starts(&wire::starts_in(told)?);
        Ok(())
    }

    /// Notes that the peer answered a message of the log, with its clock.
    pub(super) fn note_answer(&self, clock_ms: u64) {
        let answer = Answer { clock: Duration::from_millis(clock_ms), at: Instant::now() };
        *self.answer.lock() = Some(answer);
    }

    /// Returns the lease that goes with the next message.
    pub(super) fn grant(&self) -> Option<Grant> {
        let answer = (*self.answer.lock())?;
        self.links.upgrade()?.grants.get()?(self.node, &answer)
    }

    fn channel(
        &self,
        links: &Links,
        purpose: Purpose,
        address: String,
    ) -> Result<Channel, NoChannel> {
        let mut channels = self.channels.lock();
        let slot = &mut channels[purpose as usize];
        if let Some((dialled, channel)) = slot
            && *dialled == address
        {
            return Ok(channel.clone());
        }
        let node = NodeId::new(self.node).map_err(|_| NoChannel::NoAddress(self.node))?;
        let channel = links.wire.channel(node, &address)?;
        *slot = Some((address, channel.clone()));
        Ok(channel)
    }

    /// Says hello over one channel and keeps what the peer says of itself.
    async fn hello(
        &self,
        purpose: Purpose,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (mut client, header) = self.client(purpose)?;
        let links = self.links.upgrade().ok_or(NoChannel::Stopping)?;
        let sent = Instant::now();
        let call = client.hello(pb::HelloRequest { header: Some(header) });
        let answer = timeout(HELLO_TIMEOUT, call).await??.into_inner();
        let (at, now_ms) = (Instant::now(), links.clock.unix_ms());
        let travelled = u64::try_from((at - sent).as_millis() / 2).unwrap_or(u64::MAX);
        let theirs = answer.unix_ms.saturating_add(travelled);
        *self.reading.lock() = Some(Reading {
            at,
            round_trip: at - sent,
            clock_ahead_ms: theirs.cast_signed().saturating_sub(now_ms.cast_signed()),
            applied_index: answer.applied_index,
            snapshot: answer.snapshot.map(wire::log_id_in).transpose()?,
            version: answer.version,
            is_sealed: answer.sealed,
        });
        Ok(())
    }
}

/// Opens the three channels of a peer and keeps them open until the peer is let go.
async fn keep_warm(peer: Weak<Peer>) {
    let mut reached = true;
    while let Some(peer) = peer.upgrade() {
        let results = futures::future::join_all(Purpose::ALL.map(|p| peer.hello(p))).await;
        let failure = results.into_iter().find_map(Result::err);
        let node = peer.node;
        drop(peer);
        match &failure {
            Some(error) if reached => {
                tracing::warn!(peer = node, %error, "peer cannot be reached");
            }
            None if !reached => tracing::info!(peer = node, "peer is reached again"),
            _ => {}
        }
        reached = failure.is_none();
        sleep(if reached { HELLO_INTERVAL } else { HELLO_RETRY }).await;
    }
}
