//! What `cluster status`, `members` and `watch` show: the leader's view, one node's own, a dead zone; on narrow
//! screens, in pipes and on a terminal.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use twinkeep_tests::{Cluster, Node, program};

/// Longest wait until a dead zone is shown as dead.
const SEEN_MAX: Duration = Duration::from_secs(30);

/// Runs `twinkeep` on a cluster with a further environment.
fn run(
    cluster: &Cluster,
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> anyhow::Result<Output> {
    let mut command = Command::new(program("twinkeep")?);
    command.args(arguments).env("TWINKEEP_HOME", cluster.path("")).stdin(Stdio::null());
    for name in ["COLUMNS", "NO_COLOR", "CLICOLOR_FORCE", "TWINKEEP_CONTEXT", "TWINKEEP_CONFIG"] {
        command.env_remove(name);
    }
    Ok(command.envs(environment.iter().copied()).output()?)
}

fn out(output: &Output) -> anyhow::Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the status as JSON, asked at one node if one is given.
fn status(cluster: &Cluster, at: Option<&Node>) -> anyhow::Result<Value> {
    let address = at.map(|node| node.client_address.to_string());
    let mut arguments = vec!["cluster", "status", "--output", "json"];
    arguments.extend(address.iter().flat_map(|address| ["--endpoint", address.as_str()]));
    Ok(serde_json::from_str(&out(&run(cluster, &[], &arguments)?)?)?)
}

/// Returns all nodes of a status.
fn nodes(status: &Value) -> Vec<Value> {
    let zones = status["zones"].as_array().into_iter().flatten();
    zones.flat_map(|zone| zone["nodes"].as_array().cloned().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_is_asked_and_one_endpoint_is_asked_alone() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    // Whoever is called first, in turn: the answer is the leader's.
    for _ in 0..4 {
        let status = status(&cluster, None)?;
        ensure!(status["asked_node_id"] == status["leader_node_id"], "{status}");
        ensure!(status["health"]["level"] == "HEALTHY", "{}", status["health"]);
        ensure!(nodes(&status).iter().all(|node| node["reachable"] == true), "{status}");
        let members = out(&run(&cluster, &[], &["cluster", "members"])?)?;
        ensure!(members.lines().skip(1).all(|line| line.ends_with("yes")), "{members}");
    }
    let mut unknown = 0;
    for node in cluster.data_nodes() {
        let status = status(&cluster, Some(node))?;
        let asked =
            nodes(&status).into_iter().find(|one| one["node_id"] == status["asked_node_id"]);
        let asked = asked.context("the node that answered is no member")?;
        ensure!(
            asked["client_address"] == node.client_address.to_string(),
            "another node answered"
        );
        let witness = nodes(&status).into_iter().find(|node| node["role"] == "WITNESS");
        let heard = witness.context("there is no witness")?["reachable"].clone();
        if status["asked_node_id"] == status["leader_node_id"] {
            ensure!(heard == true, "the leader hears the witness: {heard}");
        } else {
            ensure!(heard.is_null(), "a follower cannot know of the witness: {heard}");
            unknown += 1;
        }
    }
    ensure!(unknown == 3, "{unknown} followers");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_zone_is_shown_on_every_screen() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    cluster.kill(cluster.nodes().iter().filter(|node| node.zone == "b"))?;
    let started = Instant::now();
    loop {
        let seen = status(&cluster, None);
        let silent = seen.as_ref().map(nodes).unwrap_or_default();
        if silent.iter().filter(|node| node["reachable"] == false).count() == 2 {
            break;
        }
        ensure!(started.elapsed() < SEEN_MAX, "the dead zone is not seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for width in ["20", "40", "80", "200"] {
        let drawn = out(&run(&cluster, &[("COLUMNS", width)], &["cluster", "status"])?)?;
        let widest = drawn.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        ensure!(widest <= width.parse()?, "{widest} columns of {width}:\n{drawn}");
        ensure!(drawn.matches("○ node").count() == 2, "{drawn}");
        ensure!(!drawn.contains('\u{1b}'), "colours in a pipe:\n{drawn}");
    }
    let forced = [("CLICOLOR_FORCE", "1")];
    ensure!(out(&run(&cluster, &forced, &["cluster", "status"])?)?.contains("\u{1b}[1;31m"));
    let neither = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    ensure!(!out(&run(&cluster, &neither, &["cluster", "status"])?)?.contains('\u{1b}'));

    let watched = out(&run(&cluster, &[], &["cluster", "watch", "-i", "0.1", "-c", "3"])?)?;
    ensure!(watched.lines().count() == 3 && !watched.contains('\u{1b}'), "{watched}");
    ensure!(watched.lines().all(|line| line.contains("silent: ")), "{watched}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_draws_over_itself_and_gives_the_terminal_back() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    // `script` makes a terminal, `timeout` presses Ctrl-C.
    let watch = format!(
        "timeout --foreground --preserve-status -s INT 4 {} cluster watch -i 0.5",
        program("twinkeep")?.display()
    );
    let output = Command::new("script")
        .args(["-qec", &watch, "/dev/null"])
        .env("TWINKEEP_HOME", cluster.path(""))
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .context("`script` of bsdutils")?;
    let drawn = out(&output)?;
    ensure!(drawn.matches("\u{1b}[H").count() >= 2, "it was drawn once:\n{drawn}");
    ensure!(drawn.trim_end().ends_with("\u{1b}[?25h"), "the cursor stays hidden:\n{drawn}");
    ensure!(drawn.contains("\u{1b}[32m"), "a terminal has colours:\n{drawn}");

    // A reader who has seen enough.
    let mut child = Command::new(program("twinkeep")?)
        .args(["cluster", "watch", "-i", "0.1"])
        .env("TWINKEEP_HOME", cluster.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success() && said.is_empty(), "{:?}: {said}", ended.status);
    Ok(())
}
