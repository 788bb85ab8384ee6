//! Time, as the code above this crate may ask for it.

use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC, without leap seconds.
pub type UnixMs = u64;

/// The clocks of a node. Everything that needs the time takes one, so that tests can turn it.
pub trait Clock: Send + Sync {
    /// Returns the wall clock. It may jump; nothing that must hold rests on it alone.
    fn unix_ms(&self) -> UnixMs;

    /// Returns the time since some fixed moment; it never goes back and counts suspended time.
    fn elapsed(&self) -> Duration;
}
