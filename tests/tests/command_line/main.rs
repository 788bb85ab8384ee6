//! Every command of `twinkeep`, as its own `--help` lists them: the help, JSON, YAML and an error.
//!
//! The table in `cases.rs` is compared with the commands that `--help` names, so that none is left out.

mod cases;
mod furnish;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail, ensure};
use cases::{CASES, Case, Prints};
use furnish::Furnished;
use serde_json::Value;
use twinkeep_tests::program;

/// Lines that an error may have: what is wrong, and what to do about it.
const ERROR_LINES_MAX: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_help_documents_and_a_clear_error() -> anyhow::Result<()> {
    let walked = walk(&[])?;
    let listed: Vec<_> = CASES.iter().map(|case| case.path).collect();
    let missing: Vec<_> = walked.iter().filter(|path| !listed.contains(&path.as_str())).collect();
    ensure!(missing.is_empty(), "cases.rs has no line for {missing:?}");
    for path in listed {
        ensure!(walked.iter().any(|known| known == path), "there is no command `{path}`");
    }

    let furnished = Furnished::start().await?;
    let mut yaml = Vec::new();
    let mut json = BTreeMap::new();
    for case in CASES {
        refused(&furnished, case).with_context(|| format!("the error of `{}`", case.path))?;
    }
    for format in ["json", "yaml"] {
        for case in CASES.iter().filter(|case| case.prints != Prints::Otherwise) {
            let output = furnished.run(case, format)?;
            let text = String::from_utf8(output.stdout)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "`{}` as {format}: {said}{text}", case.path);
            ensure!(!text.trim().is_empty(), "`{}` printed nothing as {format}", case.path);
            if format == "json" {
                json.insert(case.path, documents(case, &text)?);
            } else {
                let path = furnished.folder().join(format!("{}.yaml", case.path.replace(' ', "-")));
                std::fs::write(&path, text)?;
                yaml.push((case.path, path));
            }
        }
    }
    compare(&json, &yaml)?;
    println!(
        "{} commands: help and an error of each, {} of them as JSON and as YAML",
        CASES.len(),
        json.len()
    );
    furnished.removed_member_does_not_stop_the_cluster()
}

/// Returns all commands that have no commands below them, having looked at the help of each.
fn walk(path: &[String]) -> anyhow::Result<Vec<String>> {
    let output = Command::new(program("twinkeep")?).args(path).arg("--help").output()?;
    let help = String::from_utf8(output.stdout)?;
    let name = path.join(" ");
    ensure!(output.status.code() == Some(0), "`{name} --help` failed");
    let summary = help.lines().next().unwrap_or_default();
    ensure!(summary.split(' ').count() >= 2, "`{name} --help` opens with `{summary}`");
    ensure!(help.contains("Usage: twinkeep"), "`{name} --help` shows no usage");
    let below = subcommands(&help);
    if below.is_empty() {
        return Ok(vec![name]);
    }
    let mut all = Vec::new();
    for command in below {
        all.extend(walk(&[path, &[command]].concat())?);
    }
    Ok(all)
}

/// Reads the names under `Commands:`.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = list.take_while(|line| !line.is_empty());
    // A summary that goes on in another line is indented further.
    let names = names.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// A command in error ends with its code, says so in one line, and what to do.
fn refused(furnished: &Furnished, case: &Case) -> anyhow::Result<()> {
    let output = furnished.twinkeep(&furnished.arguments(case.path, case.wrong))?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.code() == Some(case.code), "code {:?}: {err}", output.status.code());
    ensure!(out.is_empty(), "it printed {out}");
    ensure!(err.contains(case.way_out), "`{}` is not in: {err}", case.way_out);
    let first = err.lines().next().unwrap_or_default();
    if first.starts_with("error: ") {
        ensure!(err.contains("--help"), "{err}");
        return Ok(());
    }
    ensure!(first.starts_with("twinkeep"), "it opens with {first}");
    ensure!(err.lines().count() <= ERROR_LINES_MAX, "it says too much:\n{err}");
    ensure!(!err.contains("panicked"), "{err}");
    Ok(())
}

fn documents(case: &Case, text: &str) -> anyhow::Result<Vec<Value>> {
    let values = match case.prints {
        Prints::Stream => text.lines().map(serde_json::from_str).collect::<Result<_, _>>(),
        _ => serde_json::from_str(text).map(|value| vec![value]),
    };
    values.with_context(|| format!("`{}` printed no JSON: {text}", case.path))
}

/// YAML, read by another program's library, has the shape of the JSON.
fn compare(json: &BTreeMap<&str, Vec<Value>>, yaml: &[(&str, PathBuf)]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python()?)
        .arg(root.join("python/yaml_to_json.py"))
        .args(yaml.iter().map(|(_, path)| path))
        .output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let read: Vec<Vec<Value>> = serde_json::from_slice(&output.stdout)?;
    for ((path, _), documents) in yaml.iter().zip(read) {
        let expected = json.get(path).context("no JSON")?;
        let (expected, found) = (keys(expected), keys(&documents));
        ensure!(expected == found, "`{path}` has {found:?} as YAML, {expected:?} as JSON");
    }
    Ok(())
}

/// The names of the first document's fields.
fn keys(documents: &[Value]) -> Vec<String> {
    let fields = documents.first().and_then(Value::as_object);
    let mut keys: Vec<_> = fields.into_iter().flat_map(|fields| fields.keys().cloned()).collect();
    keys.sort();
    keys
}

fn python() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache.or(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let python = cache.join("twinkeep/venv/bin/python");
    ensure!(python.exists(), "{} is missing: run `scripts/setup test`", python.display());
    Ok(python)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program in a folder with nothing of ours in its environment but the cluster.
fn run(program: &Path, home: &Path, folder: &Path, arguments: &[String]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env("TWINKEEP_HOME", home).env("HOME", folder);
    for name in ["TWINKEEP_CONFIG", "TWINKEEP_CONTEXT", "TWINKEEP_LOG", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    let output = command.output()?;
    if output.status.code().is_none() {
        bail!("`{}` was killed", arguments.join(" "));
    }
    Ok(output)
}
