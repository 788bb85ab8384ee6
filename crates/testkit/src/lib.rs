//! Crash-model file system, whole clusters of real processes, checkers.

pub mod crashfs;
pub mod memory;
