//! A zone is killed and a zone falls silent under load, in a network of namespaces: nothing fails and nothing is lost.
//!
//! How fast it goes is measured by `make bench-failover` and not looked at here.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// How the program ends where namespaces cannot be made.
const SKIPPED: i32 = 77;

fn failover(reports: &Path) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinkeep-failover"));
    command.args(["--runs", "1", "--only", "leader-killed,other-silent", "--reports"]).arg(reports);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let ours = format!("tkfo-{}-", child.id());
    let output = child.wait_with_output()?;
    // Where nobody has made a namespace there is no folder.
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!name.starts_with(&ours), "the network namespace {name} stays behind");
    }
    Ok(output)
}

fn runs(reports: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(reports.join("bench-failover.runs.jsonl"))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn lost_zone_costs_no_call_and_no_acknowledged_key() -> anyhow::Result<()> {
    let reports = tempfile::tempdir()?;
    let output = failover(reports.path())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        println!("skipped: {}", complained.trim());
        return Ok(());
    }
    ensure!(output.status.success(), "{said}\n{complained}");
    let runs = runs(reports.path())?;
    ensure!(runs.len() == 2, "{said}");
    for run in &runs {
        let loss = &run["result"]["loss"];
        let list = |path: &str| loss.pointer(path).and_then(Value::as_array).map(Vec::as_slice);
        ensure!(list("/calls/failures") == Some(&[]), "{said}\n{loss}");
        ensure!(list("/writes/lost") == Some(&[]), "{said}\n{loss}");
        ensure!(loss["writes-again-ms"].is_number(), "no writes again: {said}\n{loss}");
        let sent = loss["calls"]["sent"].as_u64().context("no number of calls")?;
        let keys = loss["writes"]["acknowledged"].as_u64().context("no number of keys")?;
        ensure!(sent >= 1000 && keys >= 10, "{said}\n{loss}");
        let dropped = loss["dropped-packets"].as_u64().context("no number of packets")?;
        ensure!((dropped > 0) == (run["kind"] == "other-silent"), "{said}\n{loss}");
        println!("{}: {} calls, {keys} keys, none failed or lost", run["kind"], sent);
    }

    // What is finished is not done again.
    let again = failover(reports.path())?;
    ensure!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    ensure!(self::runs(reports.path())?.len() == 2, "{}", String::from_utf8_lossy(&again.stdout));
    let report = std::fs::read(reports.path().join("bench-failover.json"))?;
    let report: Value = serde_json::from_slice(&report)?;
    let figures = report["figures"].as_array().context("the report has no figures")?;
    ensure!(figures.iter().all(|figure| figure["holds"].is_boolean()), "{report}");
    ensure!(figures.iter().any(|figure| figure["target"] == "<= 60"), "{report}");
    Ok(())
}
