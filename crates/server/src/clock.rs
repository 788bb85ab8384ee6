//! The clocks of the machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use twinkeep_core::clock::{Clock, UnixMs};

/// Reads the kernel's clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> UnixMs {
        u64::try_from(read(ClockId::Realtime).as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        // Counts suspended time, which CLOCK_MONOTONIC does not.
        read(ClockId::Boottime)
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // Before 1970 there is no cluster: such a clock reads as zero.
    Duration::try_from(time).unwrap_or_default()
}
