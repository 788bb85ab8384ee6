//! Protected memory and a process without core dumps. Linux only.
//!
//! What a key store asks of the kernel and that safe Rust cannot ask for:
//!
//! - [`process::harden`], the first call in `main`: no core dump, no reading through
//!   `/proc/<pid>/mem` and no ptrace by a process of the same user.
//! - [`Arena`], a few pages for the keys that open all others. They are never swapped, never dumped,
//!   not inherited by a child, fenced by guard pages and wiped slot by slot. [`Protection`] says how
//!   strongly: with `memfd_secret` not even the kernel maps them.
//!
//! - [`heap::Wiping`], a global allocator that overwrites what is freed.
//! - [`turns`], which is no matter of memory: how long the kernel lets a thread run at a time.
//!
//! What this does not do: a copy that a cryptographic library makes on the stack or in its own
//! buffers while it works is outside the arena, and so is what a caller copies out of
//! [`Protected::danger_expose`].
//!
//! This is the only crate of ours with unsafe code. All of it is in [`process`], `mapping`,
//! [`arena`], [`heap`] and [`turns`], each block with the reason why it is sound.

pub mod arena;
pub mod heap;
mod mapping;
pub mod process;
pub mod turns;

pub use arena::{Arena, ArenaError, Protected};
pub use mapping::{MapError, Protection};

#[cfg(test)]
mod tests;
