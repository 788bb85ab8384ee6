//! `twinkeep-bench`: measures a cluster beside its yardsticks.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use twinkeep_benches::{EchoArguments, Options, SofthsmArguments};

/// Measures a cluster beside its yardsticks; writes reports/bench.json and reports/bench.svg.
#[derive(Debug, Parser)]
#[command(name = "twinkeep-bench", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the empty service that unary calls are compared with; ends with its standard input.
    #[command(hide = true)]
    Echo(EchoArguments),
    /// Times SoftHSM; the environment names its configuration.
    #[command(hide = true)]
    Softhsm(SofthsmArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::Echo(echo)) => twinkeep_benches::run_echo(&echo),
        Some(Command::Softhsm(softhsm)) => twinkeep_benches::run_softhsm(&softhsm),
        None => twinkeep_benches::run(&arguments.options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twinkeep-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
