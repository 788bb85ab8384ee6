//! How long the kernel lets a thread run at a time.
//!
//! A thread that answers callers wakes often and works for a fraction of a millisecond. A thread that signs with
//! RSA never sleeps, and by default the kernel lets it finish a turn of milliseconds before the other one is
//! let run. A thread with short turns may interrupt one with long turns; its share of the processor stays what
//! its niceness says. A thread that yields gives up the rest of its turn, and loses less by it when turns are short.
#![expect(unsafe_code, reason = "sched_getattr and sched_setattr have no safe form in std")]

use std::io;
use std::mem::size_of;
use std::time::Duration;

use libc::sched_attr;

/// Asks the kernel for short turns for the calling thread, from 0.1 to 100 ms.
///
/// Linux has turns of a thread's own since version 6.12 (`sched_runtime` of a thread without real-time policy);
/// an older kernel takes the call and changes nothing.
///
/// # Errors
/// What the kernel says, as under a sandbox that forbids the call.
pub fn shorten(turn: Duration) -> io::Result<()> {
    let mut attributes = get()?;
    attributes.sched_runtime = u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX);
    set(&attributes)
}

const SIZE: u32 = size_of::<sched_attr>() as u32;

fn get() -> io::Result<sched_attr> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut attributes: sched_attr = unsafe { std::mem::zeroed() };
    let this_thread = 0;
    // SAFETY: the kernel writes at most `SIZE` bytes to the struct, which lives until the call returns.
    let answer = unsafe {
        libc::syscall(libc::SYS_sched_getattr, this_thread, &raw mut attributes, SIZE, 0)
    };
    if answer == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

fn set(attributes: &sched_attr) -> io::Result<()> {
    let this_thread = 0;
    // SAFETY: the kernel reads the struct, whose own `size` says how long it is.
    let answer =
        unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const *attributes, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_is_shortened_and_niceness_stays() {
        // A thread of its own: what is set here stays with it.
        let changed = std::thread::spawn(|| {
            let before = get().unwrap();
            shorten(Duration::from_micros(300)).unwrap();
            (before, get().unwrap())
        });
        let (before, after) = changed.join().unwrap();
        assert_eq!(
            (after.sched_policy, after.sched_nice),
            (before.sched_policy, before.sched_nice)
        );
        // A kernel that has no turns of threads says zero.
        assert!([0, 300_000].contains(&after.sched_runtime), "{}", after.sched_runtime);
    }
}
