//! The completions in real shells, which are asked to complete a word. A shell that is not installed is said
//! and counted as skipped: `scripts/setup test` installs all of them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, in helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Bash fills `COMPREPLY`, as it does when somebody presses the tabulator.
const BASH: &str = r#"
source "$1"
COMP_WORDS=(twinkeep cluster "$2"); COMP_CWORD=2; COMP_LINE="twinkeep cluster $2"; COMP_POINT=${#COMP_LINE}
_twinkeep twinkeep "$2" cluster
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// Zsh completes on a terminal alone: one is made, and the tabulator pressed.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; autoload -U compinit; compinit -u -D; source ${(q)1}; print REA''DY"
zpty -r shell started '*READY*'
zpty -n -w shell "twinkeep cluster $2"$'\t'
zpty -r shell completed '*cluster '$3'*'
print -r -- $completed
zpty -d shell
"#;

const FISH: &str = r#"source $argv[1]; complete -C "twinkeep cluster $argv[2]""#;

/// Writes the completions of a shell into a folder.
fn script(folder: &Path, shell: &str) -> PathBuf {
    let output = twinkeep(&["completions", shell]);
    assert!(output.status.success());
    let path = folder.join(format!("completions.{shell}"));
    std::fs::write(&path, output.stdout).unwrap();
    path
}

fn twinkeep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinkeep")).args(arguments).output().unwrap()
}

/// Asks a shell to complete `twinkeep cluster topo`; `None` if there is no such shell.
fn complete(shell: &str, arguments: &[&str], code: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), shell);
    // A shell that waits for more would wait for ever.
    let output = Command::new("timeout")
        .args(["60", shell])
        .args(arguments)
        .args(["-c", code])
        // Fish has no name for itself before the arguments.
        .args((shell != "fish").then_some(shell))
        .arg(path)
        .args(["topo", "topology"])
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // What `timeout` says of a program that it does not find.
    if output.status.code() == Some(127) {
        println!("skipped: {shell} is not installed");
        return None;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{shell}: {:?} {said}", output.status);
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn bash_completes_a_command() {
    let Some(completed) = complete("bash", &["--norc", "--noprofile"], BASH) else { return };
    assert_eq!(completed.trim(), "topology");
}

#[test]
fn zsh_completes_a_command() {
    let Some(completed) = complete("zsh", &["-f"], ZSH) else { return };
    assert!(completed.contains("cluster topology"), "{completed:?}");
}

#[test]
fn fish_completes_a_command_and_says_what_it_does() {
    let Some(completed) = complete("fish", &["--no-config"], FISH) else { return };
    assert!(completed.starts_with("topology\tShows where calls can be sent"), "{completed:?}");
}

#[test]
fn manual_has_a_page_for_each_command_with_the_exit_codes_in_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let output = twinkeep(&["man", "--dir", pages.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first = std::fs::read_to_string(pages.join("twinkeep.1")).unwrap();
    assert!(first.contains("or one that does not tell, and it may have happened"), "{first}");
    for name in ["twinkeep-key-create.1", "twinkeep-cluster-watch.1", "twinkeep-crypto-sign.1"] {
        assert!(pages.join(name).exists(), "{name} is missing");
    }
}
