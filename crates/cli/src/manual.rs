//! `twinkeep completions` and `twinkeep man`: what is generated from the arguments' own descriptions.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use crate::output::{Format, said};

/// The exit codes, for `--help` and the manual page; the same as in the table of `main.rs`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: a file, the configuration, the service's inside; a wrong signature; `doctor` warns
  2  wrong usage, or the service found the request wrong
  3  not allowed, the caller is unknown, or a certificate is refused
  4  the state forbids it: not found, exists, disabled, changed by another
  5  not available now and nothing happened: try again
  6  no answer, or one that does not tell, and it may have happened: look before trying again
  128 + n  ended by signal n, such as Ctrl-C; no file is left unfinished";

/// Prints completions.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell. For bash: `source <(twinkeep completions bash)`; for zsh, into a folder of `$fpath`, as
    /// `_twinkeep`; for fish, into `~/.config/fish/completions/twinkeep.fish`.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes manual pages.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Folder for them; is made if need be. `man -l FOLDER/twinkeep.1` shows the first.
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
}

impl Completions {
    /// Prints them.
    pub(crate) fn run(self, command: &mut Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "twinkeep", &mut script);
        let mut out = io::stdout().lock();
        out.write_all(&script)?;
        Ok(out.flush()?)
    }
}

impl Man {
    /// Writes a page for each command.
    pub(crate) fn run(self, format: Format, command: Command) -> anyhow::Result<()> {
        let dir = &self.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        clap_mangen::generate_to(command, dir)
            .with_context(|| format!("cannot write into {}", dir.display()))?;
        said(
            format,
            format!(
                "the manual is in {}: `man -l {}`",
                dir.display(),
                dir.join("twinkeep.1").display()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let table = include_str!("main.rs");
        let documented = include_str!("../../../docs/command-line.md");
        for line in EXIT_CODES.lines().skip(1) {
            let (code, meaning) = line.trim().split_once("  ").unwrap();
            let meaning = meaning.split(';').next().unwrap();
            for (name, text) in [("main.rs", table), ("docs/command-line.md", documented)] {
                let row = format!("| {code} ");
                let found =
                    text.lines().find(|line| line.trim_start_matches("//! ").starts_with(&row));
                assert!(found.is_some_and(|row| row.contains(meaning)), "{name}: {code} {meaning}");
            }
        }
    }
}
