//! Pages with a guard page on each side, from `memfd_secret` or locked anonymous memory.
//!
//! ```text
//! base                base + page                    base + page + len
//! | guard: PROT_NONE  | len bytes, read and write    | guard: PROT_NONE  |
//! ```
//!
//! One `mmap` reserves all of it without access; a second one with `MAP_FIXED` puts the usable pages
//! into the middle. A run off either end is a fault, not a read of a neighbour.
#![expect(unsafe_code, reason = "mmap, mlock and memfd_secret have no safe form in std")]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

/// How the kernel keeps the pages of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// `memfd_secret(2)`: locked, never dumped, and absent from the kernel's own map of memory, so
    /// that another process or a kernel bug that reads physical memory does not find them.
    MemfdSecret,
    /// Anonymous memory under `mlock`, left out of core dumps. The kernel itself still maps it.
    Locked,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemfdSecret => "memfd_secret",
            Self::Locked => "mlock",
        })
    }
}

/// Why protected pages could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A system call failed; `call` says which.
    #[error("`{call}` failed for {len} bytes of protected memory")]
    Call {
        /// The call, by its name in the manual.
        call: &'static str,
        /// Usable bytes asked for.
        len: usize,
        /// What the kernel answered. `EAGAIN` and `ENOMEM` mean `RLIMIT_MEMLOCK` is too low.
        #[source]
        source: io::Error,
    },
}

/// A mapping of its own; unmapped on drop. Whoever writes to it wipes before that.
pub(crate) struct Mapping {
    /// First byte of the leading guard page.
    base: NonNull<u8>,
    page: usize,
    len: usize,
    protection: Protection,
}

// SAFETY: the mapping is plain memory of the process, tied to no thread, and the struct itself is
// immutable. Who may write where is decided by `Arena`, which hands out each slot once.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps at least `len` bytes, rounded up to whole pages, with the strongest protection here.
    pub(crate) fn new(len: usize) -> Result<Self, MapError> {
        Self::secret(len).or_else(|_| Self::locked(len))
    }

    /// Maps pages of a `memfd_secret`. Fails on kernels without it or with it switched off.
    pub(crate) fn secret(len: usize) -> Result<Self, MapError> {
        let mapping = Self::reserve(len, Protection::MemfdSecret)?;
        let fd = memfd_secret().map_err(|source| mapping.failed("memfd_secret", source))?;
        // `len` counts pages of an existing reservation, far below the range of off_t.
        let file_len = libc::off_t::try_from(mapping.len)
            .map_err(|e| mapping.failed("ftruncate", io::Error::other(e)))?;
        // SAFETY: `fd` is open and owned; ftruncate takes no pointer.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), file_len) } != 0 {
            return Err(mapping.failed("ftruncate", io::Error::last_os_error()));
        }
        mapping.back_with(libc::MAP_SHARED, fd.as_raw_fd())?;
        mapping.advise(libc::MADV_DONTFORK)?;
        // The mapping keeps the memory alive; closing the descriptor leaves no second way in.
        Ok(mapping)
    }

    /// Maps anonymous pages and locks them into memory.
    pub(crate) fn locked(len: usize) -> Result<Self, MapError> {
        let mapping = Self::reserve(len, Protection::Locked)?;
        mapping.back_with(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        // SAFETY: the range is the usable middle of this mapping.
        if unsafe { libc::mlock(mapping.start().as_ptr().cast(), mapping.len) } != 0 {
            return Err(mapping.failed("mlock", io::Error::last_os_error()));
        }
        mapping.advise(libc::MADV_DONTDUMP)?;
        mapping.advise(libc::MADV_DONTFORK)?;
        Ok(mapping)
    }

    /// Usable bytes: what was asked for, rounded up to whole pages.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn protection(&self) -> Protection {
        self.protection
    }

    /// Returns the address of usable byte 0; `len()` bytes follow it.
    pub(crate) fn start(&self) -> NonNull<u8> {
        // SAFETY: the reservation is two pages longer than `len`, so one page on is inside it.
        unsafe { self.base.add(self.page) }
    }

    fn reserve(len: usize, protection: Protection) -> Result<Self, MapError> {
        let failed = |source| MapError::Call { call: "mmap", len, source };
        let page = page_size().map_err(failed)?;
        let too_long = || failed(io::Error::from_raw_os_error(libc::ENOMEM));
        let len = len.max(1).checked_next_multiple_of(page).ok_or_else(too_long)?;
        let whole = page.checked_mul(2).and_then(|p| p.checked_add(len)).ok_or_else(too_long)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing.
        let base = unsafe { libc::mmap(ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast()).ok_or_else(too_long)?;
        Ok(Self { base, page, len, protection })
    }

    /// Replaces the middle of the reservation by readable and writable pages.
    fn back_with(&self, flags: libc::c_int, fd: libc::c_int) -> Result<(), MapError> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let middle = self.start().as_ptr().cast();
        // SAFETY: MAP_FIXED replaces exactly the middle of a reservation that nobody else knows yet.
        let got = unsafe { libc::mmap(middle, self.len, access, flags | libc::MAP_FIXED, fd, 0) };
        if got == libc::MAP_FAILED {
            return Err(self.failed("mmap", io::Error::last_os_error()));
        }
        Ok(())
    }

    fn advise(&self, advice: libc::c_int) -> Result<(), MapError> {
        // SAFETY: the range is the usable middle of this mapping; these advices change no contents.
        if unsafe { libc::madvise(self.start().as_ptr().cast(), self.len, advice) } != 0 {
            return Err(self.failed("madvise", io::Error::last_os_error()));
        }
        Ok(())
    }

    fn failed(&self, call: &'static str, source: io::Error) -> MapError {
        MapError::Call { call, len: self.len, source }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `reserve` mapped; slots keep the arena and so the mapping
        // alive, hence nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len + 2 * self.page) };
    }
}

fn page_size() -> io::Result<usize> {
    // SAFETY: sysconf takes and returns integers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: memfd_secret(2) takes flags and no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
