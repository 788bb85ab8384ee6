//! A queued record, and the wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;

use crate::error::Outage;
use crate::log::Shared;

/// What an answer has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until the record is queued, within the loss bound: symmetric crypto calls.
    Queued,
    /// Until the record is on the disk: control operations, uses of asymmetric private keys, and every
    /// call of an instance whose audit is strict.
    Durable,
}

/// A queued record. The call is answered only after [`Ticket::wait`].
#[must_use = "a call is answered after its record's wait, not before"]
pub struct Ticket {
    shared: Arc<Shared>,
    sequence: u64,
    /// How long the call took until its record was queued.
    age: Duration,
    /// Whether the disk is behind: the oldest record had waited for the whole loss window when this one
    /// came, or half of the queue was taken.
    late: bool,
}

impl Ticket {
    pub(crate) const fn new(shared: Arc<Shared>, sequence: u64, age: Duration, late: bool) -> Self {
        Self { shared, sequence, age, late }
    }

    /// Returns the record's position in the log.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Tells whether [`Ticket::wait`] has anything to wait for.
    #[must_use]
    pub const fn waits(&self, wait: Wait) -> bool {
        self.late || matches!(wait, Wait::Durable)
    }

    /// Waits for what the answer has to wait for.
    ///
    /// # Errors
    /// The [`Outage`] because of which the call must not be answered.
    pub async fn wait(self, wait: Wait) -> Result<(), Outage> {
        if !self.waits(wait) {
            return Ok(());
        }
        // Boxed: most calls have nothing to wait for, and should not carry the room for it.
        Box::pin(self.durable()).await
    }

    /// Waits until the call may be answered under the loss bound: mostly not at all, but for the
    /// record's sync when the disk is slower than [`crate::LOSS_WINDOW`].
    ///
    /// # Errors
    /// As [`Ticket::durable`].
    pub async fn queued(&self) -> Result<(), Outage> {
        if self.late { self.durable().await } else { Ok(()) }
    }

    /// Waits until the record is on the disk. Needs a Tokio runtime with its timer.
    ///
    /// # Errors
    /// The [`Outage`] that keeps it from the disk; [`Outage::Stalled`] after the stall limit. The
    /// record may yet be written, so the log can hold a call that was not answered, never the reverse.
    pub async fn durable(&self) -> Result<(), Outage> {
        let queue = &self.shared.queue;
        let settled = || {
            let progress = queue.progress();
            if progress.head.sequence >= self.sequence {
                return Some(Ok(()));
            }
            progress.outage.map(Err)
        };
        // The thread's other calls first: what they queue goes to the disk together with this record.
        yield_now().await;
        queue.await_record(self.sequence, self.age);
        let synced = queue.wait(self.sequence, settled);
        timeout(queue.stall_limit(), synced).await.unwrap_or(Err(Outage::Stalled))
    }
}
