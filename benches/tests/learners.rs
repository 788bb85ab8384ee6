//! Every learner that joins serves, within its share of the processor, and what it costs is counted.
//!
//! How much it adds is measured by `make bench-learners` and not looked at here.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// How the program ends where processes cannot be given a share.
const SKIPPED: i32 = 77;
/// The share of a core that each node gets here.
const QUOTA: f64 = 0.15;

fn learners(reports: &Path) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinkeep-learners"));
    command.args(["--rounds", "1", "--seconds", "1", "--reports"]).arg(reports);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let ours = format!("twinkeep-learners-{}", child.id());
    let output = child.wait_with_output()?;
    for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"] {
        let group = PathBuf::from(folder).join(&ours);
        ensure!(!group.exists(), "the control group {} stays behind", group.display());
    }
    Ok(output)
}

fn samples(reports: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(reports.join("bench-learners.runs.jsonl"))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn every_learner_serves_within_its_share_and_its_costs_are_counted() -> anyhow::Result<()> {
    let reports = tempfile::tempdir()?;
    let output = learners(reports.path())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        println!("skipped: {}", complained.trim());
        return Ok(());
    }
    ensure!(output.status.success(), "{said}\n{complained}");
    let samples = samples(reports.path())?;
    let counts: Vec<_> = samples.iter().map(|sample| sample["learners"].as_u64()).collect();
    ensure!(counts == [Some(0), Some(2), Some(4)], "{said}");
    for sample in &samples {
        check(sample).with_context(|| format!("{sample}"))?;
    }

    // What is finished is not done again.
    let again = learners(reports.path())?;
    ensure!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    ensure!(self::samples(reports.path())?.len() == 3, "a finished sample was taken again");
    let report = std::fs::read(reports.path().join("bench-learners.json"))?;
    let report: Value = serde_json::from_slice(&report)?;
    let figures = report["figures"].as_array().context("the report has no figures")?;
    ensure!(figures.iter().all(|figure| figure["holds"].is_boolean()), "{report}");
    ensure!(figures.iter().any(|figure| figure["target"] == ">= 0.9"), "{report}");
    Ok(())
}

fn check(sample: &Value) -> anyhow::Result<()> {
    let taken = &sample["result"]["sample"];
    let number = |of: &Value, path: &str| {
        let found = of.pointer(path).and_then(Value::as_f64);
        found.with_context(|| format!("no number {path}"))
    };
    let learners = sample["learners"].as_u64().context("no number of learners")?;
    let nodes = taken["crypto"]["nodes"].as_array().context("no nodes")?;
    let of_learners = nodes.iter().filter(|node| node["part"] == "learner").count();
    ensure!(nodes.len() == 4 + of_learners && of_learners as u64 == learners, "other nodes");
    let seconds = number(taken, "/crypto/leader/seconds")?;
    for node in nodes {
        ensure!(number(node, "/items")? >= 100.0, "{node} hardly serves");
        ensure!(number(node, "/refused")? == 0.0, "{node} refuses calls");
        let used = number(node, "/cpu-s")? / seconds;
        // The kernel gives a tick at a time and takes back later what was too much.
        ensure!(used <= QUOTA * 1.3, "{node} used {used} of a core");
        ensure!(number(node, "/periods/1")? >= 1.0, "{node} never used up its quota");
    }
    for part in ["/idle", "/crypto/leader", "/control/leader"] {
        let sent = taken.pointer(part).and_then(|part| part["others"].as_array());
        let sent = sent.with_context(|| format!("{part} tells nothing"))?;
        ensure!(sent.len() as u64 == 4 + learners, "{part}: {sent:?}");
        for to in sent {
            ensure!(number(to, "/bytes")? > 0.0, "{part}: the leader sent nothing: {to}");
        }
        let used = taken.pointer(&format!("{part}/leader-cpu-s")).and_then(Value::as_f64);
        ensure!(used.is_some_and(|used| used > 0.0), "{part}: the leader used no processor");
    }
    ensure!(number(taken, "/control/writes")? >= 3.0, "hardly any key was created");
    Ok(())
}
