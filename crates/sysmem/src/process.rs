//! Keeps the memory of this process out of core dumps and away from its neighbours.
#![expect(unsafe_code, reason = "prctl, getrlimit and setrlimit have no safe form in std")]

use std::io;

/// Why the process could not be hardened. A node that holds keys does not start then.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// `PR_SET_DUMPABLE` was refused.
    #[error("cannot make the process undumpable")]
    Dumpable(#[source] io::Error),
    /// `RLIMIT_CORE` could not be read or set.
    #[error("cannot set the core size limit to zero")]
    CoreLimit(#[source] io::Error),
    /// A call succeeded and its effect is not there, as under some sandboxes that fake calls.
    #[error("the kernel accepted `{setting}` and reads back {found}")]
    NotInForce {
        /// The setting, as the kernel names it.
        setting: &'static str,
        /// What was read back.
        found: u64,
    },
}

/// Switches off core dumps, ptrace by equals and `/proc/<pid>/mem`, and reads back that it holds.
///
/// Call it first in `main`, before any secret is in memory. The kernel makes a process dumpable
/// again at `execve` and when it changes its user or group (prctl(2)), so call it after such a change.
///
/// # Errors
/// Any [`HardenError`]; settings that were made before the failing one stay.
pub fn harden() -> Result<(), HardenError> {
    set_dumpable(false)?;
    set_core_limit_zero()?;
    if is_dumpable()? {
        return Err(HardenError::NotInForce { setting: "PR_SET_DUMPABLE", found: 1 });
    }
    let limit = core_limit()?;
    let found = limit.rlim_cur.max(limit.rlim_max);
    if found != 0 {
        return Err(HardenError::NotInForce { setting: "RLIMIT_CORE", found });
    }
    Ok(())
}

/// Says whether the kernel would write a core dump of this process (`PR_GET_DUMPABLE` is not 0).
///
/// # Errors
/// [`HardenError::Dumpable`] if the kernel does not answer.
pub fn is_dumpable() -> Result<bool, HardenError> {
    // SAFETY: PR_GET_DUMPABLE takes no pointer; the unused arguments are zero as prctl(2) asks.
    let answer = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) };
    match answer {
        -1 => Err(HardenError::Dumpable(io::Error::last_os_error())),
        state => Ok(state != 0),
    }
}

/// Returns the soft core size limit in bytes (`RLIM_INFINITY` as the largest number).
///
/// # Errors
/// [`HardenError::CoreLimit`] if the kernel does not answer.
pub fn core_size_max() -> Result<u64, HardenError> {
    core_limit().map(|limit| limit.rlim_cur)
}

fn set_dumpable(dumpable: bool) -> Result<(), HardenError> {
    // SAFETY: PR_SET_DUMPABLE takes an integer and no pointer.
    let done =
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable), 0, 0, 0) };
    match done {
        0 => Ok(()),
        _ => Err(HardenError::Dumpable(io::Error::last_os_error())),
    }
}

fn set_core_limit_zero() -> Result<(), HardenError> {
    let zero = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `zero` is a valid rlimit that outlives the call; the kernel only reads it.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const zero) };
    match done {
        0 => Ok(()),
        _ => Err(HardenError::CoreLimit(io::Error::last_os_error())),
    }
}

fn core_limit() -> Result<libc::rlimit, HardenError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for one rlimit and outlives the call.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) };
    match done {
        0 => Ok(limit),
        _ => Err(HardenError::CoreLimit(io::Error::last_os_error())),
    }
}
