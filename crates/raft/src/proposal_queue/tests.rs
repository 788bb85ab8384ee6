use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use twinkeep_core::command::{Command, Purpose, SignedBatch};
use twinkeep_core::id::{ClusterId, Epoch, Incarnation, NodeId};
use twinkeep_core::outcome::{Applied, Refusal};

use super::*;

struct Pen {
    is_sealed: AtomicBool,
}

impl CommandSigner for Pen {
    fn sign(&self, purpose: Purpose, _: &[u8]) -> Option<(Epoch, [u8; 64])> {
        assert_eq!(purpose, Purpose::Command);
        (!self.is_sealed()).then_some((Epoch::FIRST, [7; 64]))
    }

    fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Relaxed)
    }
}

struct Noon;

impl Clock for Noon {
    fn unix_ms(&self) -> u64 {
        1_000
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// A leader that takes its time and answers each command.
#[derive(Default)]
struct Leader {
    batches: Mutex<Vec<Batch>>,
    answer: Mutex<Option<Result<Proposed, ProposeError>>>,
}

impl Proposer for Arc<Leader> {
    async fn propose(&self, batch: Bytes, _: Instant) -> Result<Proposed, ProposeError> {
        let batch = SignedBatch::from_bytes(&batch).unwrap().batch;
        let batch = Batch::from_bytes(&batch).unwrap();
        let count = batch.commands.len();
        self.batches.lock().push(batch);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let outcomes = vec![Outcome::Applied(Applied::Cluster); count];
        self.answer.lock().clone().unwrap_or(Ok(Proposed { index: 9, outcomes, durability: None }))
    }
}

fn clock_command(unix_ms: u64) -> Proposal {
    Proposal { actor: None, token: None, command: Command::Clock { unix_ms } }
}

fn queue(leader: &Arc<Leader>) -> (ProposalQueue, Arc<Pen>) {
    let me = Me {
        cluster: ClusterId::from_bytes([1; 16]),
        incarnation: Incarnation::FIRST,
        node: NodeId::FIRST,
    };
    let pen = Arc::new(Pen { is_sealed: AtomicBool::new(false) });
    (ProposalQueue::start(Arc::clone(leader), me, pen.clone(), Arc::new(Noon)), pen)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn propose_many(queue: &ProposalQueue, count: u64) -> Vec<Result<Decided, QueueError>> {
    let calls = (0..count).map(|n| queue.propose(clock_command(n), soon()));
    futures::future::join_all(calls).await
}

#[tokio::test]
async fn commands_gather_while_batches_are_under_way() {
    let leader = Arc::new(Leader::default());
    let (queue, _) = queue(&leader);
    for decided in propose_many(&queue, 600).await {
        assert_eq!(decided.unwrap().index, 9);
    }
    let batches = leader.batches.lock();
    assert!(batches.len() < 20, "{} batches", batches.len());
    assert!(batches.iter().all(|batch| batch.commands.len() <= Batch::COMMANDS_MAX));
    assert!(batches.iter().all(|batch| batch.not_after_ms == 1_000 + Batch::LIFE_MS));
    let mut seen: Vec<_> = batches.iter().flat_map(|b| b.commands.clone()).collect();
    seen.sort_by_key(|p| if let Command::Clock { unix_ms } = p.command { unix_ms } else { 0 });
    assert_eq!(seen, (0..600).map(clock_command).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lonely_command_does_not_wait() {
    let leader = Arc::new(Leader::default());
    let (queue, _) = queue(&leader);
    let begun = Instant::now();
    queue.propose(clock_command(1), soon()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(500));
    assert_eq!(leader.batches.lock().len(), 1);
}

#[tokio::test]
async fn a_refused_batch_refuses_each_of_its_commands() {
    let leader = Arc::new(Leader::default());
    let refused = Outcome::Refused(Refusal::Unsigned);
    *leader.answer.lock() = Some(Ok(Proposed {
        index: 3,
        outcomes: vec![refused.clone()],
        durability: Some(Durability::EveryZone),
    }));
    let (queue, _) = queue(&leader);
    for decided in propose_many(&queue, 20).await {
        assert_eq!(
            decided.unwrap(),
            Decided { index: 3, outcome: refused.clone(), durability: Some(Durability::EveryZone) }
        );
    }
}

#[tokio::test]
async fn a_sealed_node_proposes_nothing() {
    let leader = Arc::new(Leader::default());
    let (queue, pen) = queue(&leader);
    pen.is_sealed.store(true, Ordering::Relaxed);
    assert_eq!(queue.propose(clock_command(1), soon()).await, Err(QueueError::Sealed));
    assert!(leader.batches.lock().is_empty());
    pen.is_sealed.store(false, Ordering::Relaxed);
    queue.propose(clock_command(1), soon()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_outcome_is_told_to_every_caller() {
    let leader = Arc::new(Leader::default());
    *leader.answer.lock() = Some(Err(ProposeError::Timeout));
    let (queue, _) = queue(&leader);
    for decided in propose_many(&queue, 20).await {
        assert_eq!(decided, Err(QueueError::Propose(ProposeError::Timeout)));
    }
}

#[tokio::test]
async fn a_deadline_that_passes_under_way_leaves_the_outcome_open() {
    let leader = Arc::new(Leader::default());
    let (queue, _) = queue(&leader);
    let deadline = Instant::now() + Duration::from_millis(10);
    let decided = queue.propose(clock_command(1), deadline).await;
    assert_eq!(decided, Err(QueueError::Propose(ProposeError::Timeout)));
}
