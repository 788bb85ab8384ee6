//! What this node knows of everybody's starts, and of what they have acknowledged.
//!
//! The ledger stands between what peers say and what counts:
//!
//! - a message of the log is looked at only if its sender knows of every start that this node knows of;
//! - the receiver looks again once the entries are on its disk, by [`Ledger::generation`]: a start that was
//!   announced in between was told what the disk showed *before*;
//! - an answer counts only if it comes from the life that this node knows, and that life has not lost what
//!   somebody remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::is_off;
use super::shown::{self, Acknowledged, Shown, Start};
use crate::transport::starts_out;
use crate::types::{LogId, Vote};

/// Most nodes that a peer may tell of at a time.
pub(crate) const NODES_MAX: usize = 256;

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Uncounted {
    #[error("the answer is of another life of node {0}")]
    OtherLife(u64),
    #[error("node {0} has lost what it acknowledged")]
    RolledBack(u64),
    #[error("this node has counted what node {0} has lost, and leads no more")]
    Halted(u64),
}

/// A message whose sender has not heard of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sender has not heard yet of every start that is known here")]
pub(crate) struct Unheard;

/// Starts and acknowledgements.
pub(crate) struct Ledger {
    me: u64,
    inner: Mutex<Inner>,
    /// Grows with each start that becomes known.
    generation: AtomicU64,
    /// The known starts as they travel.
    told: ArcSwap<Bytes>,
    /// Told when this node must count nothing more as leader.
    pub(crate) halted: Notify,
}

#[derive(Default)]
struct Inner {
    starts: BTreeMap<u64, Start>,
    remembered: BTreeMap<u64, Acknowledged>,
    /// Whether something is remembered that was not handed out to be written down.
    is_unwritten: bool,
    /// A leadership of this node that counted what a voter has lost, and that voter.
    halted: Option<(Vote, u64)>,
}

impl Inner {
    /// Tells whether the newest life of a node showed less than an earlier one is remembered to have held.
    fn is_rolled_back(&self, node: u64) -> bool {
        let (Some(start), Some(known)) = (self.starts.get(&node), self.remembered.get(&node))
        else {
            return false;
        };
        known.start != start.number && known.held > start.shown
    }

    fn remember(&mut self, node: u64, known: Acknowledged) {
        let held = self.remembered.get(&node);
        if held.is_none_or(|held| (known.held, known.start) > (held.held, held.start)) {
            self.remembered.insert(node, known);
            self.is_unwritten = true;
        }
    }
}

impl Ledger {
    /// Begins with this node's own start and what an earlier life has written down.
    pub(crate) fn new(me: u64, own: Start, stored: Option<&[u8]>) -> Self {
        let remembered = stored.and_then(shown::decode).unwrap_or_default();
        let inner = Inner {
            starts: BTreeMap::from([(me, own)]),
            remembered: remembered.into_iter().collect(),
            ..Inner::default()
        };
        let told = ArcSwap::from_pointee(starts_out(&inner.starts));
        let generation = AtomicU64::new(0);
        Self { me, inner: Mutex::new(inner), generation, told, halted: Notify::new() }
    }

    pub(super) fn me(&self) -> u64 {
        self.me
    }

    /// Returns this life of this node.
    pub(crate) fn own(&self) -> Start {
        self.inner.lock().starts[&self.me]
    }

    /// Makes this life's number greater than one that somebody knows of, as a life that begins with what the
    /// disk shows now.
    pub(super) fn rise_above(&self, number: u64, shown: Shown) {
        let mut inner = self.inner.lock();
        if inner.starts[&self.me].number <= number {
            let own = Start { number: number.saturating_add(1), shown };
            self.insert(&mut inner, self.me, own);
        }
    }

