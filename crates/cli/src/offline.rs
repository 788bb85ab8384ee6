//! What works on files without any service: subcommands of `twinkeepd`, which this program runs.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

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
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Verify { bundle, identities } = self;
        let mut arguments = vec!["recovery-verify".into(), bundle.into_os_string()];
        for identity in identities {
            arguments.extend(["--identity".into(), identity.into_os_string()]);
        }
        twinkeepd(arguments)
    }
}

/// Runs `twinkeepd` and hands on how it ended.
pub(crate) fn twinkeepd(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    let program = own.with_file_name("twinkeepd");
    if !program.exists() {
        bail!(
            "{} is missing; install it beside `twinkeep`, or run `make build`",
            program.display()
        );
    }
    let status = Command::new(&program).args(arguments).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    // Ended by a signal, it has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
