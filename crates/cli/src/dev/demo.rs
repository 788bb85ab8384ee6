//! `twinkeep dev demo`: loses a zone under load and measures what callers notice.
//!
//! Two open loops send one Encrypt each 4 ms, whatever became of the ones before, so that a stall shows
//! as late calls and not as fewer calls. The loop of zone b knows zone b's nodes alone: its failures are
//! failures of the living zone. The loop of zone a knows all nodes, as an application would.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use twinkeep_client::{Client, v1};
use twinkeep_report::{Report, Target};

use super::layout::{DevNode, Layout, Settings};
use super::{process, up};
use crate::output::{Format, show};

/// Pause between two calls of a loop: 250 calls a second in each zone.
const PACE: Duration = Duration::from_millis(4);
/// How long is measured on each side of the kill.
const SIDE: Duration = Duration::from_secs(10);
/// Pause between two tries of a control write.
const WRITE_PACE: Duration = Duration::from_millis(10);
/// Restarts of leaders, until one in the wanted zone leads.
const LEAD_TRIES: usize = 5;
/// Pause between two keys that are created while the zone is dead.
const KEY_PACE: Duration = Duration::from_millis(50);
/// The file that goes through the cluster.
const FILE_BYTES: usize = 48 * 1024;

/// What became of one call.
struct Call {
    sent: Instant,
    took: Duration,
    failed: Option<String>,
}

/// Runs the demonstration on the cluster of a folder, starting it if need be.
pub(crate) async fn demo(home: &Path, format: Format) -> anyhow::Result<()> {
    let layout = up::up(home, Settings::default()).await?;
    let key_id = std::fs::read_to_string(layout.path("first-key"))
        .context("the cluster has no first key")?;
    let instance_id = std::fs::read_to_string(layout.path("first-instance"))?;
    let data_nodes = || layout.nodes().iter().filter(|node| !node.witness);
    let a = up::client_of(&layout, up::CALLER, data_nodes(), "a")?;
    let b = up::client_of(&layout, up::CALLER, layout.zone("b")?, "b")?;

    lead_from(&layout, "a").await?;
    eprintln!("encrypting a file of {} KiB through zone a", FILE_BYTES / 1024);
    let file = sample_file()?;
    let ciphertext =
        encrypt(&a, &key_id, file.clone()).await.context("the file was not encrypted")?;

    eprintln!(
        "{} calls a second in each zone for {} s, then zone a is killed",
        1000 / PACE.as_millis(),
        SIDE.as_secs()
    );
    let stop = Arc::new(AtomicBool::new(false));
    let load_a = tokio::spawn(load(a, key_id.clone(), Arc::clone(&stop)));
    let load_b = tokio::spawn(load(b.clone(), key_id.clone(), Arc::clone(&stop)));
    sleep(SIDE).await;
    let killed = Instant::now();
    for node in layout.zone("a")? {
        process::signal_only(&layout, node, Signal::KILL)?;
    }
    let first_write = first_control_write(&b, &instance_id, killed).await?;
    eprintln!(
        "zone a is dead; the first key was created through zone b after {} ms",
        first_write.as_millis()
    );
    let writes = control_writes(&b, &instance_id, killed + SIDE).await;
    stop.store(true, Ordering::Relaxed);
    let (calls_a, calls_b) = (load_a.await?, load_b.await?);

    let plaintext = decrypt(&b, ciphertext).await.context("the file was not decrypted")?;
    ensure!(plaintext == file, "the decrypted file differs from the original");
    eprintln!("the file, decrypted through zone b, is identical");

    eprintln!("zone a comes back");
    for node in layout.zone("a")? {
        process::stop(&layout, node, Signal::KILL)?;
        process::start(&layout, node)?;
    }
    up::wait_until_all_serve(&layout).await?;
    let report = figures(&calls_a, &calls_b, first_write, &writes);
    eprintln!(
        "\nmeasured from {} s before to {} s after the kill:",
        SIDE.as_secs(),
        SIDE.as_secs()
    );
    show(format, &report)?;
    let all = [("zone a", &calls_a), ("zone b", &calls_b), ("creating keys", &writes)];
    for (what, calls) in all {
        if let Some(error) = calls.iter().find_map(|call| call.failed.as_ref()) {
            eprintln!("  first failure, {what}: {error}");
        }
    }
    let written = report.write(Path::new("reports"), "demo").context("cannot write the report")?;
    eprintln!("written to {}", written.display());
    ensure!(report.holds(), "a target was missed; see above");
    Ok(())
}

/// Moves the lead into a zone, so that its loss costs the cluster the leader too.
///
/// A node that stops hands over to another zone.
async fn lead_from(layout: &Layout, zone: &str) -> anyhow::Result<()> {
    for _ in 0..LEAD_TRIES {
        let leader = leader(layout).await?;
        if leader.zone == zone {
            eprintln!("node {} in zone {zone} leads", leader.name);
            return Ok(());
        }
        eprintln!("node {} leads; it restarts, so that the lead moves", leader.name);
        process::stop(layout, leader, Signal::TERM)?;
        process::start(layout, leader)?;
        up::wait_until_all_serve(layout).await?;
    }
    bail!("the lead did not move into zone {zone}");
}

