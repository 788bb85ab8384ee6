//! How long the kernel lets a thread run at a time.
//!
//! A thread that answers callers wakes often and works for a fraction of a millisecond. A thread that signs with
//! RSA never sleeps, and by default the kernel lets it finish a turn of milliseconds before the other one is
//! let run. A thread with short turns may interrupt one with long turns; its share of the processor stays what
//! its niceness says. A thread that yields gives up the rest of its turn, and loses less by it when turns are short.
//!
//! Who is let run is decided by debts (EEVDF, `check_preempt_wakeup_fair` in Linux's `kernel/sched/fair.c`): a thread that
//! worked on while others waited has had more than its share, and stands back for whoever else is there, a worker of
//! low priority too. That one then stays until it sleeps, or until the kernel's next tick, up to 4 ms. A thread that
//! wakes interrupts another within its turn only if its own turns are shorter and it owes nothing. So whoever is done in
//! a moment has the shortest turns ([`MOMENT`]) and is let run at once, and those who answer callers ([`CALLS`]) run up
//! little debt to them.
#![expect(unsafe_code, reason = "sched_getattr and sched_setattr have no safe form in std")]

use std::io;
use std::mem::size_of;
use std::time::Duration;

use libc::sched_attr;

/// For threads that work for a moment and that others wait for: heartbeats, logs. The kernel has none shorter.
pub const MOMENT: Duration = Duration::from_micros(100);
/// For threads that answer callers.
pub const CALLS: Duration = Duration::from_micros(200);
/// For workers with long operations, which yield between two of them.
pub const OPERATIONS: Duration = Duration::from_micros(250);

// Only shorter turns interrupt.
const _: () = assert!(
    MOMENT.as_nanos() < CALLS.as_nanos() && CALLS.as_nanos() < OPERATIONS.as_nanos(),
    "turns are out of order"
);

/// Asks the kernel for short turns for the calling thread, from 0.1 to 100 ms. Threads that it starts from then on have
/// them too.
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
    fn turn_is_shortened_also_for_children_and_niceness_stays() {
        // A thread of its own: what is set here stays with it.
        let changed = std::thread::spawn(|| {
            let before = get().unwrap();
            shorten(CALLS).unwrap();
            let child = std::thread::spawn(|| get().unwrap());
            [before, get().unwrap(), child.join().unwrap()]
        });
        let [before, after, child] = changed.join().unwrap();
        for after in [after, child] {
            assert_eq!(
                (after.sched_policy, after.sched_nice),
                (before.sched_policy, before.sched_nice)
            );
            // A kernel that has no turns of threads says zero.
            assert!([0, 200_000].contains(&after.sched_runtime), "{}", after.sched_runtime);
        }
    }
}
