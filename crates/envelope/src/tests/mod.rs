//! The published vectors, on ring and on AWS-LC, and everything that must not open.

mod accumulated;
mod aws_lc;
mod derived;
mod refusals;
pub(crate) mod vectors;
