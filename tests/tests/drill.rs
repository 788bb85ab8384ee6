//! `twinkeep drill zone-loss` on real clusters: what it prints, writes and draws, that the zone comes back in any case,
//! and what it refuses.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;
use twinkeep_client::v1::{self, ReplicationMode};
use twinkeep_tests::{Cluster, program};

/// What every key that a drill makes is called.
const DESCRIPTION: &str = "made by twinkeep drill";
/// Longest wait for a healthy cluster.
const HEALTHY_MAX: Duration = Duration::from_secs(30);
/// The promises, as the table names them, and whether a busy machine may miss them.
const PROMISES: [(&str, bool); 6] = [
    ("crypto calls failed", false),
    ("p99.9 of the calls in the 2 s after the loss", true),
    ("control writes again after ", true),
    ("acknowledged keys lost", false),
    ("disable effective everywhere, healthy, p99", true),
    ("calls answered with a key after its disable was", false),
];

/// Runs a drill and checks the table, the report, the picture and the cluster that it leaves.
async fn drill(cluster: &Cluster, arguments: &[&str], writes_again: &str) -> anyhow::Result<Value> {
    until_healthy(cluster).await?;
    let words = ["drill", "zone-loss", "--seconds", "2", "--rate", "400", "--out", "loss.svg"];
    let output = cluster.try_twinkeep(&[&words[..], arguments].concat())?;
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(cluster.path("reports/drill.json"))?)
        .with_context(|| format!("no report: {said}"))?;
    let figures = report["figures"].as_array().context("no figures")?;
    let figure = |name: &str| {
        let named = |figure: &&Value| figure["name"].as_str().is_some_and(|n| n.starts_with(name));
        figures.iter().find(named).with_context(|| format!("no figure `{name}`: {report}"))
    };
    for (name, may_miss) in PROMISES {
        let line = table.lines().find(|line| line.trim_start().starts_with(name));
        let line = line.with_context(|| format!("`{name}` is not in\n{table}"))?;
        let figure = figure(name)?;
        let holds = figure["holds"].as_bool().context("no verdict")?;
        ensure!(line.ends_with(if holds { "holds" } else { "MISSED" }), "{line}");
        ensure!(figure["value"].is_number(), "{name} was not measured:\n{said}\n{table}");
        ensure!(holds || may_miss, "{name} is missed:\n{said}\n{table}");
    }
    figure(&format!("control writes again after {writes_again} was lost"))?;
    let value = |name: &str| Ok::<_, anyhow::Error>(figure(name)?["value"].as_f64().unwrap_or(0.0));
    // Three seconds before, two without the zone, and the return.
    let calls = figures.iter().find(|figure| figure["name"] == "crypto calls");
    let calls = calls.and_then(|figure| figure["value"].as_f64()).context("no number of calls")?;
    ensure!(calls > 2000.0, "only {calls} calls in over five seconds, at 400 a second");
    ensure!(value("keys acknowledged")? > 50.0, "hardly any keys:\n{table}");
    ensure!(value("keys disabled one by one")? > 50.0, "hardly any disables:\n{table}");
    ensure!(value("the zone is counted on again")? > 0.0, "no time to Sync:\n{table}");
    let all_hold = figures.iter().all(|figure| figure["holds"] == true);
    ensure!(output.status.code() == Some(i32::from(!all_hold)), "{}: {said}", output.status);

    let picture = std::fs::read_to_string(cluster.path("loss.svg"))?;
    for mark in
        ["mode Degraded +", "first control write +", "mode Sync +", "calls answered a second"]
    {
        ensure!(picture.contains(mark), "{mark} is not in the picture");
    }
    ensure!(
        picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && !picture.contains("NaN")
    );
    is_as_before(cluster).await?;
    println!("{said}\n{table}");
    Ok(report)
}

