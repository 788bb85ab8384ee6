//! A few pages for the keys that open all others, given out in slots of [`SLOT_BYTES`].
//!
//! Invariants: a slot has one owner, a [`Protected`], or none; a slot without owner is all zeros.
#![expect(unsafe_code, reason = "slots are raw memory of a mapping that the arena owns")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mapping::{MapError, Mapping, Protection};

/// Size of a slot in bytes; the longest secret that fits.
pub const SLOT_BYTES: usize = 64;

/// Why a secret found no place in protected memory.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The kernel gave no protected pages.
    #[error("no protected memory")]
    Map(#[from] MapError),
    /// Every slot has an owner. The caller keeps too many keys, or the arena was made too small.
    #[error("all {slots} slots of protected memory are in use")]
    Full {
        /// Slots that the arena has.
        slots: usize,
    },
}

/// Protected pages cut into slots. Cheap to clone: clones share the pages.
#[derive(Clone)]
pub struct Arena(Arc<Shared>);

struct Shared {
    mapping: Mapping,
    /// Indexes of slots without owner.
    free: Mutex<Vec<usize>>,
}

impl Arena {
    /// Maps room for at least `slots` secrets, under the strongest protection that works here.
    ///
    /// # Errors
    /// [`ArenaError::Map`] when neither `memfd_secret` nor `mlock` gives the pages; most often
    /// `RLIMIT_MEMLOCK` is too low (`LimitMEMLOCK=` in the systemd unit).
    pub fn new(slots: usize) -> Result<Self, ArenaError> {
        Ok(Self::over(Mapping::new(slots.saturating_mul(SLOT_BYTES))?))
    }

    pub(crate) fn over(mapping: Mapping) -> Self {
        let free = (0..mapping.len() / SLOT_BYTES).rev().collect();
        Self(Arc::new(Shared { mapping, free: Mutex::new(free) }))
    }

    /// Says how the kernel keeps the pages, for the log line at start.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.0.mapping.protection()
    }

    /// Returns how many slots there are, used or free.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.0.mapping.len() / SLOT_BYTES
    }

    /// Takes a slot and lets `fill` write the secret into it, in place. The slot begins as zeros.
    ///
    /// `N` is at most [`SLOT_BYTES`]; a longer one does not compile. If `fill` panics, the slot is
    /// wiped and given back.
    ///
    /// # Errors
    /// [`ArenaError::Full`] when every slot has an owner.
    pub fn protect<const N: usize>(
        &self,
        fill: impl FnOnce(&mut [u8; N]),
    ) -> Result<Protected<N>, ArenaError> {
        const { assert!(N <= SLOT_BYTES, "a secret is longer than a slot") };
        let slot = self.0.free().pop().ok_or(ArenaError::Full { slots: self.slots() })?;
        let mut protected = Protected { arena: self.0.clone(), slot };
        fill(protected.bytes_mut());
        Ok(protected)
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("protection", &self.protection())
            .field("slots", &self.slots())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        // Pushing and popping an index cannot leave the list half changed, so poison means nothing.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the address of a slot; [`SLOT_BYTES`] bytes follow it.
    fn address(&self, slot: usize) -> NonNull<u8> {
        let offset = slot * SLOT_BYTES;
        assert!(offset + SLOT_BYTES <= self.mapping.len(), "slot {slot} is outside the arena");
        // SAFETY: just checked to be inside the mapping.
        unsafe { self.mapping.start().add(offset) }
    }
}

/// A secret of `N` bytes in a slot of its own; wiped when dropped.
///
/// No `Clone`, no comparison, and `Debug` shows the length alone.
pub struct Protected<const N: usize> {
    arena: Arc<Shared>,
    slot: usize,
}

impl<const N: usize> Protected<N> {
    /// Returns the secret. Whatever is copied out of it is outside protected memory.
    #[must_use]
    pub fn danger_expose(&self) -> &[u8; N] {
        // SAFETY: the slot has N readable bytes (checked when it was taken), every bit pattern is a
        // u8, and only this value reaches it: `&self` here, `&mut self` for writing.
        unsafe { self.arena.address(self.slot).cast().as_ref() }
    }

    fn bytes_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `danger_expose`, and `&mut self` makes this the only reference.
        unsafe { self.arena.address(self.slot).cast().as_mut() }
    }
}

impl<const N: usize> Drop for Protected<N> {
    fn drop(&mut self) {
        let start = self.arena.address(self.slot);
        for i in 0..SLOT_BYTES {
            // SAFETY: inside the slot. Volatile, so that the compiler cannot drop a write that
            // nobody reads.
            unsafe { start.add(i).write_volatile(0) };
        }
        // The zeros are written before the slot can have its next owner.
        compiler_fence(Ordering::SeqCst);
        self.arena.free().push(self.slot);
    }
}

impl<const N: usize> fmt::Debug for Protected<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protected({N} bytes)")
    }
}

#[cfg(test)]
impl Arena {
    /// Returns the bytes of a slot, owned or not.
    pub(crate) fn peek(&self, slot: usize) -> [u8; SLOT_BYTES] {
        // SAFETY: inside the mapping; the tests that call it have no concurrent writer.
        unsafe { self.0.address(slot).cast::<[u8; SLOT_BYTES]>().read_volatile() }
    }

    /// Reads one byte at a distance from the first usable byte, inside or outside the mapping.
    pub(crate) fn danger_touch(&self, distance: isize) -> u8 {
        // SAFETY: none; the tests do this in a child process to see it die.
        unsafe { self.0.mapping.start().as_ptr().wrapping_offset(distance).read_volatile() }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.mapping.len()
    }

    pub(crate) fn start_address(&self) -> usize {
        self.0.mapping.start().as_ptr().addr()
    }
}
