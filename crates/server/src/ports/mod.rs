//! What the services need from outside, answered with the real thing.

pub(crate) mod cluster;
pub(crate) mod control;
pub(crate) mod diagnosis;
pub(crate) mod issuer;
mod leadership;
pub(crate) mod unseal;
pub(crate) mod vault;
