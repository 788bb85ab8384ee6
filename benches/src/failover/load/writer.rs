//! The control writer: creates one key after the other, as fast as they are acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use twinkeep_client::v1::Durability;
use twinkeep_client::{Client, v1};

/// Time of one write, from beginning to end.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// One write and what became of it.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    /// The key, or why there is none.
    pub(crate) key_id: Result<String, String>,
    /// The state that holds it; 0 without a key.
    pub(crate) state_index: u64,
}

/// The last write that was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Last {
    sent: Instant,
    durability: Durability,
}

/// A writer at work.
#[derive(Debug)]
pub(crate) struct Writer {
    task: JoinHandle<Vec<Write>>,
    stop: Arc<AtomicBool>,
    last: watch::Receiver<Option<Last>>,
}

impl Writer {
    /// Begins to write.
    pub(crate) fn start(client: &Client, request: v1::CreateKeyRequest) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, last) = watch::channel(None);
        let client = client.with_deadline(DEADLINE);
        let task = tokio::spawn(run(client, request, Arc::clone(&stop), tell));
        Self { task, stop, last }
    }

    /// Waits until a write that was sent after a moment is acknowledged; tells whether one was in time.
    pub(crate) async fn until_acknowledged(&mut self, after: Instant, within: Duration) -> bool {
        let is_after = |last: &Option<Last>| last.is_some_and(|last| last.sent >= after);
        matches!(timeout(within, self.last.wait_for(is_after)).await, Ok(Ok(_)))
    }

    /// Waits until a write is acknowledged without the other zone; tells whether one was in time.
    pub(crate) async fn until_single_zone(&mut self, within: Duration) -> bool {
        let is_single =
            |last: &Option<Last>| last.is_some_and(|l| l.durability == Durability::SingleZone);
        matches!(timeout(within, self.last.wait_for(is_single)).await, Ok(Ok(_)))
    }

    /// Ends it after the write that is open.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Write>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("the writer has ended by itself")
    }
}

async fn run(
    client: Client,
    request: v1::CreateKeyRequest,
    stop: Arc<AtomicBool>,
    tell: watch::Sender<Option<Last>>,
) -> Vec<Write> {
    let mut writes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let answer = client.create_key(request.clone()).await;
        let ended = Instant::now();
        let mut state_index = 0;
        let key_id = match answer {
            Ok(answer) => {
                state_index = answer.state_index;
                tell.send_replace(Some(Last { sent, durability: answer.durability() }));
                answer.key.map(|key| key.key_id).ok_or_else(|| "the answer has no key".to_owned())
            }
            Err(error) => Err(format!("{error:#}")),
        };
        if key_id.is_err() {
            sleep(PAUSE).await;
        }
        writes.push(Write { sent, ended, key_id, state_index });
    }
    writes
}
