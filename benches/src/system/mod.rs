//! What the kernel decides and knows: which core runs what, who used how much of it.

pub(crate) mod cores;
pub(crate) mod priority;
pub(crate) mod process;
pub(crate) mod weather;
