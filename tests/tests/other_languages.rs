//! A client that is none of ours: Google's gRPC for Python, stubs generated from `proto/`, mTLS.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Signal, kill_process};
use serde::Deserialize;
use tokio::time::sleep;
use twinkeep_tests::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn generated_python_client_lists_encrypts_and_is_told_what_is_wrong() -> anyhow::Result<()> {
    let python = python()?;
    let cluster = Cluster::start().await?;
    // A caller with a certificate and no role, and one with a role for something else.
    let admin =
        |arguments: &[&str]| cluster.twinkeep(&[&["--as", "admin", "access"], arguments].concat());
    for name in ["nobody", "watcher"] {
        admin(&["issue-certificate", name, "--out", "callers"])?;
    }
    admin(&["grant", "watcher", "--role", "AUDITOR"])?;
    let root = workspace()?;
    let file = |name: &str| cluster.path("callers").join(name);
    let output = Command::new(python)
        .arg(root.join("tests/python/call.py"))
        .arg(root.join("proto"))
        .arg(cluster.node("b1")?.client_address.to_string())
        .args([file("endpoint-root.pem"), file("app.pem"), file("app.key")])
        .arg(cluster.first_key()?)
        .args([file("nobody.pem"), file("nobody.key")])
        .args([file("watcher.pem"), file("watcher.key")])
        .output()?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What `resilient.py` says at its end.
#[derive(Debug, Deserialize)]
struct Told {
    calls: u32,
    failed: u32,
    errors: Vec<String>,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    keys: usize,
    distinct_keys: usize,
    repeated_alike: bool,
}

/// docs/clients.md promises what its service config does when nodes are lost.
#[tokio::test(flavor = "multi_thread")]
async fn python_with_the_service_config_loses_no_call_with_a_zone_or_to_a_silent_node()
-> anyhow::Result<()> {
    let (python, root) = (python()?, workspace()?);
    let cluster = Cluster::start().await?;
    let file = |name: &str| cluster.path("callers").join(name);
    let mut program = Command::new(python)
        .arg(root.join("deploy/clients/resilient.py"))
        .arg(root.join("proto"))
        .args([file("endpoint-root.pem"), file("app.pem"), file("app.key")])
        .args([cluster.first_instance()?, cluster.first_key()?, "localhost".to_owned()])
        .args(cluster.data_nodes().map(|node| node.client_address.to_string()))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(program.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    if line.trim() != "calling" {
        let mut error = String::new();
        program.stderr.take().context("no errors")?.read_to_string(&mut error)?;
        anyhow::bail!("it did not begin: {line}{error}");
    }

    sleep(Duration::from_secs(1)).await;
    cluster.kill(cluster.data_nodes().filter(|node| node.name.starts_with('a')))?;
    sleep(Duration::from_secs(3)).await;
    cluster.start_all()?;
    sleep(Duration::from_secs(2)).await;
    // Silent, with its connections open.
    let silent = cluster.pid(cluster.node("b2")?).context("b2 does not run")?;
    kill_process(silent, Signal::STOP)?;
    sleep(Duration::from_secs(3)).await;
    kill_process(silent, Signal::CONT)?;
    sleep(Duration::from_secs(1)).await;

    drop(program.stdin.take());
    let output = program.wait_with_output()?;
    let mut told = String::new();
    out.read_to_string(&mut told)?;
    ensure!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let told: Told = serde_json::from_str(&told).with_context(|| format!("it said `{told}`"))?;
    println!(
        "{} calls, {} failed, p50 {} ms, p99 {} ms, longest {} ms; {} keys",
        told.calls, told.failed, told.p50_ms, told.p99_ms, told.longest_ms, told.keys
    );
    ensure!(told.failed == 0, "{} calls failed: {:?}", told.failed, told.errors);
    ensure!(told.calls > 500 && told.keys > 10, "too little was called: {told:?}");
    ensure!(told.keys == told.distinct_keys && told.repeated_alike, "{told:?}");
    Ok(())
}

#[test]
fn documentation_shows_the_channel_that_is_tested() -> anyhow::Result<()> {
    let root = workspace()?;
    let program = std::fs::read_to_string(root.join("deploy/clients/resilient.py"))?;
    let docs = std::fs::read_to_string(root.join("docs/clients.md"))?;
    let channel = program.split("# begin channel\n").nth(1).and_then(|s| s.split("# end").next());
    let channel = channel.context("resilient.py has no channel")?;
    ensure!(
        docs.contains(&format!("```python\n{channel}```")),
        "docs/clients.md is to have:\n{channel}"
    );
    Ok(())
}

fn workspace() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    Ok(root.to_owned())
}

/// Finds the Python that `scripts/setup test` has furnished with gRPC.
fn python() -> anyhow::Result<std::path::PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache.or(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let python = cache.join("twinkeep/venv/bin/python");
    ensure!(python.exists(), "{} is missing: run `scripts/setup test`", python.display());
    Ok(python)
}
