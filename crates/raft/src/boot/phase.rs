//! How far this node takes part, and what it refuses until then.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::raft::{VoteRequest, VoteResponse};
use tokio::sync::watch;

use super::floor::Floor;
use super::ledger::{Ledger, Unheard};
use super::shown::{Acknowledged, Shown, Start};
use crate::log_store::LogStore;
use crate::types::{TypeConfig, Vote};

/// How far a node takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not heard from enough others.
    Waiting,
    /// It takes part above a floor that its own disk does not reach yet.
    Above(Floor),
    /// It takes part by Raft's own rules.
    Full,
    /// It never will.
    Refused(RolledBack),
}

/// Why a node must not take part any more: its disk is an older copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    pub(super) node: u64,
    pub(super) shown: Shown,
    pub(super) held: Shown,
    /// The node that remembers it.
    pub(super) told_by: u64,
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, shown, held, told_by } = self;
        write!(
            f,
            "the disk of node {node} is an older copy: it holds {shown}, and node {told_by} remembers that node \
             {node} acknowledged {held}; put the newest disk back, or remove node {node} from the cluster and \
             join a new node with an empty data folder"
        )
    }
}

/// This node does not take part yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node has just started and does not take part yet")]
pub(crate) struct NotYet;

/// The boot handshake of this node.
pub(crate) struct Boot {
    pub(crate) ledger: Ledger,
    pub(super) log: LogStore,
    phase: watch::Sender<Phase>,
    /// Whether an operator has said that this node may do without company.
    goes_alone: AtomicBool,
    /// Whether it was said that company is missing.
    has_said_it: AtomicBool,
}

impl Boot {
    pub(crate) fn new(ledger: Ledger, log: LogStore) -> Arc<Self> {
        let phase = watch::Sender::new(Phase::Waiting);
        let (goes_alone, has_said_it) = Default::default();
        Arc::new(Self { ledger, log, phase, goes_alone, has_said_it })
    }

    /// Lets this node take part without company ([`super::company`]), until it starts again.
    pub(crate) fn go_alone(&self) {
        self.goes_alone.store(true, Ordering::SeqCst);
    }

    /// Tells whether nobody has asked this before.
    pub(super) fn says_it_once(&self) -> bool {
        !self.has_said_it.swap(true, Ordering::Relaxed)
    }

    pub(super) fn may_go_alone(&self) -> bool {
        self.goes_alone.load(Ordering::SeqCst)
    }

    /// Takes over the starts that a peer knows of.
    pub(crate) fn note_starts(&self, theirs: &BTreeMap<u64, Start>) {
        for (node, start) in theirs {
            self.ledger.note_start(*node, *start);
        }
        // Somebody knows of a start of this node that seems to come after this one: a clock went back between the
        // two. The end of the log is read anew, since this life may have acknowledged things already.
        let own = theirs.get(&self.ledger.me()).map_or(0, |start| start.number);
        if own > self.ledger.own().number
            && let Ok(shown) = self.log.shown()
        {
            self.ledger.rise_above(own, shown);
        }
    }

    /// Takes over the starts that the sender of a message knows of, and tells whether it knows of every start.
    ///
    /// # Errors
    /// [`Unheard`] if there is one that it has to hear of.
    pub(crate) fn compare(&self, theirs: &BTreeMap<u64, Start>) -> Result<(), Unheard> {
        self.note_starts(theirs);
        self.ledger.compare(theirs)
    }

    /// Returns what this node's disk shows now.
    pub(crate) fn shown(&self) -> io::Result<Shown> {
        self.log.shown()
    }

    /// Returns who acknowledged what under a leadership of this node, itself included.
    pub(crate) fn acknowledged_under(&self, vote: &Vote) -> Vec<(u64, Acknowledged)> {
        let own = self.ledger.own().number;
        if let Some(committed) = self.log.committed_and_synced() {
            // What does not count here does not count anywhere, and is no news.
            let _ = self.ledger.count(self.ledger.me(), own, vote, Some(Some(committed)));
        }
        self.ledger.counted_under(vote)
    }

