//! The clocks of the machine.

use std::io;
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

/// Returns the kernel's boot id, which names the start that [`SystemClock::elapsed`] counts from: random, 16
/// bytes (`random(4)`).
///
/// # Errors
/// When `/proc` is not there or says something else.
pub(crate) fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is no UUID")));
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Ok(id)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // Before 1970 there is no cluster: such a clock reads as zero.
    Duration::try_from(time).unwrap_or_default()
}
