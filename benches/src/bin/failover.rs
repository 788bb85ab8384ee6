//! `twinkeep-failover`: loses zones and measures what callers notice.

use std::process::ExitCode;

use clap::Parser;
use twinkeep_benches::{FailoverOptions, NoNamespaces};

/// What automake takes for "skipped".
const SKIPPED: u8 = 77;

/// Loses zones of a cluster under load, again and again, and measures what callers notice; writes
/// reports/bench-failover.json. It can be interrupted: the same command goes on where it stopped. Ends with 77 where
/// network namespaces cannot be made, which takes root.
#[derive(Debug, Parser)]
#[command(name = "twinkeep-failover", version)]
struct Arguments {
    #[command(flatten)]
    options: FailoverOptions,
}

fn main() -> ExitCode {
    match twinkeep_benches::run_failover(&Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twinkeep-failover: {error:#}");
            let is_skipped = error.downcast_ref::<NoNamespaces>().is_some();
            if is_skipped { ExitCode::from(SKIPPED) } else { ExitCode::FAILURE }
        }
    }
}
