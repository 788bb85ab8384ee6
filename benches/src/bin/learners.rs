//! `twinkeep-learners`: adds nodes to a cluster and measures what they add.

use std::process::ExitCode;

use clap::Parser;
use twinkeep_benches::{LearnersOptions, NoQuotas};

/// What automake takes for "skipped".
const SKIPPED: u8 = 77;

/// Measures a cluster with 0, 2 and 4 serving learners, each node with a small share of the processor of its own; writes
/// reports/bench-learners.json. It can be interrupted: the same command goes on where it stopped. Ends with 77 where
/// processes cannot be given a share, which takes root.
#[derive(Debug, Parser)]
#[command(name = "twinkeep-learners", version)]
struct Arguments {
    #[command(flatten)]
    options: LearnersOptions,
}

fn main() -> ExitCode {
    match twinkeep_benches::run_learners(&Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twinkeep-learners: {error:#}");
            let is_skipped = error.downcast_ref::<NoQuotas>().is_some();
            if is_skipped { ExitCode::from(SKIPPED) } else { ExitCode::FAILURE }
        }
    }
}
