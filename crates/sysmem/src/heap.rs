//! A heap that wipes what it takes back.
//!
//! Secrets pass through memory that nobody can wrap in a type that wipes: the buffers of TLS and HTTP, the
//! fields of decoded messages. With [`Wiping`] as the global allocator such memory is overwritten when it
//! is freed. What is still held, the stack, and C libraries with a heap of their own are outside of it.

#![expect(unsafe_code, reason = "a global allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout};
use std::arch::asm;

/// Wipes memory before the inner allocator takes it back.
///
/// ```
/// use std::alloc::System;
/// use twinkeep_sysmem::heap::Wiping;
///
/// #[global_allocator]
/// static HEAP: Wiping<System> = Wiping(System);
/// ```
#[derive(Debug, Default)]
pub struct Wiping<A>(pub A);

// SAFETY: every call goes to the inner allocator unchanged; what is overwritten in between belongs to the
// caller of `dealloc`, who gives it up. `realloc` stays the trait's own, which allocates, copies and
// deallocates: an allocator that moved a block by itself would leave the old one unwiped.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the inner allocator's.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the inner allocator's.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller owns `layout.size()` bytes at `block` and has no more use for them. The empty
        // assembly may read any memory, as far as the compiler knows, so that the writes before it stay
        // although the memory is freed next.
        unsafe {
            block.write_bytes(0, layout.size());
            asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags));
            self.0.dealloc(block, layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use super::*;

    /// Keeps what it is given back, to be looked at.
    struct Kept(AtomicPtr<u8>);

    // SAFETY: blocks are those of the system's allocator, which are never freed.
    unsafe impl GlobalAlloc for Kept {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promises are the inner allocator's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
            self.0.store(block, Ordering::Relaxed);
        }
    }

    fn kept(work: impl FnOnce(&Wiping<Kept>)) -> *mut u8 {
        let heap = Wiping(Kept(AtomicPtr::default()));
        work(&heap);
        heap.0.0.load(Ordering::Relaxed)
    }

    #[test]
    fn freed_memory_is_zero() {
        for size in [1, 7, 32, 4096, 1 << 20] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            let block = kept(|heap| {
                // SAFETY: the block is of this layout, written within its size, and freed once.
                unsafe {
                    let block = heap.alloc(layout);
                    block.write_bytes(0xa5, size);
                    heap.dealloc(block, layout);
                }
            });
            // SAFETY: the inner allocator kept the block.
            let left = unsafe { std::slice::from_raw_parts(block, size) };
            assert!(left.iter().all(|byte| *byte == 0), "{size} bytes");
        }
    }

    #[test]
    fn block_that_a_growing_one_leaves_behind_is_zero() {
        let layout = Layout::from_size_align(64, 8).unwrap();
        let block = kept(|heap| {
            // SAFETY: the block is of this layout and written within its size; the new one is leaked.
            unsafe {
                let block = heap.alloc(layout);
                block.write_bytes(0xa5, 64);
                let grown = heap.realloc(block, layout, 128);
                assert_eq!(*grown, 0xa5);
            }
        });
        // SAFETY: the inner allocator kept the block.
        assert_eq!(unsafe { std::slice::from_raw_parts(block, 64) }, [0; 64]);
    }
}
