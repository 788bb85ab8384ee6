//! openraft's metrics, read once at a time.
//!
//! They lie behind a lock that lets a waiting writer go first. A thread that reads them while it reads them already
//! waits for openraft's core, which waits for this thread: the node hangs, for ever, with its port open. The borrow
//! checker allows it, and a temporary in the middle of an expression is enough. So nobody borrows them but
//! [`observe`], which ends the process where it would hang.

use std::cell::Cell;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftMetrics;

use crate::state_machine::Raft;
use crate::types::TypeConfig;

thread_local! {
    static IS_READING: Cell<bool> = const { Cell::new(false) };
}

/// Reads the metrics. `read` must be short, since the core waits for it, and must not read them again.
///
/// # Panics
/// When `read` reads them again.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub(crate) fn observe<T>(raft: &Raft, read: impl FnOnce(&RaftMetrics<TypeConfig>) -> T) -> T {
    let _reading = Reading::begin();
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    read(&metrics)
}

/// Tells whether this node leads.
pub(crate) fn leads(raft: &Raft) -> bool {
    observe(raft, |metrics| metrics.state.is_leader())
}

/// This thread reads, until this is dropped.
struct Reading;

impl Reading {
    fn begin() -> Self {
        let is_nested = IS_READING.replace(true);
        assert!(!is_nested, "openraft's metrics are read while they are read: that may never end");
        Self
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        IS_READING.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "read while they are read")]
    fn reading_within_a_reading_ends_the_process() {
        let _reading = Reading::begin();
        Reading::begin();
    }

    #[test]
    fn readings_may_follow_each_other() {
        drop(Reading::begin());
        drop(Reading::begin());
    }
}
