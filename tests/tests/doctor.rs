//! `twinkeep doctor` on a running cluster: what it finds is so, what it does not find is well, and its exit code says
//! which.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;
use tokio::time::sleep;
use twinkeep_tests::Cluster;

/// Findings about the machine that the test runs on.
const OF_THE_MACHINE: [&str; 4] = ["slow-disk", "disk-fills", "slow-link", "pauses-unknown"];
/// Longest wait for the doctor to find something.
const FOUND_MAX: Duration = Duration::from_secs(30);

/// Asks the doctor; returns what it says and its exit code.
fn doctor(cluster: &Cluster) -> anyhow::Result<(Value, i32)> {
    let output = cluster.try_twinkeep(&["--as", "admin", "doctor", "--output", "json"])?;
    let said = serde_json::from_slice(&output.stdout);
    let said =
        said.map_err(|e| anyhow::anyhow!("{e}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((said, output.status.code().unwrap_or(-1)))
}

/// Returns the codes of all warnings that are not about this machine.
fn warnings(said: &Value) -> Vec<String> {
    let findings = said["findings"].as_array().into_iter().flatten();
    let codes = findings.filter(|f| f["level"] == "WARNING").filter_map(|f| f["code"].as_str());
    codes.filter(|code| !OF_THE_MACHINE.contains(code)).map(str::to_owned).collect()
}

async fn until_warned(cluster: &Cluster, wanted: &[&str]) -> anyhow::Result<Value> {
    let began = Instant::now();
    loop {
        let (said, code) = doctor(cluster)?;
        let found = warnings(&said);
        if found == wanted {
            let is_healthy = said["healthy"] == true;
            ensure!(code == i32::from(!is_healthy), "healthy {is_healthy}, exit code {code}");
            return Ok(said);
        }
        ensure!(began.elapsed() < FOUND_MAX, "found {found:?}, not {wanted:?}: {said:#}");
        sleep(Duration::from_millis(200)).await;
    }
}

fn survives<'a>(said: &'a Value, loss: &str) -> &'a Value {
    let mut all = said["survives"].as_array().into_iter().flatten();
    all.find(|survival| survival["loss"] == loss).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_what_is_wrong_and_nothing_else() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let well = until_warned(&cluster, &[]).await?;
    for loss in ["any one node", "zone a", "zone b", "the witness"] {
        let survival = survives(&well, loss);
        ensure!(survival["changes"] == true && survival["durable"] == true, "{loss}: {survival}");
    }
    let both = survives(&well, "zone a and the witness");
    ensure!(both["changes"] == false && both["keys"] == true && both["durable"] == true, "{both}");

    cluster.twinkeep(&["zone", "drain", "a"])?;
    until_warned(&cluster, &["zone-drained"]).await?;
    cluster.twinkeep(&["zone", "undrain", "a"])?;
    cluster.twinkeep(&["zone", "prefer", "a"])?;
    // The lead is in zone b since the drain, and goes home after thirty seconds.
    until_warned(&cluster, &["preferred-not-leading"]).await?;
    cluster.twinkeep(&["zone", "prefer", "none"])?;
    until_warned(&cluster, &[]).await?;

    // The witness is dead: no voter that is left may die together with a zone.
    cluster.kill([cluster.node("w")?])?;
    let said = until_warned(&cluster, &["dead-voter", "zone-needed", "zone-needed"]).await?;
    ensure!(survives(&said, "zone a")["changes"] == false, "{said:#}");
    cluster.start_all()?;
    until_warned(&cluster, &[]).await?;

    // A zone is dead.
    cluster.twinkeep(&["dev", "kill-zone", "b"])?;
    let said =
        until_warned(&cluster, &["dead-voter", "dead-voter", "no-slack", "degraded"]).await?;
    let rest = survives(&said, "zone a and the witness");
    ensure!(rest["durable"] == false, "{rest}");
    let people = cluster.try_twinkeep(&["--as", "admin", "doctor"])?;
    let people = String::from_utf8_lossy(&people.stdout).into_owned();
    ensure!(people.contains("warnings\n") && people.contains("! node 3 is silent"), "{people}");
    println!("{people}");
    Ok(())
}
