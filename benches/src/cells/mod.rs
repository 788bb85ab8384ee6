//! What is compared with what.

mod batch;
mod control;
mod fairness;
mod footprint;
mod hotpath;
mod library;
mod overload;
mod peers;
pub(crate) mod requests;
mod sign;
mod stream;
mod unary;
mod variants;

use futures::future::LocalBoxFuture;

use crate::bench::Bench;

/// One comparison, or several of a kind.
pub(crate) struct Cell {
    /// Its name, for `--only`.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) what: &'static str,
    /// Measures, and adds figures to the report.
    pub(crate) run: for<'a> fn(&'a mut Bench) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

/// Names each cell with its module's function.
macro_rules! cells {
    ($($name:literal $what:literal $run:path;)*) => {
        /// All cells in the order in which they run.
        pub(crate) const ALL: &[Cell] =
            &[$(Cell { name: $name, what: $what, run: |bench| Box::pin($run(bench)) }),*];
    };
}

cells! {
    "unary" "Encrypt of 1 KiB, 64 in flight, beside the unary echo" unary::gate;
    "grid" "Encrypt and Decrypt by size and calls in flight, beside the unary echo" unary::grid;
    "variants" "the echo with the node's allocator and runtime, beside the echo" variants::run;
    "follower" "Encrypt at a follower, beside the leader" unary::follower;
    "stream" "one bidirectional stream" stream::run;
    "batch" "batches of 100 × 32 B beside the bare envelope" batch::run;
    "sign" "signatures and data keys, beside the bare library" sign::run;
    "library" "Encrypt through the client library" library::run;
    "peers" "other key management on the same core" peers::run;
    "createkey" "CreateKey on five nodes beside etcd's put on three" control::run;
    "overload" "three times the capacity, in an open loop" overload::run;
    "fairness" "Encrypt beside a caller who signs with RSA-4096" fairness::run;
    "hotpath" "heap blocks and system calls of one Encrypt" hotpath::run;
    "footprint" "start, memory, memory of a connection" footprint::run;
}