    fn insert(&self, inner: &mut Inner, node: u64, start: Start) {
        inner.starts.insert(node, start);
        self.told.store(Arc::new(starts_out(&inner.starts)));
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the known starts as they travel.
    pub(crate) fn told(&self) -> Bytes {
        self.told.load().as_ref().clone()
    }

    /// Returns a number that grows with each start that becomes known.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Notes another node's start. If the node shows less than a leadership of this node has counted, that one ends.
    pub(crate) fn note_start(&self, node: u64, start: Start) {
        let mut inner = self.inner.lock();
        let is_known = inner.starts.get(&node).is_some_and(|known| known.number >= start.number);
        if is_known || node == self.me {
            return;
        }
        self.insert(&mut inner, node, start);
        if !inner.is_rolled_back(node) || is_off() {
            return;
        }
        let counted = inner.remembered.get(&node).and_then(|known| known.held.vote);
        tracing::error!(node, shown = %start.shown, "a node has started with less than it acknowledged");
        if let Some(vote) = counted.filter(|vote| vote.leader_id.node_id == self.me) {
            inner.halted = Some((vote, node));
            self.halted.notify_one();
        }
    }

    /// Takes over what the sender of a message knows of others, and tells whether it knows of every start.
    ///
    /// # Errors
    /// [`Unheard`] if there is one.
    pub(super) fn compare(&self, theirs: &BTreeMap<u64, Start>) -> Result<(), Unheard> {
        for (node, start) in theirs {
            self.note_start(*node, *start);
        }
        let inner = self.inner.lock();
        let knows = |node: &u64, start: &Start| {
            theirs.get(node).is_some_and(|theirs| theirs.number >= start.number)
        };
        let knows_all = inner.starts.iter().all(|(node, start)| knows(node, start));
        if knows_all || is_off() { Ok(()) } else { Err(Unheard) }
    }

    /// Counts an answer of a node to a message of this node as leader or candidate; `held` is what its disk
    /// holds at least, if it acknowledged anything.
    ///
    /// # Errors
    /// [`Uncounted`]: the answer must not reach Raft.
    pub(crate) fn count(
        &self,
        node: u64,
        start: u64,
        vote: &Vote,
        held: Option<Option<LogId>>,
    ) -> Result<(), Uncounted> {
        if is_off() {
            return Ok(());
        }
        let mut inner = self.inner.lock();
        if inner.starts.get(&node).map_or(0, |known| known.number) != start {
            return Err(Uncounted::OtherLife(node));
        }
        if let Some((leadership, lost)) = inner.halted
            && leadership == *vote
        {
            return Err(Uncounted::Halted(lost));
        }
        if inner.is_rolled_back(node) {
            return Err(Uncounted::RolledBack(node));
        }
        if let Some(last) = held {
            let held = Shown { vote: Some(*vote), last };
            inner.remember(node, Acknowledged { start, held });
        }
        Ok(())
    }

    /// Tells whether a leadership counts nothing more.
    pub(crate) fn is_halted(&self, vote: &Vote) -> bool {
        self.inner.lock().halted.is_some_and(|(halted, _)| halted == *vote)
    }

    /// Tells whether a node lost what it acknowledged.
    pub(crate) fn is_rolled_back(&self, node: u64) -> bool {
        self.inner.lock().is_rolled_back(node)
    }

    /// Remembers what a leader tells of acknowledgements. Returns what this node itself acknowledged in an
    /// earlier life, if its disk did not show that when it started.
    pub(crate) fn remember(
        &self,
        told: impl IntoIterator<Item = (u64, Acknowledged)>,
    ) -> Option<Shown> {
        let mut inner = self.inner.lock();
        for (node, known) in told.into_iter().take(NODES_MAX) {
            inner.remember(node, known);
        }
        let held = inner.remembered.get(&self.me).map(|known| known.held);
        held.filter(|_| inner.is_rolled_back(self.me) && !is_off())
    }

    /// Returns what a node is remembered to have acknowledged.
    pub(crate) fn remembered(&self, node: u64) -> Option<Acknowledged> {
        self.inner.lock().remembered.get(&node).copied()
    }

    /// Returns what a leadership of this node has counted of each node.
    pub(crate) fn counted_under(&self, vote: &Vote) -> Vec<(u64, Acknowledged)> {
        let inner = self.inner.lock();
        let counted = inner.remembered.iter().filter(|(_, known)| known.held.vote == Some(*vote));
        counted.map(|(node, known)| (*node, *known)).collect()
    }

    /// Returns the newest start of a node that is known, 0 for none.
    pub(crate) fn newest(&self, node: u64) -> u64 {
        self.inner.lock().starts.get(&node).map_or(0, |start| start.number)
    }

    /// Returns what is to be written down, if it changed since the last time.
    pub(crate) fn take_unwritten(&self) -> Option<Bytes> {
        let mut inner = self.inner.lock();
        std::mem::take(&mut inner.is_unwritten).then(|| shown::encode(&inner.remembered).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::shown::tests::shown;
    use crate::types::LeaderId;

    fn start(number: u64, index: u64) -> Start {
        Start { number, shown: shown(1, Some((1, index))) }
    }

    /// The ledger of node 1, which leads in term 1.
    fn leader() -> (Ledger, Vote) {
        let ledger = Ledger::new(1, start(10, 5), None);
        (ledger, Vote::new_committed(1, 1))
    }

    fn last(index: u64) -> Option<Option<LogId>> {
        Some(Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index)))
    }

    #[test]
    fn sender_that_has_not_heard_of_a_start_is_told() {
        let (ledger, _) = leader();
        let mut theirs = BTreeMap::from([(1, start(10, 5))]);
        ledger.compare(&theirs).unwrap();
        ledger.note_start(2, start(20, 7));
        assert_eq!(ledger.compare(&theirs), Err(Unheard));
        theirs.insert(2, start(19, 7));
        assert_eq!(ledger.compare(&theirs), Err(Unheard));
        theirs.insert(2, start(21, 7));
        let before = ledger.generation();
        ledger.compare(&theirs).unwrap();
        assert_eq!(ledger.newest(2), 21, "what the sender knows is taken over");
        assert!(ledger.generation() > before);
    }

    #[test]
    fn answers_of_another_life_do_not_count() {
        let (ledger, vote) = leader();
        assert_eq!(ledger.count(2, 20, &vote, last(7)), Err(Uncounted::OtherLife(2)));
        ledger.note_start(2, start(20, 7));
        ledger.count(2, 20, &vote, last(7)).unwrap();
        assert_eq!(ledger.count(2, 19, &vote, last(7)), Err(Uncounted::OtherLife(2)));
    }

    #[test]
    fn leader_that_counted_what_is_lost_counts_nothing_more_in_that_leadership() {
        let (ledger, vote) = leader();
        ledger.note_start(2, start(20, 7));
        ledger.note_start(3, start(30, 7));
        ledger.count(2, 20, &vote, last(9)).unwrap();
        ledger.note_start(2, start(21, 8));
        assert!(ledger.is_halted(&vote));
        assert_eq!(ledger.count(3, 30, &vote, last(9)), Err(Uncounted::Halted(2)));
        let next = Vote::new_committed(2, 1);
        ledger.count(3, 30, &next, last(9)).unwrap();
        assert_eq!(ledger.count(2, 21, &next, last(9)), Err(Uncounted::RolledBack(2)));
    }

    #[test]
    fn restart_with_all_that_was_acknowledged_changes_nothing() {
        let (ledger, vote) = leader();
        ledger.note_start(2, start(20, 7));
        ledger.count(2, 20, &vote, last(9)).unwrap();
        ledger.note_start(2, start(21, 9));
        assert!(!ledger.is_halted(&vote) && !ledger.is_rolled_back(2));
        ledger.count(2, 21, &vote, last(10)).unwrap();
        // A later life may show what the earlier one only acknowledged to somebody else.
        ledger.note_start(2, Start { number: 22, shown: shown(2, Some((1, 8))) });
        assert!(!ledger.is_rolled_back(2));
    }

    #[test]
    fn node_learns_from_a_leader_that_its_disk_went_back() {
        let ledger = Ledger::new(2, start(21, 8), None);
        let told = |start, index| [(2, Acknowledged { start, held: shown(1, Some((1, index))) })];
        assert_eq!(ledger.remember(told(20, 8)), None);
        assert_eq!(ledger.remember(told(21, 12)), None, "this life's own acknowledgement");
        let ledger = Ledger::new(2, start(21, 8), None);
        assert_eq!(ledger.remember(told(20, 9)), Some(shown(1, Some((1, 9)))));
    }

    #[test]
    fn what_is_remembered_survives_a_restart_and_is_written_once() {
        let (ledger, vote) = leader();
        ledger.note_start(2, start(20, 7));
        assert_eq!(ledger.take_unwritten(), None);
        ledger.count(2, 20, &vote, last(9)).unwrap();
        let bytes = ledger.take_unwritten().unwrap();
        assert_eq!(ledger.take_unwritten(), None);
        let again = Ledger::new(1, start(11, 5), Some(&bytes));
        assert_eq!(again.remembered(2).unwrap().held, shown(1, Some((1, 9))));
        again.note_start(2, start(22, 8));
        assert!(again.is_rolled_back(2));
    }
}
