//! A zone and the witness are lost for good: the other zone begins the next life of the cluster, and what was lost does not
//! go on beside it when it comes back.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use twinkeep_client::v1;
use twinkeep_tests::{Cluster, Node, program, refused_start, rounds};

/// Drills, one of each kind; `TWINKEEP_TEST_ROUNDS` asks for more.
const ROUNDS: usize = 3;
/// How long the survivors are cut off before the rest is lost, where they are.
const CUT_OFF: Duration = Duration::from_millis(1_800);
/// Longest for a guided recovery, from the plan to the first change.
const RECOVERY_MAX: Duration = Duration::from_secs(300);
/// How long the lost side is tempted to go on while the survivors are silent.
const TEMPTED: Duration = Duration::from_secs(4);
/// Longest until a lost node that hears of the recovery has ended.
const FENCED_MAX: Duration = Duration::from_secs(20);

/// What happens in a drill.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// The zone that goes on.
    zone: &'static str,
    /// Whether it is cut off first, and the others go on without it for a while.
    is_cut_off: bool,
    /// Whether it is silent again when the lost side comes back.
    is_silent_later: bool,
}

impl Kind {
    fn of(round: usize) -> Self {
        let zone = if round.is_multiple_of(2) { "b" } else { "a" };
        Self { zone, is_cut_off: round % 3 == 1, is_silent_later: round % 4 != 3 }
    }
}

/// A key with the time at which its creation was acknowledged, milliseconds since 1970.
type Acknowledged = (String, u64);

