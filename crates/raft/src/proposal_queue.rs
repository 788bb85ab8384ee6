//! The proposal queue: concurrent control writes of one node share signatures, entries and syncs.
//!
//! Commands wait while a batch is under way and go out together in the next one, as many as fit.
//! There is no timer: an idle queue proposes a single command at once. Signing needs an unsealed data
//! node; a sealed one refuses before anything is proposed.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};
use twinkeep_core::clock::Clock;
use twinkeep_core::command::{Batch, Proposal};
use twinkeep_core::outcome::Outcome;
use twinkeep_core::replication::Durability;

use crate::metrics::ProposalMeter;
use crate::node::{Node, ProposeError, Proposed};
use crate::signing::{CommandSigner, sign_batch};
use crate::trace;
use crate::transport::Me;

/// Commands that may wait; further callers wait for room until their deadline.
pub const WAITING_MAX: usize = 4_096;
/// Batches under way at one time: one is being written while the next one travels.
const IN_FLIGHT_MAX: usize = 4;
/// Bytes of commands in one batch, below the limit of a batch by what frames them.
const COMMAND_BYTES_MAX: usize = Batch::BYTES_MAX - 4_096;

/// Takes signed batches to the leader.
///
/// An implementation proposes a batch at most once, or knows that it was not proposed.
pub trait Proposer: Send + Sync + 'static {
    /// Proposes a signed batch and returns its outcomes.
    fn propose(
        &self,
        batch: Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send;
}

impl Proposer for Node {
    async fn propose(&self, batch: Bytes, deadline: Instant) -> Result<Proposed, ProposeError> {
        Node::propose(self, batch, deadline).await
    }
}

/// What came of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// A node that has applied this entry shows what the command changed.
    pub index: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// Where that is on disk; `None` in a cluster without replication modes.
    pub durability: Option<Durability>,
}

/// Why a command has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// This node is sealed and cannot sign. Nothing was changed.
    #[error("this node is sealed")]
    Sealed,
    /// The command is larger than a batch may be. Nothing was changed.
    #[error("a command of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Its size.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The deadline passed before the command's turn came. Nothing was changed.
    #[error("too many writes wait for their turn")]
    Busy,
    /// The batch has no outcome.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

struct Waiting {
    proposal: Proposal,
    len: usize,
    deadline: Instant,
    span: Span,
    answer: oneshot::Sender<Result<Decided, QueueError>>,
}

/// The commands of this node that wait for their batch. Clones share the queue.
#[derive(Clone)]
pub struct ProposalQueue {
    waiting: mpsc::Sender<Waiting>,
    meter: ProposalMeter,
}

impl ProposalQueue {
    /// Starts a queue; it ends when its last clone is dropped.
    #[must_use]
    pub fn start(
        proposer: impl Proposer,
        me: Me,
        signer: Arc<dyn CommandSigner>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let drain = Drain { proposer: Arc::new(proposer), me, signer, clock };
        tokio::spawn(drain.run(queue));
        Self { waiting, meter: ProposalMeter::default() }
    }

    /// Proposes one command, in a batch with whatever else waits, and returns its outcome.
    ///
    /// # Errors
    /// [`QueueError`]; only [`ProposeError::Timeout`] leaves open whether the command took effect.
    pub async fn propose(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<Decided, QueueError> {
        let began = Instant::now();
        let result = self.decide(proposal, deadline).await;
        self.meter.ended(&result, began.elapsed());
        result
    }

    /// Returns how many commands wait for their batch.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.max_capacity() - self.waiting.capacity()
    }

