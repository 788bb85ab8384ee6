//! Whether a message of the log may count here: what its sender knows of starts, and what this node may answer
//! since its own ([`crate::boot`]).

use bytes::Bytes;
use openraft::raft::{VoteRequest, VoteResponse};
use tonic::{Code, Status};
use twinkeep_core::topology::NodeRole;
use twinkeep_proto::peer::v1 as pb;

use super::admission::malformed;
use super::server::PeerServer;
use super::wire;
use crate::boot::{NotYet, Unheard};
use crate::types::{TypeConfig, Vote};

/// The starts that this node knew of when it took a message. An answer may be given for as long as it knows of
/// no others.
#[derive(Clone, Copy, Debug)]
#[must_use = "an answer counts only if nothing was heard since"]
pub(super) struct Heard(u64);

impl PeerServer {
    /// Compares what the sender of a message of the log knows of starts with what this node knows, and takes
    /// over what is new.
    ///
    /// # Errors
    /// `ABORTED` with this node's starts as details, for a sender that has to hear of one first.
    pub(super) fn hear(&self, header: Option<&pb::Header>) -> Result<Heard, Status> {
        let starts = header.map(|header| &header.starts).filter(|starts| !starts.is_empty());
        let ledger = &self.shared.boot.ledger;
        let Some(starts) = starts else {
            // Software before the handshake: what it does counts until an operator has raised the version.
            let (heard, is_due) = (Heard(ledger.generation()), self.shared.has_handshake());
            return if is_due { Err(self.unheard(Unheard)) } else { Ok(heard) };
        };
        loop {
            let generation = ledger.generation();
            if *starts != ledger.told() {
                let theirs = wire::starts_in(starts).map_err(|e| malformed(e.to_string()))?;
                self.shared.boot.compare(&theirs).map_err(|unheard| self.unheard(unheard))?;
            }
            // What was taken over from the sender is not what it has to hear.
            if ledger.generation() == generation {
                return Ok(Heard(generation));
            }
        }
    }

    /// Looks again before an answer goes out: a start that was announced since was told what this disk showed
    /// before, so the sender has to know of it before it counts the answer.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub(super) fn hear_again(&self, heard: Heard) -> Result<(), Status> {
        let unchanged = self.shared.boot.ledger.generation() == heard.0;
        if unchanged || crate::boot::is_off() { Ok(()) } else { Err(self.unheard(Unheard)) }
    }

    fn unheard(&self, unheard: Unheard) -> Status {
        let told: Bytes = self.shared.boot.ledger.told();
        Status::with_details(Code::Aborted, unheard.to_string(), told)
    }

    /// Returns the vote that a leader lies below, if it does.
    pub(super) fn leader_below(&self, vote: &Vote) -> Result<Option<Vote>, Status> {
        self.shared.boot.check_leader(vote).map_err(not_yet)
    }

    /// Returns the answer to a candidate that lies below the floor, if it does.
    pub(super) fn candidate_below(
        &self,
        asked: &VoteRequest<TypeConfig>,
    ) -> Result<Option<VoteResponse<TypeConfig>>, Status> {
        self.shared.boot.check_candidate(asked).map_err(not_yet)
    }

    /// Takes in what a leader tells of acknowledgements. Ends this node if its disk is an older copy.
    pub(super) fn remember(&self, from: u64, told: Vec<pb::Acknowledged>) -> Result<(), Status> {
        // The witness leads for a moment at most, and nobody has to believe it.
        if told.is_empty() || !self.shared.roster.is_data(from) {
            return Ok(());
        }
        let told: Result<Vec<_>, _> = told.into_iter().map(wire::acknowledged_in).collect();
        let told = told.map_err(|e| malformed(e.to_string()))?;
        match self.shared.boot.ledger.remember(told) {
            None => Ok(()),
            Some(held) => {
                self.shared.boot.refuse(held, from);
                Err(not_yet(NotYet))
            }
        }
    }

    /// Notes a start that a peer announces, and tells what is known here.
    pub(super) fn announced(
        &self,
        from: u64,
        start: Option<pb::Start>,
    ) -> Result<pb::AnnounceStartResponse, Status> {
        let start = start.ok_or_else(|| malformed("the start is missing"))?;
        let (node, start) = wire::start_in(start).map_err(|e| malformed(e.to_string()))?;
        if node != from {
            return Err(malformed("the start is another node's"));
        }
        let boot = &self.shared.boot;
        // Noted before the disk is read: an answer that goes out after this is one that the sender of the
        // message has to know of the start for, and one that went out before is on the disk.
        boot.ledger.note_start(node, start);
        let shown = boot.shown().map_err(|error| {
            tracing::error!(%error, "the log cannot be read");
            Status::internal("the log cannot be read")
        })?;
        let known = boot.ledger.remembered(node);
        let (membership, membership_log_id) = self.shared.counting_membership();
        Ok(pb::AnnounceStartResponse {
            newest: boot.ledger.newest(node),
            shown: Some(wire::shown_out(&shown)),
            acknowledged: known.map(|known| wire::acknowledged_out(node, &known)),
            membership,
            membership_log_id,
            vouches: self.shared.role == NodeRole::Data && boot.takes_part(),
        })
    }
}

fn not_yet(not_yet: NotYet) -> Status {
    Status::unavailable(not_yet.to_string())
}