#[expect(
    clippy::disallowed_methods,
    reason = "compared with what nodes say by their own wall clocks"
)]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Creates keys one after another until it is stopped.
fn create_keys(
    cluster: &Cluster,
) -> anyhow::Result<(JoinHandle<()>, std::sync::mpsc::Receiver<Acknowledged>)> {
    let (app, request) = (cluster.client("app")?, cluster.new_key()?);
    let (tell, told) = std::sync::mpsc::channel();
    let creating = tokio::spawn(async move {
        loop {
            let limited = app.with_deadline(Duration::from_secs(2));
            if let Ok(v1::CreateKeyResponse { key: Some(key), .. }) =
                limited.create_key(request.clone()).await
                && tell.send((key.key_id, now_ms())).is_err()
            {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    Ok((creating, told))
}

fn config(cluster: &Cluster, node: &Node) -> String {
    cluster.path(&node.name).join("twinkeepd.toml").display().to_string()
}

/// Runs `twinkeepd` and returns what it printed.
fn twinkeepd(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program("twinkeepd")?).args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "twinkeepd {}: {error}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What operators typed of an order.
struct Approved {
    order: PathBuf,
    approvals: Vec<String>,
    /// Up to when nothing is lost; 0 where the order does not say.
    complete_until_ms: u64,
    /// The former ids of those that go on, the first one brings the state.
    go_on: Vec<u64>,
}

impl Approved {
    /// Plans, again and again while the lost nodes were heard a moment ago, and has both operators approve.
    async fn of(cluster: &Cluster, zone: &str) -> anyhow::Result<Self> {
        let order = cluster.path("order.toml");
        let path = order.display().to_string();
        let arguments = ["recover", "plan", "--zone", zone, "-o", &path, "--output", "json"];
        let began = Instant::now();
        let planned = loop {
            let tried = cluster.try_twinkeep(&arguments)?;
            if tried.status.success() {
                break serde_json::from_slice::<serde_json::Value>(&tried.stdout)?;
            }
            let why = String::from_utf8_lossy(&tried.stderr).into_owned();
            let soon = why.contains("was heard") || why.contains("no node answers");
            ensure!(soon && began.elapsed() < Duration::from_secs(30), "no plan: {why}");
            sleep(Duration::from_millis(300)).await;
        };
        let approve = |name: &str| {
            let key = cluster.path(&format!("{name}.age")).display().to_string();
            twinkeepd(&["operator-approve", "--key", &key, "--name", name, &path])
        };
        let approvals = ["operator-1", "operator-2"].map(approve);
        let complete_until_ms = planned["statement"]["complete_until_ms"].as_u64();
        let go_on = planned["go_on"].as_array().context("nobody goes on")?;
        Ok(Self {
            order,
            approvals: approvals.into_iter().collect::<anyhow::Result<_>>()?,
            complete_until_ms: complete_until_ms.context("no statement")?,
            go_on: go_on.iter().filter_map(serde_json::Value::as_u64).collect(),
        })
    }

    /// Applies the order on a node and returns what it printed.
    fn apply(&self, cluster: &Cluster, node: &Node, receipts: &[String]) -> anyhow::Result<String> {
        let (config, order) = (config(cluster, node), self.order.display().to_string());
        let out = cluster.path("").display().to_string();
        let mut arguments = vec!["recover-apply", "--config", &config, &order, "--out", &out];
        for approval in &self.approvals {
            arguments.extend(["--approval", approval]);
        }
        for receipt in receipts {
            arguments.extend(["--receipt", receipt]);
        }
        twinkeepd(&arguments)
    }
}

/// Returns the node with an id of the first life: they were given in the order of the layout.
fn former(cluster: &Cluster, id: u64) -> anyhow::Result<&Node> {
    let at = usize::try_from(id)?.checked_sub(1).context("ids count from 1")?;
    cluster.nodes().get(at).with_context(|| format!("no node {id}"))
}

/// Lets the nodes that go on begin the next life; returns how long it took to the first change.
async fn recover(cluster: &Cluster, kind: Kind) -> anyhow::Result<(Approved, Duration)> {
    let began = Instant::now();
    let approved = Approved::of(cluster, kind.zone).await?;
    let first = former(cluster, approved.go_on[0])?;
    cluster.kill(cluster.zone(kind.zone))?;
    let early = approved.apply(cluster, first, &[]);
    let early = format!("{:#}", early.err().context("it needs no receipt")?);
    ensure!(early.contains("receipt of node"), "{early}");
    let mut receipts = Vec::new();
    for id in &approved.go_on[1..] {
        let other = former(cluster, *id)?;
        receipts.push(approved.apply(cluster, other, &[])?);
        // Until its pass comes, it starts in no life at all.
        let said = refused_start(&PathBuf::from(config(cluster, other)), Duration::from_secs(10))?;
        ensure!(said.contains("recovery-pass.toml"), "{said}");
    }
    approved.apply(cluster, first, &receipts)?;
    for (id, new) in approved.go_on[1..].iter().zip(102_u64..) {
        let pass = cluster.path(&format!("pass-{new}.toml"));
        std::fs::copy(pass, cluster.data(former(cluster, *id)?).join("recovery-pass.toml"))?;
    }
    cluster.twinkeep(&["dev", "start-zone", kind.zone])?;
    let app = cluster.client_in("app", kind.zone)?;
    loop {
        let created = app.create_key(cluster.new_key()?).await;
        if created.is_ok() {
            return Ok((approved, began.elapsed()));
        }
        ensure!(began.elapsed() < RECOVERY_MAX, "no change is taken: {created:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Looks for keys that were acknowledged and are gone; returns those that the statement says may be.
async fn lost_keys(
    cluster: &Cluster,
    zone: &str,
    keys: &[Acknowledged],
    complete_until_ms: u64,
) -> anyhow::Result<usize> {
    let app = cluster.client_in("app", zone)?;
    let mut lost = 0;
    for (key_id, acknowledged_ms) in keys {
        let request = v1::DescribeKeyRequest { key_id: key_id.clone(), ..Default::default() };
        match app.describe_key(request).await {
            Ok(_) => {}
            Err(twinkeep_client::Error::NotFound(_) | twinkeep_client::Error::Denied(_)) => {
                ensure!(
                    *acknowledged_ms > complete_until_ms,
                    "{key_id} was acknowledged at {acknowledged_ms}, is lost, and the order says that all is kept up \
                     to {complete_until_ms}"
                );
                lost += 1;
            }
            Err(error) => bail!("{key_id}: {error}"),
        }
    }
    Ok(lost)
}

/// Starts the lost nodes and returns whether any of them acknowledges a change.
async fn tempt(cluster: &Cluster, lost: &[&Node]) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for node in lost.iter().filter(|node| !node.witness) {
        clients.push(cluster.client_at("app", node)?.with_deadline(Duration::from_millis(500)));
    }
    let began = Instant::now();
    while began.elapsed() < TEMPTED {
        for client in &clients {
            if client.create_key(cluster.new_key()?).await.is_ok() {
                bail!("the lost side acknowledged a change beside the recovered cluster");
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Starts processes of nodes without waiting for what becomes of them.
fn start(cluster: &Cluster, nodes: &[&Node]) -> anyhow::Result<Vec<std::process::Child>> {
    let start = |node: &&Node| {
        let messages = std::fs::File::options()
            .append(true)
            .create(true)
            .open(cluster.path(&node.name).join("messages.log"))?;
        let mut command = Command::new(program("twinkeepd")?);
        command.args(["run", "--config", &config(cluster, node)]);
        Ok(command.stdout(messages.try_clone()?).stderr(messages).spawn()?)
    };
    nodes.iter().map(start).collect()
}

/// Waits until all processes have ended; ends those that have not.
async fn ended(children: &mut [std::process::Child]) -> anyhow::Result<bool> {
    let began = Instant::now();
    loop {
        let mut all = true;
        for child in &mut *children {
            all &= child.try_wait()?.is_some();
        }
        if all {
            return Ok(true);
        }
        if began.elapsed() > FENCED_MAX {
            for child in children {
                child.kill()?;
                child.wait()?;
            }
            return Ok(false);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

struct Drilled {
    took: Duration,
    acknowledged: usize,
    lost: usize,
}

async fn drill(kind: Kind) -> anyhow::Result<Drilled> {
    let cluster = Cluster::start().await?;
    let drilled = drill_on(&cluster, kind).await;
    if drilled.is_err() {
        for node in cluster.nodes() {
            let messages = cluster.messages(node);
            let last: Vec<_> = messages.lines().rev().take(15).collect();
            eprintln!("--- {} said last (newest first):\n{}", node.name, last.join("\n"));
        }
    }
    drilled
}

async fn drill_on(cluster: &Cluster, kind: Kind) -> anyhow::Result<Drilled> {
    let (creating, told) = create_keys(cluster)?;
    sleep(Duration::from_millis(500)).await;
    let lost: Vec<&Node> = cluster.nodes().iter().filter(|node| node.zone != kind.zone).collect();
    if kind.is_cut_off {
        cluster.signal(kind.zone, Signal::STOP)?;
        sleep(CUT_OFF).await;
    }
    cluster.kill(lost.iter().copied())?;
    if kind.is_cut_off {
        cluster.signal(kind.zone, Signal::CONT)?;
    }
    sleep(Duration::from_millis(200)).await;
    creating.abort();
    let keys: Vec<Acknowledged> = told.try_iter().collect();
    ensure!(!keys.is_empty(), "no key was acknowledged before the loss");
    let (approved, took) = recover(cluster, kind).await?;
    let gone = lost_keys(cluster, kind.zone, &keys, approved.complete_until_ms).await?;
    ensure!(gone == 0 || kind.is_cut_off, "{gone} keys are lost, and nobody was cut off");

    if kind.is_silent_later {
        cluster.signal(kind.zone, Signal::STOP)?;
    }
    let mut children = start(cluster, &lost)?;
    let tempted = tempt(cluster, &lost).await;
    if kind.is_silent_later {
        cluster.signal(kind.zone, Signal::CONT)?;
    }
    let all_ended = ended(&mut children).await?;
    tempted?;
    for node in &lost {
        let said = cluster.messages(node);
        ensure!(all_ended, "{} goes on after the recovery: {said}", node.name);
        ensure!(said.contains("this node was given up"), "{} said: {said}", node.name);
    }
    let again = refused_start(&PathBuf::from(config(cluster, lost[0])), Duration::from_secs(10))?;
    ensure!(again.contains("this node was given up"), "{again}");
    if gone > 0 {
        // What only the lost side has is in the log of one of its nodes.
        let listed = twinkeepd(&[
            "recover-export",
            "--config",
            &config(cluster, lost[0]),
            &approved.order.display().to_string(),
        ])?;
        let listed = listed.lines().filter(|line| line.contains("create a key")).count();
        ensure!(listed >= gone, "{gone} keys are lost and {listed} are listed");
    }
    cluster.twinkeep(&["cluster", "promote", "102"])?;
    let app = cluster.client_in("app", kind.zone)?;
    app.create_key(cluster.new_key()?).await.context("no change with both voters")?;
    Ok(Drilled { took, acknowledged: keys.len(), lost: gone })
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_zone_and_witness_are_given_up_and_do_not_go_on_beside_the_recovered_cluster()
-> anyhow::Result<()> {
    let rounds = rounds(ROUNDS);
    let (mut slowest, mut acknowledged, mut lost) = (Duration::ZERO, 0, 0);
    for round in 0..rounds {
        let kind = Kind::of(round);
        let drilled = drill(kind).await.with_context(|| format!("round {round}: {kind:?}"))?;
        println!(
            "round {} of {rounds}: {kind:?}: changes again {:.1} s after the plan, {} keys acknowledged, {} lost in the \
             window that the order states",
            round + 1,
            drilled.took.as_secs_f64(),
            drilled.acknowledged,
            drilled.lost
        );
        slowest = slowest.max(drilled.took);
        acknowledged += drilled.acknowledged;
        lost += drilled.lost;
    }
    println!(
        "{rounds} recoveries, the slowest {:.1} s; {acknowledged} keys acknowledged, {lost} lost in stated windows, 0 \
         others; no change acknowledged twice",
        slowest.as_secs_f64()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_is_refused_while_a_quorum_or_the_witness_lives() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let plan = |zone: &str| -> anyhow::Result<String> {
        let tried = cluster.try_twinkeep(&["recover", "plan", "--zone", zone])?;
        ensure!(!tried.status.success(), "a plan was made");
        Ok(String::from_utf8(tried.stderr)?)
    };
    let said = plan("b")?;
    ensure!(said.contains("answers: it would have to be powered off"), "{said}");
    cluster.kill(cluster.zone("a"))?;
    sleep(Duration::from_secs(4)).await;
    let said = plan("b")?;
    ensure!(said.contains("was heard"), "the witness lives: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_company_waits_until_an_operator_lets_it_take_part() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    cluster.kill(cluster.nodes())?;
    let left: Vec<&Node> = cluster.nodes().iter().filter(|node| node.zone != "a").collect();
    let mut children = start(&cluster, &left)?;
    let app = cluster.client_in("app", "b")?.with_deadline(Duration::from_millis(500));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        ensure!(app.create_key(cluster.new_key()?).await.is_err(), "nobody vouches for anybody");
        sleep(Duration::from_millis(50)).await;
    }
    for node in &left {
        let said = cluster.messages(node);
        ensure!(said.contains("twinkeep recover override"), "{} said: {said}", node.name);
        let socket = cluster.data(node).join("admin.sock").display().to_string();
        cluster.twinkeep(&["recover", "override", "--socket", &socket, "--yes"])?;
    }
    let began = Instant::now();
    while app.create_key(cluster.new_key()?).await.is_err() {
        ensure!(began.elapsed() < Duration::from_secs(15), "no change after the override");
        sleep(Duration::from_millis(50)).await;
    }
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
