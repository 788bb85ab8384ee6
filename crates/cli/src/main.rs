//! `twinkeep`: the command line.
//!
//! Where the cluster is and who calls comes from a configuration file or, without one, from the
//! development cluster in this folder ([`context`]). No secret is taken from the command's arguments,
//! which every process of the machine can read: they come from files or standard input.
//!
//! | exit code | meaning                                                                |
//! |----------:|------------------------------------------------------------------------|
//! | 0         | done                                                                   |
//! | 1         | failed: a file, the configuration, the service's inside                |
//! | 2         | wrong usage, or the service found the request wrong                    |
//! | 3         | not allowed, or the caller is unknown                                  |
//! | 4         | the state forbids it: not found, exists, disabled, changed by another  |
//! | 5         | not available now and nothing happened: try again                      |
//! | 6         | no answer, and it may have happened: look before trying again          |

mod access;
mod admission;
mod audit;
mod cluster;
mod context;
mod data;
mod dev;
mod exit;
mod init;
mod instance;
mod key;
mod names;
mod offline;
mod output;
mod picture;
mod report;
mod seal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::context::Context;

/// The command line of Twinkeep, a key management service in two zones.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not allowed; 4 the state forbids it; 5 not available
/// now, try again; 6 no answer and it may have happened, look before trying again.
#[derive(Debug, Parser)]
#[command(name = "twinkeep", version)]
struct Arguments {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes and manages keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Encrypts up to 64 KiB from a file or standard input.
    Encrypt(data::Encrypt),
    /// Decrypts what `encrypt` made.
    Decrypt(data::Decrypt),
    /// Makes and lists instances.
    #[command(subcommand)]
    Instance(instance::Instance),
    /// Issues certificates to callers and binds roles to them.
    #[command(subcommand)]
    Access(access::Access),
    /// Shows and changes the cluster.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Gives nodes a share of the unseal key, or the passphrase.
    Unseal(seal::Unseal),
    /// Has nodes forget every key.
    Seal(seal::Seal),
    /// Reads and checks audit logs.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Begins a cluster on a fresh node.
    Init(init::Init),
    /// Works on recovery bundles.
    #[command(subcommand)]
    Recovery(offline::Recovery),
    /// Makes operators' keys and approves admissions with them.
    #[command(subcommand)]
    Operator(offline::Operator),
    /// Runs a cluster of five processes on this machine.
    Dev(dev::Dev),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("TWINKEEP_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let Arguments { context, command } = Arguments::parse();
    match run(&context, command).await {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}

async fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Key(command) => command.run(context).await?,
        Command::Encrypt(command) => command.run(context).await?,
        Command::Decrypt(command) => command.run(context).await?,
        Command::Instance(command) => command.run(context).await?,
        Command::Access(command) => command.run(context).await?,
        Command::Cluster(command) => command.run(context).await?,
        Command::Unseal(command) => command.run(context).await?,
        Command::Seal(command) => command.run(context).await?,
        Command::Audit(command) => return command.run(context).await,
        Command::Init(command) => command.run().await?,
        Command::Recovery(command) => return command.run(),
        Command::Operator(command) => return command.run(),
        Command::Dev(command) => Box::pin(command.run()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_argument_takes_a_secret() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let secret = ["passphrase", "share", "plaintext", "password", "secret"];
                assert!(!secret.contains(&name), "{}: {name}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Arguments::command());
    }

    #[test]
    fn commands_that_are_printed_elsewhere_are_understood() {
        for line in [
            "twinkeep cluster status",
            "twinkeep encrypt --key key-00 -o message.enc",
            "twinkeep decrypt message.enc",
            "twinkeep key create --spec EC_P256 --usage SIGN_VERIFY",
            "twinkeep cluster promote 6",
            "twinkeep recovery verify bundle --identity one --identity two",
            "twinkeep operator key --out ann.age",
            "twinkeep operator key --public ann.age",
            "twinkeep operator approve --key ann.age --name ann order.toml",
            "twinkeep cluster order --csr node.csr --zone zone-b -o order.toml",
            "twinkeep cluster order --csr node.csr --role WITNESS --zone zone-w --lifetime 60",
            "twinkeep cluster admit order.toml --approval ann.approval --approval bob.approval",
            "twinkeep audit verify audit",
            "twinkeep dev up",
        ] {
            Arguments::try_parse_from(line.split(' '))
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