/// Waits until a drill may begin: on a busy machine a node is silent for a moment now and then.
async fn until_healthy(cluster: &Cluster) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let look = cluster.twinkeep(&["cluster", "watch", "--count", "1"])?;
        if look.contains("every node is up, and any one zone may be lost") {
            return Ok(());
        }
        ensure!(began.elapsed() < HEALTHY_MAX, "the cluster is not healthy: {look}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// All nodes run, the mode is Sync, and no key of a drill may be used.
async fn is_as_before(cluster: &Cluster) -> anyhow::Result<()> {
    let down: Vec<_> = cluster.nodes().iter().filter(|node| cluster.pid(node).is_none()).collect();
    ensure!(down.is_empty(), "{down:?} do not run");
    let status = cluster.status().await?;
    let mode = status.replication.as_ref().map(v1::Replication::mode);
    ensure!(mode == Some(ReplicationMode::Sync), "the mode is {mode:?}");
    ensure!(status.members.iter().all(|member| member.reachable), "a node is silent: {status:?}");
    let request = v1::ListKeysRequest {
        instance_id: cluster.first_instance()?,
        page_size: 1000,
        ..Default::default()
    };
    let keys = cluster.client("app")?.list_keys(request).await?.keys;
    let enabled = v1::KeyState::Enabled;
    let left = keys.iter().filter(|key| key.description == DESCRIPTION && key.state() == enabled);
    ensure!(left.count() == 0, "keys of the drill may be used still");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_are_lost_and_come_back_and_the_promises_are_measured() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let report = drill(&cluster, &[], "the leader's zone").await?;
    ensure!(report.to_string().contains("another node leads, after"), "{report}");
    let report = drill(&cluster, &["--zone", "other", "--how", "silent"], "the other zone").await?;
    ensure!(!report.to_string().contains("another node leads, after"), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn zone_comes_back_when_the_drill_is_interrupted() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    for (how, signal, number) in [("kill", Signal::INT, 2), ("silent", Signal::TERM, 15)] {
        until_healthy(&cluster).await?;
        let mut drill = Command::new(program("twinkeep")?)
            .args(["drill", "zone-loss", "--seconds", "60", "--rate", "100", "--how", how])
            .env("TWINKEEP_HOME", cluster.path(""))
            .current_dir(cluster.path(""))
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(drill.stderr.take().context("no stderr")?).lines();
        let is_lost = |line: &str| line.contains("is lost for") || line.contains("is silent for");
        let mut lines = Vec::new();
        for line in said.by_ref() {
            lines.push(line?);
            if lines.last().is_some_and(|line| is_lost(line)) {
                break;
            }
        }
        let id = i32::try_from(drill.id()).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(id, signal)?;
        lines.extend(said.collect::<Result<Vec<_>, _>>()?);
        let status = drill.wait()?;
        let lines = lines.join("\n");
        ensure!(status.code() == Some(128 + number), "{status}:\n{lines}");
        for part in ["is counted on again (mode Sync)", "interrupted"] {
            ensure!(lines.contains(part), "`{part}` is not in\n{lines}");
        }
        ensure!(!cluster.path("reports/drill.json").exists(), "a report of half a drill");
        is_as_before(&cluster).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_healthy_development_cluster_is_refused() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    until_healthy(&cluster).await?;
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = cluster.try_twinkeep(&[&["drill", "zone-loss"], arguments].concat())?;
        let said = text(&output.stderr);
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        for part in parts {
            ensure!(said.contains(part), "`{part}` is not in: {said}");
        }
        ensure!(!cluster.path("reports/drill.json").exists(), "it drilled all the same");
        Ok(())
    };
    let here =
        "start one with `twinkeep dev up`, then type `twinkeep --context dev drill zone-loss`";
    let address = cluster.node("a1")?.client_address.to_string();
    refused(&["--endpoint", &address], &["`--endpoint`", here])?;
    let file = cluster.path("contexts.toml");
    std::fs::write(&file, "[contexts.prod]\nendpoints = []\n")?;
    let file = file.display().to_string();
    refused(&["--config", &file, "--context", "prod"], &["the context `prod`", here])?;
    refused(&["--context", "prod"], &["the context `prod`", here])?;
    let nowhere = cluster.path("nowhere").display().to_string();
    refused(&["--home", &nowhere], &["there is no cluster in", "`twinkeep dev up` makes one"])?;

    let b2 = cluster.node("b2")?;
    let pid = cluster.pid(b2).context("b2 does not run")?;
    kill_process(pid, Signal::STOP)?;
    refused(&[], &["node b2 is stopped", "`twinkeep dev start-node b2`"])?;
    cluster.twinkeep(&["dev", "start-node", "b2"])?;
    cluster.kill([b2])?;
    refused(&[], &["node b2 does not run", "`twinkeep dev up`"])?;

    cluster.start_all()?;
    until_healthy(&cluster).await?;
    let a2 = cluster.node("a2")?.client_address.to_string();
    cluster.twinkeep(&["seal", &a2])?;
    refused(&[], &["the cluster is not healthy", "sealed: 2", "`twinkeep doctor`"])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
