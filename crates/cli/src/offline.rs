//! What works on files without any service: subcommands of `twinkeepd`, which this program runs.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::output::{Format, document};

/// Works on recovery bundles.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Recovery {
    /// Opens a recovery bundle in a process of its own and says whether it would recover the cluster.
    Verify {
        /// The bundle.
        bundle: PathBuf,
        /// An operator's key file; as many as the bundle needs.
        #[arg(long = "identity", required = true, value_name = "FILE")]
        identities: Vec<PathBuf>,
    },
}

impl Recovery {
    /// Does what was asked.
    pub(crate) fn run(self, format: Format) -> anyhow::Result<ExitCode> {
        let Self::Verify { bundle, identities } = self;
        let mut arguments = vec!["recovery-verify".into(), bundle.into_os_string()];
        for identity in identities {
            arguments.extend(["--identity".into(), identity.into_os_string()]);
        }
        twinkeepd(format, "report", arguments)
    }
}

/// Makes operators' keys and approves orders with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Operator {
    /// Makes an operator's key, or reads one, and prints its public half.
    Key {
        /// Where a new key goes; mode 0600, never overwritten.
        #[arg(long, value_name = "FILE", required_unless_present = "public")]
        out: Option<PathBuf>,
        /// A key that was made before: its public half is printed again.
        #[arg(long, value_name = "FILE", conflicts_with = "out")]
        public: Option<PathBuf>,
    },
    /// Shows the order to admit a node or to recover the cluster, signs it, and prints the approval.
    Approve {
        /// The operator's key file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The operator's name, as the cluster has it.
        #[arg(long)]
        name: String,
        /// The order, as `twinkeep cluster order` or `twinkeep recover plan` wrote it.
        order: PathBuf,
    },
}

impl Operator {
    /// Does what was asked.
    pub(crate) fn run(self, format: Format) -> anyhow::Result<ExitCode> {
        let mut arguments: Vec<OsString> = Vec::new();
        let what = match self {
            Self::Key { out, public } => {
                arguments.push("operator-key".into());
                for (option, path) in [("--out", out), ("--public", public)] {
                    arguments
                        .extend(path.into_iter().flat_map(|path| [option.into(), path.into()]));
                }
                "public_key"
            }
            Self::Approve { key, name, order } => {
                arguments.extend(["operator-approve".into(), "--key".into(), key.into()]);
                arguments.extend(["--name".into(), name.into(), order.into()]);
                "approval"
            }
        };
        twinkeepd(format, what, arguments)
    }
}

/// Runs `twinkeepd` and hands on what it printed and how it ended. A document for programs has the text
/// in a field of the name `what`.
pub(crate) fn twinkeepd(
    format: Format,
    what: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
) -> anyhow::Result<ExitCode> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    let program = own.with_file_name("twinkeepd");
    if !program.exists() {
        bail!(
            "{} is missing; install it beside `twinkeep`, or run `make build`",
            program.display()
        );
    }
    let mut command = Command::new(&program);
    command.args(arguments);
    let cannot = || format!("cannot run {}", program.display());
    let status = match format {
        Format::Table => command.status().with_context(cannot)?,
        _ => {
            let output = command.stderr(Stdio::inherit()).output().with_context(cannot)?;
            let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            if !text.is_empty() {
                document(format, &BTreeMap::from([(what, text)]))?;
            }
            output.status
        }
    };
    // Ended by a signal, it has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
