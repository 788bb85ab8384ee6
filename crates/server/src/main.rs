//! `twinkeepd`: a node of a Twinkeep cluster, and what works offline on a node's own files.

mod clock;
mod config;
mod identity;
mod lives;
mod metrics;
mod node;
mod offline;
mod ports;
mod telemetry;

use std::alloc::System;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use twinkeep_sysmem::heap::Wiping;
use twinkeep_sysmem::turns;

use crate::config::Config;
use crate::telemetry::Telemetry;

/// What requests leave behind in freed buffers does not outlive them.
#[global_allocator]
static HEAP: Wiping<System> = Wiping(System);

/// A node of a Twinkeep cluster.
#[derive(Debug, Parser)]
#[command(name = "twinkeepd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the node until it is told to stop.
    Run {
        /// The node's configuration.
        #[arg(long, default_value = "/etc/twinkeep/twinkeepd.toml")]
        config: PathBuf,
    },
    /// Prints the node's certificate signing request, for `twinkeep cluster order`, and its key's digest, for
    /// the operators; makes the key if need be.
    Identity {
        /// The node's configuration.
        #[arg(long, default_value = "/etc/twinkeep/twinkeepd.toml")]
        config: PathBuf,
    },
    /// Prints an example of a configuration with every field explained.
    ConfigExample,
    /// Prints the table of all metrics, for docs/observability.md.
    MetricsTable,
    /// Makes an operator's key, for the recovery bundle and for approvals, and prints its public half.
    OperatorKey(offline::operator::OperatorKey),
    /// Signs an order to admit a node with an operator's key.
    OperatorApprove(offline::operator::OperatorApprove),
    /// Opens a recovery bundle with operators' keys and compares the root key's check value.
    RecoveryVerify(offline::recovery::RecoveryVerify),
    /// Ends the present life of the cluster on this node, which is stopped, and begins the next one here or makes
    /// room for it.
    RecoverApply(offline::recover::RecoverApply),
    /// Lists the changes in the log of a lost node that the recovered cluster does not have.
    RecoverExport(offline::export::RecoverExport),
    /// Checks the audit log in a node's folder.
    AuditVerify(offline::audit::AuditVerify),
    /// Checks every cryptographic primitive against published answers.
    SelfTest,
}

fn main() -> ExitCode {
    // First of all: from here on no core is dumped and no process of the same user reads this memory.
    if let Err(error) = twinkeep_sysmem::process::harden() {
        eprintln!("twinkeepd: cannot protect the process: {error}");
        return ExitCode::FAILURE;
    }
    match act(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twinkeepd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { config } => run(&config),
        Command::Identity { config } => offline::identity::print(&Config::load(&config)?),
        Command::ConfigExample => {
            print!("{}", config::example());
            Ok(())
        }
        Command::MetricsTable => {
            print!("{}", metrics::table());
            Ok(())
        }
        Command::OperatorKey(command) => command.run(),
        Command::OperatorApprove(command) => command.run(),
        Command::RecoveryVerify(command) => command.run(),
        Command::RecoverApply(command) => command.run(),
        Command::RecoverExport(command) => command.run(),
        Command::AuditVerify(command) => command.run(),
        Command::SelfTest => {
            self_test()?;
            println!("every primitive gives its published answers");
            Ok(())
        }
    }
}

fn run(config: &std::path::Path) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let telemetry = Telemetry::start(&config)?;
    self_test()?;
    // Heartbeats, control work and logs are done in a moment, and a flood of calls must not keep them waiting. All threads
    // have this from here, but those that choose other turns: callers' and workers'. Failing costs fairness, not
    // correctness.
    if let Err(error) = turns::shorten(turns::MOMENT) {
        tracing::warn!(%error, "heartbeats wait for other threads to end their turns");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("twinkeepd")
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(node::run(config, &telemetry));
    // Blocking work that hangs on a dead disk must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    telemetry.end();
    ended
}

/// A node whose primitives give wrong answers takes no key in.
fn self_test() -> anyhow::Result<()> {
    twinkeep_crypto::self_test().context("the self-test failed")?;
    twinkeep_keyring::self_test().context("the self-test failed")
}
