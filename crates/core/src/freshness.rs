//! How old the state may be that a node uses keys by.
//!
//! A node holds a lease on its own state: so long after the leader has confirmed it, the state counts as fresh.
//! The length is the same on all nodes, since a leader that waits for leases to end has to know it. What
//! happens to a key when the lease is over is the key's own choice: [`WhenStale`].

use std::time::Duration;

/// Length of the lease in a cluster that says nothing else.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(5);
/// Shortest lease: below it an election would end every one.
pub const LEASE_MIN: Duration = Duration::from_secs(1);
/// Longest lease, and so the longest wait of a disable for a node that nobody hears.
pub const LEASE_MAX: Duration = Duration::from_secs(60);

/// Whether a key is used on a node whose state may be old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum WhenStale {
    /// It is not: a disable reaches it everywhere within one lease.
    #[n(1)]
    FailClosed,
    /// It is, for so long after the state was last known to be fresh: a node that is cut off goes on.
    #[n(2)]
    Grace {
        /// How long.
        #[n(0)]
        seconds: u32,
    },
}

impl WhenStale {
    /// What holds for a key when neither it nor its instance says anything.
    pub const DEFAULT: Self = Self::Grace { seconds: 3600 };
    /// Longest grace, in seconds: a day.
    pub const GRACE_SECONDS_MAX: u32 = 24 * 3600;

    /// Returns how old the state may be beyond the lease; zero for none at all.
    #[must_use]
    pub const fn grace(self) -> Duration {
        match self {
            Self::FailClosed => Duration::ZERO,
            Self::Grace { seconds } => Duration::from_secs(seconds as u64),
        }
    }
}