/// Returns the node that leads.
async fn leader(layout: &Layout) -> anyhow::Result<&DevNode> {
    let admin = up::client(layout, up::ADMIN)?;
    let id = admin.get_status(v1::GetStatusRequest::default()).await?.leader_node_id;
    let members = admin.list_members(v1::ListMembersRequest::default()).await?.members;
    let member = members.into_iter().find(|member| member.node_id == id);
    let address = member.and_then(|member| member.placement).map(|place| place.peer_address);
    let leader = layout.nodes().iter().find(|node| Some(node.peer_address.to_string()) == address);
    leader.context("no node of this cluster leads")
}

/// A file that is not all alike: this program's own first bytes.
fn sample_file() -> anyhow::Result<Vec<u8>> {
    let own = std::fs::read(std::env::current_exe()?)?;
    Ok(own.into_iter().take(FILE_BYTES).collect())
}

async fn encrypt(
    client: &Client,
    key_id: &str,
    plaintext: Vec<u8>,
) -> anyhow::Result<bytes::Bytes> {
    let request = v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: plaintext.into(),
        ..v1::EncryptRequest::default()
    };
    Ok(client.encrypt(request).await?.ciphertext)
}

async fn decrypt(client: &Client, ciphertext: bytes::Bytes) -> anyhow::Result<Vec<u8>> {
    let request = v1::DecryptRequest { ciphertext, ..v1::DecryptRequest::default() };
    Ok(client.decrypt(request).await?.plaintext.to_vec())
}

/// Sends calls at a steady pace until told to stop; then waits for all answers.
async fn load(client: Client, key_id: String, stop: Arc<AtomicBool>) -> Vec<Call> {
    let (done, mut answers) = mpsc::unbounded_channel();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let (client, key_id, done) = (client.clone(), key_id.clone(), done.clone());
        tokio::spawn(async move {
            let sent = Instant::now();
            let failed = encrypt(&client, &key_id, vec![0x5a; 1024]).await.err();
            let failed = failed.map(|error| format!("{error:#}"));
            let _ = done.send(Call { sent, took: sent.elapsed(), failed });
        });
    }
    drop(done);
    let mut calls = Vec::new();
    while let Some(call) = answers.recv().await {
        calls.push(call);
    }
    calls.sort_unstable_by_key(|call| call.sent);
    calls
}

/// Tries to create keys until one is created; returns the time since the kill.
async fn first_control_write(
    client: &Client,
    instance_id: &str,
    killed: Instant,
) -> anyhow::Result<Duration> {
    loop {
        match create_key(client, instance_id).await {
            Ok(()) => return Ok(killed.elapsed()),
            Err(error) if killed.elapsed() > Duration::from_secs(30) => {
                return Err(error).context("no control write for 30 s after the kill");
            }
            Err(_) => sleep(WRITE_PACE).await,
        }
    }
}

/// Creates keys through the living zone, one after the other, until the end.
async fn control_writes(client: &Client, instance_id: &str, until: Instant) -> Vec<Call> {
    let mut calls = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        let failed = create_key(client, instance_id).await.err();
        let failed = failed.map(|error| format!("{error:#}"));
        calls.push(Call { sent, took: sent.elapsed(), failed });
        sleep(KEY_PACE).await;
    }
    calls
}

async fn create_key(client: &Client, instance_id: &str) -> Result<(), twinkeep_client::Error> {
    let request = v1::CreateKeyRequest {
        instance_id: instance_id.to_owned(),
        spec: v1::KeySpec::Aes256.into(),
        usage: v1::KeyUsage::EncryptDecrypt.into(),
        ..v1::CreateKeyRequest::default()
    };
    client.create_key(request).await.map(|_| ())
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn figures(a: &[Call], b: &[Call], first_write: Duration, writes: &[Call]) -> Report {
    let mut report = Report::new();
    let failed = |calls: &[Call]| calls.iter().filter(|call| call.failed.is_some()).count() as f64;
    let rate = |calls: &[Call]| calls.len() as f64 / (2.0 * SIDE.as_secs_f64());
    let count = |calls: &[Call]| calls.len() as f64;
    report.add("calls, zone a's application", count(a), "calls", Target::AtLeast(4000.0));
    report.add("calls, zone b", count(b), "calls", Target::AtLeast(4000.0));
    report.add("calls a second, zone a's application", rate(a), "/s", Target::AtLeast(200.0));
    report.add("calls a second, zone b", rate(b), "/s", Target::AtLeast(200.0));
    report.add("failed on nodes of the living zone", failed(b), "calls", Target::AtMost(0.0));
    report.add("failed in zone a's application", failed(a), "calls", Target::AtMost(0.0));
    report.add("zone b p99.9", p999_ms(b), "ms", Target::AtMost(60.0));
    report.add("zone a's application p99.9", p999_ms(a), "ms", Target::AtMost(60.0));
    let first_write_ms = first_write.as_secs_f64() * 1000.0;
    report.add("first control write after the kill", first_write_ms, "ms", Target::AtMost(1000.0));
    report.add("keys created through zone b after it", count(writes), "keys", Target::AtLeast(1.0));
    report.add("of these failed", failed(writes), "keys", Target::AtMost(0.0));
    report
}

/// Returns the 99.9th percentile of the time that calls took.
fn p999_ms(calls: &[Call]) -> f64 {
    let mut took: Vec<_> = calls.iter().map(|call| call.took).collect();
    took.sort_unstable();
    let index = (took.len() * 999).div_ceil(1000).saturating_sub(1);
    took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}
