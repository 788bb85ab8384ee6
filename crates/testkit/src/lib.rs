//! Crash-model file system, whole clusters of real processes, checkers, records to begin with.

pub mod crashfs;
pub mod memory;
pub mod records;
