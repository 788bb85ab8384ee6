//! Calls that may wait for the disk, made from async code.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs a call that may wait for the disk without holding up the other tasks of this thread.
pub(crate) fn blocking<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(call),
        // A runtime of one thread has no other to move its tasks to; tests run on one.
        _ => call(),
    }
}
