//! What works on files alone, without a cluster. `twinkeep` runs these.

pub(crate) mod audit;
pub(crate) mod export;
pub(crate) mod identity;
pub(crate) mod operator;
pub(crate) mod recover;
pub(crate) mod recovery;