    /// Goes on to a phase, unless it is the present one or this node is refused; tells whether it did.
    pub(super) fn enter(&self, phase: Phase) -> bool {
        self.phase.send_if_modified(|now| {
            // A refusal is for good.
            let moves = *now != phase && !matches!(now, Phase::Refused(_));
            if moves {
                *now = phase;
            }
            moves
        })
    }

    /// Refuses this node for good.
    pub(crate) fn refuse(&self, held: Shown, told_by: u64) {
        let (node, shown) = (self.ledger.me(), self.ledger.own().shown);
        self.enter(Phase::Refused(RolledBack { node, shown, held, told_by }));
    }

    /// Returns why this node must not go on, once it is so.
    pub(crate) async fn refused(&self) -> RolledBack {
        let mut phase = self.phase.subscribe();
        loop {
            if let Phase::Refused(why) = &*phase.borrow_and_update() {
                return why.clone();
            }
            // The sender lives as long as this.
            if phase.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells whether the handshake is finished, by Raft's own rules or above a floor.
    pub(crate) fn takes_part(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Full | Phase::Above(_))
    }

    /// Tells whether this node may stand for election.
    pub(crate) fn may_stand(&self) -> bool {
        match &*self.phase.borrow() {
            Phase::Full => true,
            Phase::Above(floor) => {
                self.log.shown().is_ok_and(|shown| floor.is_log_reached_by(&shown))
            }
            Phase::Waiting | Phase::Refused(_) => false,
        }
    }

    /// Tells whether a leader may be followed: `Some` with the vote that it lies below.
    ///
    /// # Errors
    /// [`NotYet`] while this node does not take part.
    pub(crate) fn check_leader(&self, vote: &Vote) -> Result<Option<Vote>, NotYet> {
        match &*self.phase.borrow() {
            Phase::Full => Ok(None),
            Phase::Above(floor) => Ok(floor.vote.filter(|_| floor.is_above(Some(vote)))),
            Phase::Waiting | Phase::Refused(_) => Err(NotYet),
        }
    }

    /// Tells whether a candidate may be voted for: `Some` with the answer to one that lies below the floor.
    ///
    /// # Errors
    /// [`NotYet`] while this node does not take part.
    pub(crate) fn check_candidate(
        &self,
        asked: &VoteRequest<TypeConfig>,
    ) -> Result<Option<VoteResponse<TypeConfig>>, NotYet> {
        match &*self.phase.borrow() {
            Phase::Full => Ok(None),
            Phase::Above(floor) => {
                let own = self.log.shown().ok().and_then(|shown| shown.vote);
                let own = own.unwrap_or_else(|| Vote::new(0, self.ledger.me()));
                Ok(below(floor, own, asked))
            }
            Phase::Waiting | Phase::Refused(_) => Err(NotYet),
        }
    }
}

/// Answers a candidate below the floor. It sees a greater log or vote, as at any voter that has one.
fn below(
    floor: &Floor,
    own: Vote,
    asked: &VoteRequest<TypeConfig>,
) -> Option<VoteResponse<TypeConfig>> {
    let greater = floor.vote.filter(|_| floor.is_above(Some(&asked.vote)));
    let is_below = greater.is_some() || asked.last_log_id < floor.last;
    is_below.then(|| VoteResponse::new(greater.unwrap_or(own), floor.last, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::shown::tests::shown;

    fn asked(term: u64, index: u64) -> VoteRequest<TypeConfig> {
        VoteRequest::new(Vote::new(term, 3), shown(1, Some((1, index))).last)
    }

    #[test]
    fn candidates_below_the_floor_see_what_is_greater() {
        let Shown { vote, last } = shown(4, Some((1, 20)));
        let floor = Floor { vote, last };
        let own = Vote::new(2, 1);
        assert_eq!(below(&floor, own, &asked(5, 20)), None);
        let shorter = below(&floor, own, &asked(5, 19)).unwrap();
        assert!(!shorter.vote_granted && shorter.last_log_id == last && shorter.vote == own);
        let older = below(&floor, own, &asked(3, 20)).unwrap();
        assert!(!older.vote_granted && Some(older.vote) == vote);
    }
}