    async fn decide(&self, proposal: Proposal, deadline: Instant) -> Result<Decided, QueueError> {
        let len = minicbor::to_vec(&proposal).expect("a Vec takes every byte").len();
        if len > COMMAND_BYTES_MAX {
            return Err(QueueError::TooLarge { len, max: COMMAND_BYTES_MAX });
        }
        let (answer, decided) = oneshot::channel();
        let waiting = Waiting { proposal, len, deadline, span: trace::current(), answer };
        match timeout_at(deadline, self.waiting.send(waiting)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(QueueError::Busy),
        }
        match timeout_at(deadline, decided).await {
            Ok(Ok(result)) => result,
            // The command may be in a batch that is under way.
            Ok(Err(_)) | Err(_) => Err(ProposeError::Timeout.into()),
        }
    }
}

struct Drain<P> {
    proposer: Arc<P>,
    me: Me,
    signer: Arc<dyn CommandSigner>,
    clock: Arc<dyn Clock>,
}

impl<P: Proposer> Drain<P> {
    async fn run(self, mut queue: mpsc::Receiver<Waiting>) {
        let turns = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let mut held_over = None;
        loop {
            let turn = Arc::clone(&turns).acquire_owned().await;
            let turn = turn.expect("the semaphore is never closed");
            let first = match held_over.take() {
                Some(first) => first,
                None => match queue.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let (batch, rest) = gather(first, &mut queue);
            held_over = rest;
            let proposer = Arc::clone(&self.proposer);
            if let Some((bytes, batch, deadline)) = self.sign(batch) {
                let span = trace::batch(batch.iter().map(|waiting| &waiting.span));
                let work = async move {
                    let result = proposer.propose(bytes, deadline).await;
                    distribute(batch, result);
                    drop(turn);
                };
                tokio::spawn(work.instrument(span));
            }
        }
    }

    /// Signs what waits, or answers that this node cannot.
    fn sign(&self, batch: Vec<Waiting>) -> Option<(Bytes, Vec<Waiting>, Instant)> {
        let now = Instant::now();
        let (late, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|w| w.deadline <= now);
        answer_all(late, &QueueError::Busy);
        let deadline = batch.iter().map(|waiting| waiting.deadline).max()?;
        let commands = batch.iter().map(|waiting| waiting.proposal.clone()).collect();
        let not_after_ms = self.clock.unix_ms().saturating_add(Batch::LIFE_MS);
        match sign_batch(self.me, &*self.signer, &Batch { not_after_ms, commands }) {
            Some(signed) => Some((signed.to_bytes().into(), batch, deadline)),
            None => {
                answer_all(batch, &QueueError::Sealed);
                None
            }
        }
    }
}

/// Takes what waits, as much as fits into one batch; what did not fit opens the next one.
fn gather(first: Waiting, queue: &mut mpsc::Receiver<Waiting>) -> (Vec<Waiting>, Option<Waiting>) {
    let mut len = first.len;
    let mut batch = vec![first];
    while batch.len() < Batch::COMMANDS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        len += next.len;
        if len > COMMAND_BYTES_MAX {
            return (batch, Some(next));
        }
        batch.push(next);
    }
    (batch, None)
}

fn answer_all(waiting: Vec<Waiting>, error: &QueueError) {
    for waiting in waiting {
        // A caller that has given up is not told.
        let _ = waiting.answer.send(Err(error.clone()));
    }
}

/// Gives each command its outcome; the one refusal of a whole batch goes to all of its commands.
fn distribute(batch: Vec<Waiting>, result: Result<Proposed, ProposeError>) {
    let Proposed { index, outcomes, durability } = match result {
        Ok(proposed) => proposed,
        Err(error) => return answer_all(batch, &error.into()),
    };
    let outcomes = match outcomes.as_slice() {
        [refusal @ Outcome::Refused(_)] => vec![refusal.clone(); batch.len()],
        _ => outcomes,
    };
    if outcomes.len() != batch.len() {
        tracing::error!(index, "an entry has another number of outcomes than of commands");
        return answer_all(batch, &ProposeError::Timeout.into());
    }
    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
        let _ = waiting.answer.send(Ok(Decided { index, outcome, durability }));
    }
}

#[cfg(test)]
mod tests;
