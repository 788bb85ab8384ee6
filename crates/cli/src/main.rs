//! `twinkeep`: the command line.
//!
//! Where the cluster is and who calls comes from a configuration file or, without one, from the
//! development cluster in this folder ([`context`]). No secret is taken from the command's arguments,
//! which every process of the machine can read: they come from files or standard input.
//!
//! | exit code | meaning                                                                |
//! |----------:|------------------------------------------------------------------------|
//! | 0         | done                                                                   |
//! | 1         | failed: a file, the configuration, the service's inside; a wrong signature; `doctor` warns |
//! | 2         | wrong usage, or the service found the request wrong                    |
//! | 3         | not allowed, the caller is unknown, or a certificate is refused        |
//! | 4         | the state forbids it: not found, exists, disabled, changed by another  |
//! | 5         | not available now and nothing happened: try again                      |
//! | 6         | no answer, or one that does not tell, and it may have happened: look before trying again |
//! | 128 + n   | ended by signal n, such as Ctrl-C; no file is left unfinished          |

mod access;
mod admission;
mod audit;
mod cluster;
mod context;
mod crypto;
mod data;
mod dev;
mod drill;
mod effect;
mod exit;
mod file;
mod init;
mod instance;
mod interrupt;
mod key;
mod manual;
mod names;
mod offline;
mod output;
mod recover;
#[cfg(test)]
mod rpcs;
mod screen;
mod seal;
mod yaml;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::context::Context;

/// The command line of Twinkeep, a key management service in two zones.
///
/// Which cluster it calls and as whom is a matter of the context: see `twinkeep context`. No secret is
/// taken from arguments, which every process of the machine can read: they come from files or standard input.
#[derive(Debug, Parser)]
#[command(name = "twinkeep", version, after_help = manual::EXIT_CODES)]
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
    /// Uses keys: encrypts, signs, makes codes, data keys and random bytes.
    #[command(subcommand)]
    Crypto(crypto::Crypto),
    Encrypt(data::Encrypt),
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
    /// Shows the zones and says which of them leads.
    #[command(subcommand)]
    Zone(cluster::Zones),
    Doctor(cluster::Doctor),
    /// Gives nodes a share of the unseal key, or the passphrase.
    Unseal(seal::Unseal),
    /// Has nodes forget every key.
    Seal(seal::Seal),
    /// Reads and checks audit logs.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Names clusters and switches between them.
    #[command(subcommand)]
    Context(context::command::Contexts),
    /// Begins a cluster on a fresh node.
    Init(init::Init),
    /// Works on recovery bundles.
    #[command(subcommand)]
    Recovery(offline::Recovery),
    /// Begins a new life of a cluster that has lost its quorum for good.
    #[command(subcommand)]
    Recover(recover::Recover),
    /// Makes operators' keys and approves orders with them.
    #[command(subcommand)]
    Operator(offline::Operator),
    /// Runs a cluster of five processes on this machine.
    Dev(dev::Dev),
    /// Rehearses losses on that cluster and measures what callers notice.
    #[command(subcommand)]
    Drill(drill::Drill),
    /// Prints completions for a shell.
    Completions(manual::Completions),
    /// Writes the manual pages.
    Man(manual::Man),
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
        Command::Crypto(command) => command.run(context).await?,
        Command::Encrypt(command) => command.run(context).await?,
        Command::Decrypt(command) => command.run(context).await?,
        Command::Instance(command) => command.run(context).await?,
        Command::Access(command) => command.run(context).await?,
        Command::Cluster(command) => command.run(context).await?,
        Command::Zone(command) => command.run(context).await?,
        Command::Doctor(command) => return command.run(context).await,
        Command::Unseal(command) => command.run(context).await?,
        Command::Seal(command) => command.run(context).await?,
        Command::Audit(command) => return command.run(context).await,
        Command::Context(command) => command.run(context)?,
        Command::Init(command) => command.run(context.format()).await?,
        Command::Recovery(command) => return command.run(context.format()),
        Command::Recover(command) => return command.run(context).await,
        Command::Operator(command) => return command.run(context.format()),
        Command::Dev(command) => Box::pin(command.run(context.format())).await?,
        Command::Drill(command) => return Box::pin(command.run(context)).await,
        Command::Completions(command) => command.run(&mut Arguments::command())?,
        Command::Man(command) => command.run(context.format(), Arguments::command())?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_argument_takes_a_secret() {
        const SECRET: [&str; 9] = [
            "passphrase",
            "share",
            "plaintext",
            "password",
            "secret",
            "message",
            "token",
            "pin",
            "mac",
        ];
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                let names = [Some(argument.get_id().as_str()), argument.get_long()];
                for name in names.into_iter().flatten() {
                    let values = argument.get_value_names().unwrap_or_default();
                    // A file with it is what is asked for instead.
                    let is_file = values.iter().any(|value| value.contains("FILE"));
                    assert!(is_file || !SECRET.contains(&name), "{}: {name}", command.get_name());
                }
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
            "twinkeep encrypt --key key-00 report.pdf docs --into sealed --force",
            "twinkeep encrypt --key key-00 --raw message -o message.raw",
            "twinkeep key create --spec EC_P256 --usage SIGN_VERIFY",
            "twinkeep cluster promote 6",
            "twinkeep doctor",
            "twinkeep doctor --output json",
            "twinkeep zone list",
            "twinkeep zone drain zone-a",
            "twinkeep zone undrain zone-a",
            "twinkeep zone prefer none",
            "twinkeep recovery verify bundle --identity one --identity two",
            "twinkeep recover plan --zone zone-b -o order.toml",
            "twinkeep recover apply --config FILE ORDER --approval TEXT --approval TEXT",
            "twinkeep recover override --socket data/admin.sock --yes",
            "twinkeep recover export --config FILE order.toml",
            "twinkeep operator key --out ann.age",
            "twinkeep operator key --public ann.age",
            "twinkeep operator approve --key ann.age --name ann order.toml",
            "twinkeep cluster order --csr node.csr --zone zone-b -o order.toml",
            "twinkeep cluster order --csr node.csr --role WITNESS --zone zone-w --lifetime 60",
            "twinkeep cluster admit order.toml --approval ann.approval --approval bob.approval",
            "twinkeep audit verify audit",
            "twinkeep dev up",
            "twinkeep dev start-node b1",
            "twinkeep drill zone-loss",
            "twinkeep --context dev drill zone-loss",
            "twinkeep drill zone-loss --zone other --how silent --seconds 10 --rate 500 --out loss.svg",
            "twinkeep --context prod key list",
            "twinkeep key list --context prod --output yaml",
            "twinkeep context set prod --endpoint a=10.0.1.11:7100 --root root.pem --zone a",
            "twinkeep context use prod",
            "twinkeep crypto sign --key key-00 -o signatures a.pdf b.pdf",
            "twinkeep crypto verify --key key-00 a.pdf b.pdf",
            "twinkeep crypto data-key --key key-00 -o data-key.enc --plaintext-out data-key",
            "twinkeep crypto re-encrypt --to key-01 message.enc -o message.new",
            "twinkeep cluster watch --interval 0.5 --count 3",
            "twinkeep completions bash",
            "twinkeep man --dir man",
        ] {
            Arguments::try_parse_from(line.split(' '))
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
