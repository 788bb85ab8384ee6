//! A client that is none of ours: Google's gRPC for Python, stubs generated from `proto/`, mTLS.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
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

/// Finds the Python that `scripts/setup test` has furnished with gRPC.
fn python() -> anyhow::Result<std::path::PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache.or(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let python = cache.join("twinkeep/venv/bin/python");
    ensure!(python.exists(), "{} is missing: run `scripts/setup test`", python.display());
    Ok(python)
}
